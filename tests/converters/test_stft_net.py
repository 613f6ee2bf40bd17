"""A mask net between hearpack.STFT and hearpack.ISTFT, exported as a stream to both formats."""

from __future__ import annotations

from pathlib import Path

import pytest

import hearpack

pytest.importorskip("torch", reason="nets need the extra export")

NET = """
import hearpack
import torch
from torch import nn

class Mask(nn.Module):
    def __init__(self):
        super().__init__()
        self.stft, self.istft = hearpack.STFT(64, 32, "sqrt_hann"), hearpack.ISTFT(64, 32, "sqrt_hann")
        self.gru, self.mask = nn.GRU(33, 16, batch_first=True), nn.Linear(16, 33)

    def forward(self, audio):
        real, imaginary = self.stft(audio)
        hidden, _ = self.gru(torch.log(real * real + imaginary * imaginary + 1e-4))
        mask = torch.sigmoid(self.mask(hidden))
        return self.istft(mask * real, mask * imaginary)

def build():
    torch.manual_seed(0)
    return Mask()
"""
GEOMETRY = {
    "name": "mask",
    "task": "enhancer",
    "geometry": {"sample_rate_hz": 16000, "window_samples": 64, "hop_samples": 32, "delay_samples": 32},
    "net": {"form": "causal"},
}


def test_both_formats_say_what_the_net_says(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(f"{NET}\n\nGEOMETRY = {GEOMETRY!r}\n")
    path = hearpack.export(str(tmp_path / "net.py"), tmp_path, precisions=("fp32",)).path
    report = hearpack.verify(path, seconds=2.0)
    assert report.passed
    figures = {a.artefact: c.value for a in report.artefacts for c in a.checks if c.metric == "snr_db"}
    assert set(figures) == {"litert-fp32", "coreml-fp32"}
    assert min(figures.values()) >= 110.0
