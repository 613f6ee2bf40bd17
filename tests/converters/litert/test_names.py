"""converters.litert.names: classes keep the names in .tflite files that they had when first exported."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="nets need the extra export")

from converters.litert.names import recorded_name, recorded_names  # noqa: E402
from models.layers.recurrent import GruCell, Lstm, LstmCell  # noqa: E402
from models.nets.dtln.step import Framing  # noqa: E402
from models.nets.yamnet.net import LogMel  # noqa: E402


@pytest.mark.parametrize(
    ("kind", "recorded"),
    [
        (LogMel, "models.yamnet.LogMel"),
        (Framing, "models.dtln_graph.Framing"),
        (LstmCell, "models.dtln_graph.LstmCell"),
        (GruCell, "models.gru_graph.GruCell"),
        (torch.nn.Linear, "torch.nn.modules.linear.Linear"),
    ],
)
def test_recorded_names(kind: type, recorded: str) -> None:
    assert ".".join(recorded_name(kind)) == recorded


def test_classes_have_their_own_names_again_afterwards() -> None:
    lstm = Lstm(1, torch.zeros(8, 3).numpy(), torch.zeros(8, 2).numpy(), torch.zeros(8).numpy())
    inside = ""
    with suppress(RuntimeError), recorded_names(lstm):
        inside = LstmCell.__module__
        raise RuntimeError
    assert inside == "models.dtln_graph"
    assert LstmCell.__module__ == "models.layers.recurrent"


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("yamnet", {"models.yamnet"}),
        ("dtln", {"models.dtln_graph"}),
        ("gtcrn", {"models.gtcrn_graph", "models.gtcrn_layers", "models.gru_graph", "models.dft_graph"}),
    ],
)
def test_exported_files_hold_recorded_names_only(exported: dict[str, Path], name: str, modules: set[str]) -> None:
    data = (exported[name] / "litert" / f"{name}.fp32.tflite").read_bytes()
    found = {match.decode() for match in re.findall(rb"(models\.[a-z0-9_.]+)\.[A-Z]\w*_", data)}
    assert found == modules
