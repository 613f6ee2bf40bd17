"""Runs the Kotlin tests in one JVM and reads what it prints."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import ConversionError
from tools.android.build import java_command
from tools.android.parts import ROOT, SAMPLE
from tools.android.toolchain import Toolchain

TESTS = [SAMPLE / "core/src/test/kotlin/hearpack/tests", SAMPLE / "jvm/tests"]


def classes(pattern: str = "*Test.kt") -> list[Path]:
    """The files of test classes."""
    return sorted(file for folder in TESTS for file in folder.glob(pattern))


@dataclass(frozen=True)
class KotlinRun:
    """What the JVM printed.

    Attributes:
        folder: what the tests were given, and what they wrote.
        outcomes: by test, "" where it passed, else the trace.
    """

    folder: Path
    outcomes: dict[str, str]


def test_names() -> list[str]:
    """Class.method of every Kotlin test, read from the sources."""
    names = []
    for file in classes():
        names += [f"{file.stem}.{name}" for name in re.findall(r"@Test\s+fun (\w+)", file.read_text(encoding="utf-8"))]
    return names


def properties(given: Path) -> dict[str, str]:
    """What the tests and the bench need to know: where their bundles and references are, and the golden fixtures."""
    return {"given": str(given), "fixtures": str(ROOT / "tests" / "fixtures")}


def run_tests(tools: Toolchain, given: Path, files: str = "*Test.kt", **settings: str) -> KotlinRun:
    """All Kotlin tests.

    Args:
        tools: the toolchain.
        given: the folder that `reference.write` filled.
        files: which classes.
        settings: further properties.

    Raises:
        ConversionError: nothing compiled, or the JVM ran no test.
    """
    names = [f"hearpack.tests.{file.stem}" for file in classes(files)]
    command = java_command(tools, "hearpack.tests.Runner", properties(given) | settings, *names)
    done = subprocess.run(command, capture_output=True, check=False)
    outcomes: dict[str, str] = {}
    name = ""
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(("ok ", "FAILED ")):
            verdict, name = line.split(" ", 1)
            outcomes[name] = "" if verdict == "ok" else "failed\n"
        elif outcomes.get(name):
            outcomes[name] += line + "\n"
    if not outcomes:
        last = done.stderr.decode("utf-8", "replace")[-4000:]
        raise ConversionError(f"the JVM ran no test (exit code {done.returncode}):\n{last}")
    return KotlinRun(given, outcomes)
