"""The package that brings the weights, and how they become safetensors."""

from __future__ import annotations

from collections.abc import Mapping

from models.weights.fetch import Item, Source
from models.weights.store import to_safetensors


def _make(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.nets.silero_vad.weights import read_onnx

    (graph,) = members.values()
    weights = to_safetensors(read_onnx(graph))
    return {"silero-vad.safetensors": weights, "silero_vad_16k.onnx": graph, "labels.txt": b"Speech\n"}


ITEM = Item(
    name="silero-vad",
    source=Source(
        package="silero-vad",
        version="6.2.3",
        wheel="silero_vad-6.2.3-py3-none-any.whl",
        sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        megabytes=11.3,
        licence="MIT",
        citation="Silero Team, Silero VAD: pre-trained enterprise-grade Voice Activity Detector, "
        "github.com/snakers4/silero-vad, MIT",
        licence_files=("silero_vad-6.2.3.dist-info/licenses/LICENSE",),
    ),
    members=("silero_vad/data/silero_vad_16k_op15.onnx",),
    make=_make,
    sha256="98ba034f709b558bf4e6cf4c7f3c4db9f5a0a05cde59561e9057edbf15517e0c",
)
