"""The workflow for a Mac: nothing here can run it, so what it names is compared with what there is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.ios.swift_kit import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "ios.yml"


@pytest.fixture(scope="module")
def steps() -> list[dict[str, Any]]:
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["simulator"]
    assert job["runs-on"].startswith("macos-")
    found: list[dict[str, Any]] = job["steps"]
    return found


def test_what_it_builds_and_tests_is_there(steps: list[dict[str, Any]]) -> None:
    text = "\n".join(s.get("run", "") for s in steps)
    package = re.search(r'^    name: "(\w+)",$', (ROOT / "Package.swift").read_text(), re.M)
    assert package is not None
    projects = re.findall(r"-project (\S+) -scheme (\S+)", text)
    assert projects == [("ios-sample/HearpackSample.xcodeproj", "HearpackSample")]
    assert (ROOT / projects[0][0] / "project.pbxproj").is_file()
    assert f"xcodebuild test -scheme {package[1]}-Package" in text
    for target in re.findall(r"^ *make ([\w-]+)", text, re.M):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target


def test_core_ml_is_given_bundles(steps: list[dict[str, Any]]) -> None:
    """By the variable that the golden test reads; xcodebuild hands on what begins with TEST_RUNNER_."""
    test = (ROOT / "ios-sample/HearpackKit/Tests/HearpackKitTests/CoreMLEngineTests.swift").read_text()
    assert 'environment["HEARPACK_BUNDLES"]' in test
    given = [name for s in steps for name in s.get("env", {})]
    assert given == ["TEST_RUNNER_HEARPACK_BUNDLES", "HEARPACK_BUNDLES"]
    exported = next(s["run"] for s in steps if "hearpack export" in s.get("run", ""))
    assert "--output build/bundles" in exported
    assert all(s["env"][n].endswith("/build/bundles") for s in steps for n in s.get("env", {}))


def test_the_readme_says_that_it_was_never_run() -> None:
    text = " ".join((ROOT / "ios-sample" / "README.md").read_text().split())
    assert "`.github/workflows/ios.yml` was never run" in text
