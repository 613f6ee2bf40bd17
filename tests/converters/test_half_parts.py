"""converters.half_parts: an fp16 artefact past its limit is mended by what is found to need float32, and says so."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import hearpack
from converters import half_parts
from converters.custom import open_custom
from converters.half_parts import Parts, parts_for
from models.custom.entry import CustomEntry
from models.weights.assets import pull_asset
from runtimes.bundle import Bundle, Format

WINDOW = """
task = "classifier"
[geometry]
sample_rate_hz = 16000
window_samples = 1600
hop_samples = 800
[net]
form = "window"
[labels]
names = ["quiet", "loud"]
"""
CAUSAL = """
task = "enhancer"
[geometry]
sample_rate_hz = 16000
window_samples = 320
hop_samples = 160
delay_samples = 0
[net]
form = "causal"
"""
HEAD = """
import torch
from torch import nn
def build():
    torch.manual_seed(0)
    return Net().eval()
"""
# Steps of 16 bits, squared: past 65,504. The weights in half are harmless.
STEPS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv1d(1, 16, 80, 40), nn.Linear(16, 2)
    def forward(self, audio):
        steps = audio * 32768
        level = torch.log(steps.square().mean(1, keepdim=True) + 1.0)
        return torch.sigmoid(self.out(torch.relu(self.conv(audio[:, None])).mean(2) * level))
"""
# torchcrepe's frames: its squares fall below the smallest half where it is quiet.
NORMED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv1d(1, 16, 80, 40), nn.Linear(16, 2)
    def forward(self, audio):
        audio = audio - audio.mean(1, keepdim=True)
        audio = audio / torch.clamp(audio.std(1, keepdim=True), min=1e-10)
        return torch.sigmoid(40.0 * self.out(torch.relu(self.conv(audio[:, None])).mean(2)))
"""
# Conv-TasNet's cumulative norm as its authors write it; its sums are past what half holds after a second.
CUMULATIVE = """
class Norm(nn.Module):
    def forward(self, x):
        count = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype) * x.shape[1]
        mean = torch.cumsum(x.sum(1, keepdim=True), -1) / count
        power = torch.cumsum(x.square().sum(1, keepdim=True), -1) / count
        return (x - mean) / (power - mean.square() + 1e-8).sqrt()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.norm = nn.Conv1d(1, 16, 160, 160, bias=False), Norm()
        self.mask, self.dec = nn.Conv1d(16, 16, 1), nn.ConvTranspose1d(16, 1, 160, 160, bias=False)
    def forward(self, audio):
        x = torch.relu(self.enc(audio[:, None]))
        y = torch.sigmoid(self.mask(self.norm(1000.0 * x)))
        return self.dec(x * y)[:, 0]
"""
# Weights past what half holds.
LARGE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.wide, self.out = nn.Conv1d(1, 16, 80, 40), nn.Linear(16, 32), nn.Linear(32, 2)
        with torch.no_grad():
            self.wide.weight.mul_(1e6)
    def forward(self, audio):
        level = torch.relu(self.wide(torch.relu(self.conv(audio[:, None])).mean(2)))
        return torch.sigmoid(self.out(torch.log1p(level) / 12.0))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a net, and a cache of its own."""
    (tmp_path / "cache").mkdir()
    for audio in (pull_asset("street-wav").parent, pull_asset("speech")):
        (tmp_path / "cache" / audio.name).symlink_to(audio)
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path / "cache"))
    return tmp_path


def written(place: Path, net: str, geometry: str) -> str:
    (place / "net.py").write_text(HEAD + net)
    (place / "geometry.toml").write_text(geometry)
    return str(place / "net.py")


def opened(place: Path, net: str, geometry: str) -> CustomEntry:
    return open_custom(written(place, net, geometry))


def proposals(entry: CustomEntry, kind: Format = "coreml") -> list[Parts]:
    return list(parts_for(entry, 1, kind))


def line_of(text: str) -> int:
    """In the net's file."""
    return next(n for n, line in enumerate((HEAD + text).splitlines(), 1) if "steps.square()" in line)


