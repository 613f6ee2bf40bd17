"""docs/device-trace.schema.json takes hand-written traces of both apps and refuses what is wrong with them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).resolve().parents[4]
FIXTURES = ROOT / "tests" / "fixtures" / "device_trace"
SCHEMA = json.loads((ROOT / "docs" / "device-trace.schema.json").read_text(encoding="utf-8"))


def trace(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return data


def test_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", ["android", "ios"])
def test_fixtures_are_valid_and_consistent(name: str) -> None:
    data = trace(name)
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert data["end"]["callbacks"] == len(data["callbacks"]) > 0
    assert data["end"]["inferences"] == len(data["inferences"]) > 0
    for rows, key in (
        ("callbacks", "time_ns"),
        ("inferences", "begin_ns"),
        ("thermal", "time_ns"),
        ("routes", "time_ns"),
    ):
        times = [row[key] for row in data[rows]]
        assert times == sorted(times)


def test_unknown_fields_are_ignored() -> None:
    data = trace("android")
    data["battery"] = {"level": 0.4}
    data["callbacks"][0]["cpu"] = 3
    jsonschema.Draft202012Validator(SCHEMA).validate(data)


@pytest.mark.parametrize("field", SCHEMA["required"])
def test_every_required_field_is_missed(field: str) -> None:
    data = trace("android")
    del data[field]
    with pytest.raises(jsonschema.ValidationError, match=f"'{field}' is a required property"):
        jsonschema.Draft202012Validator(SCHEMA).validate(data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "hearpack-trace/2"),
        (("schema",), "hearpack/1"),
        (("callbacks",), []),
        (("callbacks", 0, "time_ns"), -1),
        (("callbacks", 0, "time_ns"), 0.561),
        (("callbacks", 0, "time_ns"), "561000000"),
        (("callbacks", 0, "frames"), -192),
        (("inferences", 1, "end_sample"), None),
        (("thermal", 0, "state"), "hot"),
        (("routes", 0, "input"), "AirPods of somebody"),
        (("routes", 0, "rate_hz"), 48),
        (("compute_units", 0, "used"), "ane"),
        (("gaps", 0, "kind"), "xrun"),
        (("bundle", "artefact_sha256"), "abc"),
        (("device", "emulated"), "no"),
        (("end", "reason"), ""),
    ],
)
def test_wrong_values_are_refused(path: tuple[Any, ...], value: object) -> None:
    data = copy.deepcopy(trace("android"))
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(data)
