"""Every Kotlin test as a test of its own; they ran in one JVM, with real inference through libLiteRt.so."""

from __future__ import annotations

import json

import jsonschema
import pytest

from streaming.device_trace import read_trace
from tools.android import build, jvm


@pytest.mark.parametrize("name", jvm.test_names())
def test_kotlin(kotlin: jvm.KotlinRun, name: str) -> None:
    assert name in kotlin.outcomes, "the JVM did not report this test"
    assert not kotlin.outcomes[name], kotlin.outcomes[name]


def test_no_kotlin_test_ran_that_pytest_does_not_know(kotlin: jvm.KotlinRun) -> None:
    assert sorted(kotlin.outcomes) == sorted(jvm.test_names())
    assert len(kotlin.outcomes) > 60


@pytest.mark.parametrize("name", ["session", "yamnet"])
def test_a_trace_that_kotlin_wrote_is_valid(kotlin: jvm.KotlinRun, name: str) -> None:
    schema = json.loads((build.ROOT / "docs" / "device-trace.schema.json").read_text(encoding="utf-8"))
    trace = json.loads((kotlin.folder / "traces" / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(trace)
    assert trace["end"]["callbacks"] == len(trace["callbacks"]) > 100
    frames = {"session": 4000, "yamnet": 480_000}[name]
    assert sum(c["frames"] for c in trace["callbacks"]) == frames


def test_the_device_profile_reads_a_trace_that_kotlin_wrote(kotlin: jvm.KotlinRun) -> None:
    trace = read_trace(kotlin.folder / "traces" / "yamnet.json")
    assert trace.bundle.name == "yamnet"
    assert sum(c.frames for c in trace.callbacks) == 480_000
    assert len(trace.calls) == 20
