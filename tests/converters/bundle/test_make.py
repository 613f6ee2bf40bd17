"""converters.bundle.make: what passes is in the bundle, what does not is named, now and from the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import hearpack
from hearpack.cli import app
from models.common.errors import ConversionError
from models.weights.assets import pull_asset
from runtimes.bundle import Bundle

GEOMETRY = """
[geometry]
sample_rate_hz = 16000
window_samples = 1600
hop_samples = 800
[labels]
names = ["quiet", "loud"]
"""
# Half precision ends at 65,504: a level in steps of 16 bits is past it when it is squared.
NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(1600, 64)
        self.out = nn.Linear(64, 2)
    def forward(self, audio):
        steps = 32768.0 * self.linear(audio)
        return torch.sigmoid(self.out(torch.sqrt(steps * steps + 1.0) / 32768.0))
def build(): return Net()
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Such a net, and a cache of its own."""
    audio = pull_asset("street-wav").parent
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / audio.name).symlink_to(audio)
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "net.py").write_text(NET)
    (tmp_path / "loud" / "geometry.toml").write_text(GEOMETRY)
    return str(tmp_path / "loud" / "net.py")


def refuses(*_: Any, **__: Any) -> None:
    raise ConversionError("Core ML has no operation for torch's 'frobnicate' in net.out")


@pytest.fixture
def nothing_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No parts in float32 are proposed."""
    monkeypatch.setattr("converters.half_parts.parts_for", lambda *_: iter(()))


@pytest.mark.usefixtures("nothing_helps")
def test_an_artefact_past_its_tolerance_costs_itself_alone(net: str, tmp_path: Path) -> None:
    arguments = ["export", net, "-o", str(tmp_path / "out"), "--json"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 1, first.output
    (result,) = json.loads(first.stdout)
    path = Path(result["path"])
    assert [a["id"] for a in result["artefacts"]] == ["litert-fp32", "litert-fp16", "coreml-fp32"]
    (refused,) = result["refused"]
    assert refused["artefact"] == "coreml-fp16"
    assert "coreml-fp16 on mil-fp16 does not compute what the original computes" in refused["reason"]
    assert "it gives NaN" in refused["reason"]
    bundle = Bundle.open(path)
    bundle.check_files()
    bundle.check_others()
    assert not list(path.rglob("*fp16.mlpackage"))
    assert refused["reason"] in (path / "MODEL_CARD.md").read_text()
    second = CliRunner().invoke(app, arguments[:-1])
    assert second.exit_code == 1
    assert "unchanged, from the cache" in second.stdout
    assert "left out coreml-fp16: coreml-fp16 on mil-fp16" in second.stderr
    assert hearpack.verify(path, seconds=3).passed


def test_a_format_that_cannot_be_made_costs_itself_alone(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converters.coreml.convert.convert", refuses)
    result = hearpack.export(net, tmp_path / "out", precisions=("fp32",))
    assert {a.id for a in Bundle.open(result.path).manifest.artefacts} == {"litert-fp32"}
    assert [(r.artefact, r.reason) for r in result.refused] == [("coreml-fp32", str(_error()))]
    assert not (result.path / "coreml").exists()


def test_one_that_can_be_mended_is_there_and_what_it_took_is_said(net: str, tmp_path: Path) -> None:
    result = hearpack.export(net, tmp_path / "out", formats=("coreml",), precisions=("fp16",))
    assert not result.refused
    (sentence,) = result.kept
    assert "coreml-fp16: in half alone" in sentence
    assert "3 of 8 operations" in sentence
    assert sentence in (result.path / "MODEL_CARD.md").read_text()
    assert hearpack.export(net, tmp_path / "out", formats=("coreml",), precisions=("fp16",)).kept == result.kept


def test_a_bundle_without_artefacts_is_not_written(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converters.coreml.convert.convert", refuses)
    with pytest.raises(ConversionError, match="frobnicate"):
        hearpack.export(net, tmp_path / "out", formats=("coreml",))
    monkeypatch.undo()
    monkeypatch.setattr("converters.half_parts.parts_for", lambda *_: iter(()))
    with pytest.raises(ConversionError, match=r"coreml-fp16 on mil-fp16 .*no bundle was written"):
        hearpack.export(net, tmp_path / "out", formats=("coreml",), precisions=("fp16",))
    assert not list((tmp_path / "out").iterdir())


def _error() -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        refuses()
    return caught.value