def test_what_leaves_halfs_range_is_found_and_kept(place: Path) -> None:
    result = hearpack.export(written(place, STEPS, WINDOW), place / "out", formats=("coreml",))
    (sentence,) = result.kept
    assert sentence.startswith("coreml-fp16: in half alone ")
    assert "it gives NaN" in sentence
    where = f"net.py, line {line_of(STEPS)}: values that half cannot hold"
    assert where in sentence
    assert "square, mean" in sentence
    assert "conv" not in sentence
    bundle = Bundle.open(result.path)
    bundle.check_files()
    assert {a.id: a.precision.weights for a in bundle.manifest.artefacts} == {
        "coreml-fp32": "fp32",
        "coreml-fp16": "mixed-fp16",
    }
    assert sentence in (result.path / "MODEL_CARD.md").read_text()
    again = hearpack.export(str(place / "net.py"), place / "out", formats=("coreml",))
    assert again.cached
    assert again.kept == result.kept
    assert hearpack.verify(result.path, seconds=3).passed


def test_a_cumulative_norm_passes_with_its_divisions_in_float32(place: Path) -> None:
    result = hearpack.export(written(place, CUMULATIVE, CAUSAL), place / "out", formats=("coreml",))
    (sentence,) = result.kept
    assert "it gives NaN" in sentence
    assert "div (net.py, line 11: values that half cannot hold)" in sentence
    assert '"norm"' in sentence


def test_a_normed_window_needs_its_deviation_alone(place: Path) -> None:
    first = proposals(opened(place, NORMED, WINDOW))[0]
    assert "std" in first.what
    assert first.kept <= 3
    assert "conv" not in first.what


def test_each_proposal_keeps_more(place: Path) -> None:
    found = proposals(opened(place, NORMED, WINDOW))
    assert len(found) > 1
    assert all(one.kept < two.kept for one, two in pairwise(found))
    assert all(parts.operations >= parts.kept for parts in found)


def test_a_search_ends_when_its_work_is_done_and_says_how_far_it_is(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_parts, "_MOST_WORK", 0)
    monkeypatch.setattr(half_parts, "_LEAST_TRIALS", 4)
    heard: list[float] = []
    found = list(parts_for(opened(place, NORMED, WINDOW), 1, "coreml", heard.append))
    assert found
    assert "std" in found[0].what
    assert 0.25 in heard
    assert all(0.0 <= fraction <= 1.0 for fraction in heard)
    assert len(heard) < half_parts.ATTEMPTS * 12


def test_weights_beyond_half_stay_float32_in_litert(place: Path) -> None:
    result = hearpack.export(written(place, LARGE, WINDOW), place / "out", formats=("litert",))
    assert not result.refused
    assert hearpack.verify(result.path, seconds=2.0).passed


def test_a_part_kept_computes_the_same(place: Path) -> None:
    import torch

    from models.custom.forms import exported

    entry = opened(place, STEPS, WINDOW)
    audio = torch.from_numpy(np.linspace(-0.5, 0.5, 1600, dtype=np.float32))[None]
    whole = exported(entry, 1).graph(audio)[0]
    for parts in proposals(entry):
        assert torch.equal(parts.graph(audio)[0], whole)
        assert set(parts.fp32_modules) <= {name for name, _ in parts.graph.named_modules()}


def test_constants_become_what_coremltools_makes_of_them() -> None:
    import torch

    from models.graph.half import rounded_constant

    tiny = rounded_constant(torch.tensor([1e-10, -1e-10, 0.0, 0.1]))
    assert tiny.tolist() == [2.0**-24, -(2.0**-24), 0.0, float(np.float16(0.1))]


def test_stretches_go_one_after_another_where_they_cannot_go_at_once() -> None:
    import torch

    from models.graph.half import HalfGraph, Stretches
    from models.graph.lower import lowered

    class Reads(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2.0 * x / float(x.sum())

    class Net(torch.nn.Module):
        def forward(self, audio: torch.Tensor) -> torch.Tensor:
            return torch.relu(audio)

    module, fp32 = lowered(Net(), {"audio": torch.ones(1, 8)}, "net", lambda _: False)
    half = HalfGraph(module, fp32)
    (node,) = half.candidates
    node.target = Reads()
    material = Stretches(torch.rand(1, 3, 1, 8) + 0.1, ())
    assert half.outputs(material, None).sum(-1).flatten().tolist() == pytest.approx([2.0, 2.0, 2.0])
    assert half.losses(material)[node] > 0.0
