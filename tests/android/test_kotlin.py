"""Every Kotlin test as a test of its own; they ran in one JVM, with real inference through libLiteRt.so."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tools.android import build, jvm


@pytest.mark.parametrize("name", jvm.test_names())
def test_kotlin(kotlin: jvm.KotlinRun, name: str) -> None:
    assert name in kotlin.outcomes, "the JVM did not report this test"
    assert not kotlin.outcomes[name], kotlin.outcomes[name]


def test_no_kotlin_test_ran_that_pytest_does_not_know(kotlin: jvm.KotlinRun) -> None:
    assert sorted(kotlin.outcomes) == sorted(jvm.test_names())
    assert len(kotlin.outcomes) > 60


def test_the_trace_that_kotlin_wrote_is_valid(kotlin: jvm.KotlinRun) -> None:
    schema = json.loads((build.ROOT / "docs" / "device-trace.schema.json").read_text(encoding="utf-8"))
    trace = json.loads((kotlin.folder / "traces" / "session.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(trace)
    assert trace["end"]["callbacks"] == len(trace["callbacks"]) > 100
    assert sum(c["frames"] for c in trace["callbacks"]) == 4000
