"""models.custom.shapes.inputs: constants and further streams, at their places in forward."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.common.errors import UsageError
from models.custom.geometry_toml import parse, read_toml
from models.custom.shapes.inputs import called, check_arguments, said_inputs

TABLES: dict[str, Any] = {
    "task": "enhancer",
    "geometry": {"sample_rate_hz": 16000, "window_samples": 64, "hop_samples": 64},
    "net": {"form": "step"},
    "states": [{"name": "h", "shape": [1, 4]}],
}


class Places(nn.Module):
    def forward(self, mic: Any, h: Any, far: Any, c: Any = "default", *, speaker: Any = None) -> list[Any]:
        return [mic, h, far, c, speaker]


class Rest(nn.Module):
    def forward(self, mic: Any, far: Any, *states: Any) -> list[Any]:
        return [mic, far, *states]


def test_each_argument_goes_to_its_place() -> None:
    mic: Any = "mic"
    named: Any = {"far": "far", "speaker": "speaker"}
    assert called(Places(), mic, named, iter(["h", "c"])) == ["mic", "h", "far", "c", "speaker"]
    assert called(Places(), mic, named, iter(["h"])) == ["mic", "h", "far", "default", "speaker"]
    assert called(Rest(), mic, {"far": "far"}, iter(["a", "b"])) == ["mic", "far", "a", "b"]  # type: ignore[dict-item]
    assert called(Places(), mic, {}, iter(["h", "f"])) == ["mic", "h", "f", "default", None]
    with pytest.raises(UsageError, match=r"names 'speakr', which forward has not; it has: h, far, c, speaker"):
        check_arguments(Places(), ("far", "speakr"), "net.py")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"name": "audio", "kind": "audio"}], "name: expected one of its own, got 'audio'"),
        ([{"name": "h_out", "kind": "audio"}], "name: expected one of its own, got 'h_out'"),
        ([{"name": "a b", "kind": "audio"}], "name: expected one of its own, got 'a b'"),
        ([{"name": "far"}, {"name": "far"}], "name: expected one of its own, got 'far'"),
        ([{"name": "x", "kind": "constant"}], "a constant needs file = 'NAME.npy'"),
        ([{"name": "x", "kind": "audio", "values": [1.0]}], "an audio input has no file"),
        ([{"name": "x", "kind": "vector"}], "kind: expected one of constant, audio, got 'vector'"),
        ([{"name": "x", "values": ["a"]}], "expected numbers, or a .npy of floats"),
        ([{"name": "x", "values": [float("nan")]}], "expected finite floats"),
        ([{"name": "x", "values": []}], "expected finite floats"),
        ([{"name": f"x{k}"} for k in range(5)], "expected at most 4 of kind audio, got 5"),
        ([{"name": "x", "shape": [1]}], "unknown key 'shape'"),
    ],
)
def test_inputs_that_are_none(items: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse({**TABLES, "inputs": items}, "geometry.toml", "net")


def test_a_causal_net_takes_one_stream() -> None:
    tables = {**copy.deepcopy(TABLES), "net": {"form": "causal"}, "inputs": [{"name": "far", "kind": "audio"}]}
    del tables["states"]
    with pytest.raises(UsageError, match="far: a causal net takes one audio input; write the net as a step"):
        parse(tables, "geometry.toml", "net")


def test_a_constants_file_is_read_and_is_known_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "geometry.toml").write_text("[[inputs]]\nname = 'speaker'\nfile = 'speaker.npy'\n")
    with pytest.raises(UsageError, match=r"file 'speaker.npy' cannot be read: .*; expected a .npy"):
        read_toml(tmp_path / "geometry.toml")
    np.save(tmp_path / "speaker.npy", np.ones((1, 8), np.float64))
    items = read_toml(tmp_path / "geometry.toml")["inputs"]
    ((constant,), far) = said_inputs(items, "x", ())
    assert (constant.name, constant.shape, far) == ("speaker", (1, 8), ())
    ((other,), _) = said_inputs([{"name": "speaker", "values": np.ones((1, 8)) * 2}], "x", ())
    assert repr(constant) != repr(other)
    assert parse({**TABLES, "inputs": items}, "x", "n").arithmetic() != parse(TABLES, "x", "n").arithmetic()
    (tmp_path / "speaker.npy").write_text("1 2 3")
    with pytest.raises(UsageError, match=r"cannot be read: no \.npy"):
        read_toml(tmp_path / "geometry.toml")


def test_a_constant_is_a_tensor_of_the_net() -> None:
    from models.custom.adapters import Called

    class Scaled(nn.Module):
        def forward(self, audio: Tensor, gain: Tensor) -> Tensor:
            return audio * gain

    tables = {**TABLES, "inputs": [{"name": "gain", "values": [[3.0]]}]}
    entry = dataclasses.replace(parse(tables, "x", "n"), net=Scaled())
    assert Called(entry).given(torch.ones(1, 2)).tolist() == [[3.0, 3.0]]
