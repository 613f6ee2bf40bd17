"""models.custom.shapes.states: states as forward holds them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import hearpack
from converters.custom import open_custom
from models.common.errors import ConversionError, UsageError
from models.custom.forms import Stepwise
from models.custom.geometry_toml import parse
from models.custom.shapes.states import packed, unpacked

NESTED = ["past", {"gru": ["h", "c"], "gain": "g"}]
TABLES: dict[str, Any] = {
    "name": "held",
    "task": "enhancer",
    "geometry": {"sample_rate_hz": 16000, "window_samples": 64, "hop_samples": 64, "delay_samples": 0},
    "net": {"form": "step", "states": NESTED},
    "states": [
        {"name": "past", "shape": [1, 64]},
        {"name": "h", "shape": [1, 1, 8]},
        {"name": "c", "shape": [1, 1, 8], "dtype": "float64"},
        {"name": "g", "shape": [1, 1], "dtype": "float16"},
    ],
}
NET = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.lstm, self.out = nn.Linear(128, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 64)

    def forward(self, audio, past, states):
        assert states["gain"].dtype == torch.float16 and states["gru"][1].dtype == torch.float64
        frame = torch.cat([past, audio], 1)
        h, c = states["gru"]
        y, (h, c) = self.lstm(self.encoder(frame)[:, None], (h, c.float()))
        gain = (0.9 * states["gain"].float() + 0.1 * audio.abs().mean(1, keepdim=True)).half()
        out = self.out(y[:, 0]) * (0.5 + gain.float()) + 0.5 * audio
        return out, frame[:, 64:], {"gain": gain, "gru": (h, c.double())}


def build():
    torch.manual_seed(0)
    return Net()
"""


def test_a_structure_is_what_forward_takes_and_returns() -> None:
    values = {"past": 1, "h": 2, "c": 3, "g": 4}
    assert packed(NESTED, values) == [1, {"gru": (2, 3), "gain": 4}]
    assert unpacked(NESTED, [1, {"gain": 4, "gru": [2, 3]}], "net") == values


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([1, {"gain": 4}], r"net.states\[1\]: forward returned a dict of gain, expected a dict of gru, gain"),
        ([1, (2, 3)], r"net.states\[1\]: forward returned a tuple, expected a dict"),
        ([1, {"gain": 4, "gru": [2, 3, 4]}], r"net.states\[1\].gru: forward returned 3 values, expected 2"),
        ([1, {"gain": 4, "gru": 2}], r"net.states\[1\].gru: forward returned a int, expected 2"),
    ],
)
def test_another_structure_is_told_with_its_place(results: list[Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        unpacked(NESTED, results, "net")


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (["past", ["h", "c"]], "names 'g' 0 times; expected each of .* once: past, h, c, g"),
        (["past", ["h", "c"], "g", "g"], "names 'g' 2 times"),
        (["past", ["h", "c"], "g", "x"], "names 'x' 1 times"),
        (["past", [], "h", "c", "g"], r"expected a list of names .* got \[\]"),
        (["past", 3], "expected a list of names .* got 3"),
        ({"past": "past"}, "states: expected list"),
    ],
)
def test_structures_that_are_none(states: Any, message: str) -> None:
    tables = {**copy.deepcopy(TABLES), "net": {"form": "step", "states": states}}
    with pytest.raises(UsageError, match=message):
        parse(tables, "geometry.toml", "net")


def test_a_type_that_is_no_float_is_refused() -> None:
    tables = copy.deepcopy(TABLES)
    tables["states"][0]["dtype"] = "int64"
    with pytest.raises(UsageError, match="dtype: expected one of float32, float16, bfloat16, float64, got 'int64'"):
        parse(tables, "geometry.toml", "net")


def test_states_in_tuples_and_dicts_and_of_other_types_go_through_a_conversion(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET + f"\n\nGEOMETRY = {TABLES!r}\n")
    target = f"{tmp_path / 'net.py'}:build"
    entry = open_custom(target)
    assert [(s.name, s.dtype) for s in entry.signature(1).states] == [(n, "float32") for n in ("past", "h", "c", "g")]
    assert "states: g is float16 in the net and float32 in the bundle, which rounds less" in entry.assumed
    audio = 0.1 * torch.randn(1, 640, generator=torch.Generator().manual_seed(1))
    stepped = Stepwise(entry)(audio)
    values: Any = [torch.zeros(1, 64), {"gru": (torch.zeros(1, 1, 8), torch.zeros(1, 1, 8).double()), "gain": None}]
    values[1]["gain"] = torch.zeros(1, 1).half()
    parts = []
    for block in torch.split(audio, 64, 1):
        out, *values = entry.net(block, *values)
        parts.append(out)
    assert torch.allclose(stepped, torch.cat(parts, 1), atol=1e-4)  # the net rounds its gain to half
    result = hearpack.export(target, tmp_path, precisions=("fp32",))
    assert not result.refused
    report = hearpack.verify(result.path, seconds=2)
    assert report.reference == "torch original", report.material
    assert report.passed, report.artefacts
