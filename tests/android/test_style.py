"""ktlint over all Kotlin, and house rules that it does not know."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tools.android import parts, toolchain

KOTLIN = sorted(parts.SAMPLE.rglob("*.kt"))


def _ktlint(tools: toolchain.Toolchain, folder: Path, *patterns: str) -> subprocess.CompletedProcess[str]:
    command = ["java", "-jar", str(tools.file("ktlint.jar")), *patterns]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_ktlint_has_nothing_to_say(tools: toolchain.Toolchain) -> None:
    done = _ktlint(tools, parts.SAMPLE, "**/*.kt", "**/*.kts")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ktlint_finds_a_planted_fault(tools: toolchain.Toolchain, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "Planted.kt").write_text("package planted\nfun  f( ) = 1\n", encoding="utf-8")
    done = _ktlint(tools, tmp_path, "**/*.kt")
    assert done.returncode != 0
    assert "Planted.kt:2" in done.stdout, done.stderr


def test_the_core_knows_neither_android_nor_litert() -> None:
    imports = re.compile(r"^import (android|com\.google|kotlinx)\b.*", re.MULTILINE)
    for file in parts.sources("core/src/main"):
        found = imports.search(file.read_text(encoding="utf-8"))
        assert found is None, f"{file.name}: {found}"


@pytest.mark.parametrize("file", KOTLIN, ids=lambda p: p.name)
def test_modules_are_short_enough_to_read(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400
