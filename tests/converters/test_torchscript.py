"""converters.torchscript: an archive without any Python is exported for windows, and what cannot be is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hearpack
from converters.custom import open_custom
from models.common.errors import ConversionError, UsageError
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


def test_it_computes_what_the_script_computes(archive: Path) -> None:
    entry = open_custom(str(archive), WINDOW)
    audio = torch.randn(1, 1, 1600)
    load: Any = torch.jit.load
    assert not isinstance(entry.net, torch.jit.ScriptModule)
    assert torch.equal(entry.net(audio), load(str(archive))(audio))


def test_a_factory_may_give_a_script(archive: Path) -> None:
    file = archive.with_name("net.py")
    file.write_text(
        "import torch\nfrom pathlib import Path\n"
        "def build(): return torch.jit.load(str(Path(__file__).with_name('birds.pt')))\n"
    )
    assert not isinstance(open_custom(str(file), WINDOW).net, torch.jit.ScriptModule)


def test_streams_and_checkpoints_are_told_what_to_do(archive: Path) -> None:
    stream = {"task": "enhancer", "geometry": WINDOW["geometry"], "net": {"form": "causal"}}
    with pytest.raises(ConversionError, match=r"only net.form = 'window' can be made of it, got causal"):
        open_custom(str(archive), stream)
    torch.save(Net().state_dict(), archive)
    with pytest.raises(UsageError, match=r"birds.pt: holds no TorchScript; .*give the code.*--weights"):
        open_custom(str(archive), WINDOW)
