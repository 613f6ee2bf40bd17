"""`hearpack look`: what an export would meet is said before anything is converted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hearpack.cli import app

pytest.importorskip("torch", reason="nets need the extra export")

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.gru = nn.Conv1d(1, 8, 64, 32), nn.GRU(8, 8, batch_first=True)
        self.decode = nn.ConvTranspose1d(8, 1, 32, 32)

    def forward(self, wav):
        x = self.encode(nn.functional.pad(wav, (32, 0)).unsqueeze(1))
        y, _ = self.gru(torch.hypot(x, x.roll(1, 1)).transpose(1, 2))
        LINE
        return self.decode(x * y.transpose(1, 2))[:, 0]


def build():
    torch.manual_seed(0)
    return Net()
"""
GEOMETRY = """
name = "small"
task = "enhancer"
[geometry]
sample_rate_hz = 16000
window_samples = 64
hop_samples = 32
[net]
form = "causal"
"""


def looked(folder: Path, line: str) -> tuple[int, dict[str, object], str]:
    (folder / "net.py").write_text(NET.replace("LINE", line))
    (folder / "geometry.toml").write_text(GEOMETRY)
    name = f"{folder / 'net.py'}:build"
    as_json = CliRunner().invoke(app, ["look", name, "--json"])
    return as_json.exit_code, json.loads(as_json.stdout), CliRunner().invoke(app, ["look", name]).stdout


def test_what_passes_is_told_with_its_states_and_what_is_written_otherwise(tmp_path: Path) -> None:
    code, found, text = looked(tmp_path, "assert x.dim() == 3")
    assert code == 0
    assert found["states"] == [["pad_past", [1, 32]], ["gru_h", [1, 1, 8]]]
    operations = {item["operation"]: item["places"] for item in found["rewritten"]}  # type: ignore[attr-defined]
    assert operations == {"hypot": ["net.py, line 14"], "roll": ["net.py, line 14"]}
    assert "state: gru_h [1, 1, 8]" in text
    assert text.splitlines()[-1].startswith("passes, in ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["geometry.toml", "net.py"]


def test_what_is_in_the_way_is_told_with_its_line(tmp_path: Path) -> None:
    code, found, text = looked(tmp_path, "x = x * x.flip(2)")
    assert code == 1
    assert not found["passes"]
    assert "flip (net.py, line 15): its value at a frame depends on later audio" in str(found["blocked"])
    assert text.splitlines()[-1].startswith("in the way: flip")
