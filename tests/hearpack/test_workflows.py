"""The workflows for GitHub, which nothing here can run: their form, and that what they call is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
STEP = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "id": {"type": "string"},
        "if": {"type": "string"},
        "uses": {"type": "string", "pattern": r"^[\w.-]+/[\w./-]+@v\d+$"},
        "with": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
        "run": {"type": "string"},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
        "working-directory": {"type": "string"},
    },
    "additionalProperties": False,
    "oneOf": [{"required": ["uses"]}, {"required": ["run"]}],
}
JOB = {
    "type": "object",
    "properties": {
        "runs-on": {"type": "string"},
        "timeout-minutes": {"type": "integer", "maximum": 120},
        "strategy": {"type": "object", "required": ["matrix"]},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
        "needs": {"type": ["string", "array"]},
        "steps": {"type": "array", "minItems": 1, "items": STEP},
    },
    "additionalProperties": False,
    "required": ["runs-on", "timeout-minutes", "steps"],
}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "on": {"type": "object", "propertyNames": {"enum": ["push", "pull_request", "workflow_dispatch"]}},
        "permissions": {"const": {"contents": "read"}},
        "jobs": {"type": "object", "minProperties": 1, "additionalProperties": JOB},
    },
    "additionalProperties": False,
    "required": ["name", "on", "permissions", "jobs"],
}


def read(file: Path) -> dict[str, Any]:
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    data["on"] = data.pop(True)  # YAML 1.1 reads a bare `on` as true; GitHub does not
    return data


def test_python_and_android_are_there() -> None:
    assert {"python", "android"} <= {f.stem for f in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_form(file: Path) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(read(file))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_what_is_called_is_there(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([\w-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for job in read(file)["jobs"].values():
        for step in job["steps"]:
            folder = ROOT / step.get("working-directory", step.get("with", {}).get("working-directory", "."))
            assert folder.is_dir(), folder
            if "./gradlew" in step.get("run", step.get("with", {}).get("script", "")):
                assert (folder / "gradlew").is_file()


def test_a_step_that_does_nothing_is_noticed() -> None:
    data = read(FILES[0])
    next(iter(data["jobs"].values()))["steps"].append({"name": "nothing"})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(data)


def test_the_android_workflow_installs_the_platform_that_gradle_compiles_with() -> None:
    gradle = (ROOT / "android-sample/app/build.gradle.kts").read_text(encoding="utf-8")
    release = re.search(r"release\((\d+)\) \{ minorApiLevel = (\d+) \}", gradle)
    assert release is not None
    assert f"platforms;android-{release[1]}.{release[2]}" in (FILES[0].parent / "android.yml").read_text(
        encoding="utf-8"
    )


def test_the_readmes_say_that_they_were_never_run() -> None:
    for page in ("README.md", "android-sample/README.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert re.search(r"`?\.github/workflows/?\S*`? (?:was|were) never run", text), page
