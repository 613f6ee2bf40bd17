"""Hostile JSON and TOML: the parsers' own errors, and one HearpackError from every reader of a user's file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.common.errors import HearpackError
from models.common.parsing import parse_json, parse_toml
from runtimes.bundle import parse_manifest
from streaming.advice.advise import read_advice
from streaming.advice.budget import read_budget
from streaming.measure.calibration import read_calibration
from streaming.measure.cold_start import read_cold_start
from streaming.runs.record import read_run
from streaming.simulator.device.profile import load_profile
from streaming.simulator.device.trace_file import read_trace

DEEP, LONG = "[" * 100_000, "1" * 6_000
JSON = {"deep": DEEP, "long": f'{{"schema": {LONG}}}', "cut": '{"schema": "x', "nan": '{"schema": NaN}',
        "inf": '{"schema": -1e999}', "beyond": f'{{"schema": {2**63}}}'}  # fmt: skip
TOML = {"deep": f"a = {DEEP[:5_000]}", "long": f"a = {LONG}", "cut": "a = "}


@pytest.mark.parametrize("text", JSON.values(), ids=JSON)
def test_json_fails_as_json(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)


@pytest.mark.parametrize("text", TOML.values(), ids=TOML)
def test_toml_fails_as_toml(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        parse_toml(text)


def test_what_is_whole_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert parse_json(f"[{2**63 - 1}, -1e300]") == [2**63 - 1, -1e300]
    assert parse_toml("[a]\nb = 1") == {"a": {"b": 1}}


READERS: dict[str, tuple[Callable[[Path], Any], dict[str, str]]] = {
    "run.json": (read_run, JSON),
    "trace.json": (read_trace, JSON),
    "calibration.json": (read_calibration, JSON),
    "cold.json": (read_cold_start, JSON),
    "advice.json": (read_advice, JSON),
    "manifest.json": (lambda file: parse_manifest(file.read_text(), file.name), JSON),
    "budget.toml": (read_budget, TOML),
    "device.toml": (lambda file: load_profile(str(file)), TOML),
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, (_, texts) in READERS.items() for kind in texts])
def test_every_reader_says_it_in_one_line(name: str, kind: str, tmp_path: Path) -> None:
    read, texts = READERS[name]
    (tmp_path / name).write_text(texts[kind])
    with pytest.raises(HearpackError, match=name) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
