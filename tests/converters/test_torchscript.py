"""A TorchScript archive in place of code: exported, found again by verify, and a checkpoint told from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hearpack
from converters.custom import open_custom
from models.common.errors import UsageError
from runtimes.bundle import Bundle

WINDOW = {
    "geometry": {"sample_rate_hz": 16000, "window_samples": 1600, "hop_samples": 800},
    "net": {"layout": "channel_samples", "activation": "softmax"},
    "labels": {"names": ["a", "b", "c"]},
}


class Net(nn.Module):
    """Control flow that only a script keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(1, 8, 400, 160), nn.Linear(8, 3)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        y = self.conv(audio).relu().mean(2)
        if y.dim() == 2:
            y = 2.0 * y
        return self.out(y)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    script: Any = torch.jit.script
    script(Net().eval()).save(str(tmp_path / "birds.pt"))
    return tmp_path / "birds.pt"


def test_an_archive_is_exported_to_both_formats_and_found_again(archive: Path, tmp_path: Path) -> None:
    toml = archive.with_name("geometry.toml")
    toml.write_text(
        "[geometry]\nsample_rate_hz = 16000\nwindow_samples = 1600\nhop_samples = 800\n"
        "[net]\nlayout = 'channel_samples'\nactivation = 'softmax'\n[labels]\nnames = ['a', 'b', 'c']\n"
    )
    result = hearpack.export(str(archive), tmp_path / "out", precisions=("fp32",))
    assert not result.refused
    manifest = Bundle.open(result.path).manifest
    assert manifest.name == "birds"
    assert manifest.original.factory == "birds.pt"
    assert [s.path for s in manifest.original.sources or ()] == ["birds.pt"]
    report = hearpack.verify(result.path, seconds=2)
    assert report.reference == "torch original", report.material
    assert report.passed


def test_a_checkpoint_is_told_what_to_do(archive: Path) -> None:
    torch.save(Net().state_dict(), archive)
    with pytest.raises(UsageError, match=r"birds.pt: holds no TorchScript; .*give the code.*--weights"):
        open_custom(str(archive), WINDOW)
