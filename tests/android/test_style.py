"""ktlint over all Kotlin, and house rules that it does not know."""

from __future__ import annotations

import re
import subprocess

import pytest

from tools.android import build, toolchain

KOTLIN = sorted(build.SAMPLE.rglob("*.kt"))


def test_ktlint_has_nothing_to_say(tools: toolchain.Toolchain) -> None:
    patterns = [str(build.SAMPLE / "**" / f"*.{suffix}") for suffix in ("kt", "kts")]
    command = ["java", "-jar", str(tools.file("ktlint.jar")), *patterns]
    done = subprocess.run(command, capture_output=True, text=True, cwd=build.SAMPLE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ktlint_finds_a_planted_fault(tools: toolchain.Toolchain, tmp_path) -> None:
    (tmp_path / "Planted.kt").write_text("package planted\nfun  f( ) = 1\n", encoding="utf-8")
    command = ["java", "-jar", str(tools.file("ktlint.jar")), str(tmp_path / "*.kt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Planted.kt:2" in done.stdout


def test_the_core_knows_neither_android_nor_litert() -> None:
    imports = re.compile(r"^import (android|com\.google|kotlinx)\b.*", re.MULTILINE)
    for file in build.sources("core/src/main"):
        found = imports.search(file.read_text(encoding="utf-8"))
        assert found is None, f"{file.name}: {found}"


@pytest.mark.parametrize("file", KOTLIN, ids=lambda p: p.name)
def test_modules_are_short_enough_to_read(file) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400
