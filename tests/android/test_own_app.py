"""The Kotlin of docs/your-own-app.md compiles against the sample's classes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.common.errors import ConversionError
from tools.android import build, toolchain
from tools.android.parts import ROOT, kotlinc

PAGE = ROOT / "docs" / "your-own-app.md"
BLOCKS = re.findall(r"^```kotlin\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def compile_all(tools: toolchain.Toolchain, blocks: list[str], folder: Path) -> None:
    parts = (build.core(tools), build.litert_api(tools), build.stubs(tools), build.library(tools))
    files = []
    for number, block in enumerate(blocks):
        files.append(folder / f"Block{number}.kt")
        files[-1].write_text(f"package own.app{number}\n\n{block}", encoding="utf-8")
    classpath = [*tools.kotlin_libraries, *(part.file for part in parts), tools.file("android-23.jar")]
    kotlinc(tools, files, classpath, folder / "own.jar", "own")


def test_the_page_has_both_ways() -> None:
    assert len(BLOCKS) == 2
    assert "StreamSession(" in BLOCKS[0]
    assert "Pipeline(" in BLOCKS[1]


def test_every_block_compiles(tools: toolchain.Toolchain, tmp_path: Path) -> None:
    compile_all(tools, BLOCKS, tmp_path)
    assert (tmp_path / "own.jar").stat().st_size > 1000


def test_a_name_that_the_sample_does_not_have_fails(tools: toolchain.Toolchain, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="unresolved reference"):
        compile_all(tools, [BLOCKS[1].replace("openBest(", "openBetter(")], tmp_path)
