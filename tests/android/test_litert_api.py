"""The stand-in for LiteRT's Kotlin API against LiteRT's own sources (tests/fixtures/android/litert.json)."""

from __future__ import annotations

import json
import re

import pytest

from tests.fixtures.android import make_litert
from tools.android import parts, resources

API = json.loads(resources.LITERT.read_text(encoding="utf-8"))["api"]
STAND_IN = "\n".join(f.read_text(encoding="utf-8") for f in parts.sources("jvm/litert"))
NAMES = [name for name in API if name != "Accelerator"]


def _fits(ours: list[str], theirs: list[str]) -> bool:
    """Whether a call that compiles against ours compiles against theirs, and means the same."""
    for mine, real in zip(ours, theirs, strict=False):
        if mine != real and mine != real.split(" = ")[0]:
            return False
    return len(ours) <= len(theirs) and all(" = " in rest for rest in theirs[len(ours) :])


@pytest.mark.parametrize("name", NAMES)
def test_names_parameters_and_defaults_are_litert_s(name: str) -> None:
    text = re.sub(r"data class CpuOptions\(", "class CpuOptions constructor(", STAND_IN)
    found = make_litert.signatures(text, name)
    assert found, f"the stand-in has no {name}"
    for mine in found:
        ours = [p.removeprefix("internal ") for p in mine["parameters"]]
        assert any(_fits(ours, real["parameters"]) and mine["returns"] == real["returns"] for real in API[name]), mine


def test_another_default_is_noticed() -> None:
    theirs = API["createInputBuffer"][0]["parameters"]
    assert _fits(["inputName: String"], theirs)
    assert not _fits(["inputName: String", "signature: String? = null"], theirs)
    assert not _fits(["inputName: String", 'signature: String = "main"'], theirs)


def test_the_accelerators() -> None:
    ours = re.search(r"enum class Accelerator\([^)]*\) \{([^}]*)\}", STAND_IN)
    assert ours is not None
    assert re.findall(r"([A-Z]+)\(", ours[1]) == API["Accelerator"]
