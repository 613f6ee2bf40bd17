"""The Kotlin of docs/your-own-app.md, the sample's README and the facade's KDoc compiles against the real classes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.common.errors import ConversionError
from tools.android import build, toolchain
from tools.android.parts import ROOT, kotlinc

PAGE = ROOT / "docs" / "your-own-app.md"
README = ROOT / "android-sample" / "README.md"


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```kotlin\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def kdoc_example(name: str) -> str:
    """The indented lines of the KDoc of a class of the library, as a function of a context."""
    folder = ROOT / "android-sample/hearpack/src/main/kotlin/hearpack/android"
    text = (folder / f"{name}.kt").read_text(encoding="utf-8")
    comment = text[: text.index(f"class {name} ")].rpartition("/**")[2]
    lines = re.findall(r"^ \*     (.*)$", comment, re.M)
    assert lines, name
    head = f"import hearpack.android.*\n\nsuspend fun example{name}(context: android.content.Context) {{"
    return "\n".join([head, *lines, "}"])


BLOCKS = [*blocks(PAGE), *blocks(README), kdoc_example("Hearpack")]


def compile_all(tools: toolchain.Toolchain, blocks: list[str], folder: Path) -> None:
    parts = (build.core(tools), build.litert_api(tools), build.stubs(tools), build.library(tools))
    files = []
    for number, block in enumerate(blocks):
        files.append(folder / f"Block{number}.kt")
        files[-1].write_text(f"package own.app{number}\n\n{block}", encoding="utf-8")
    classpath = [*tools.kotlin_libraries, *(part.file for part in parts), tools.file("android-23.jar")]
    kotlinc(tools, files, classpath, folder / "own.jar", "own")


def test_the_page_has_both_ways() -> None:
    assert len(BLOCKS) == 4
    assert all(".start().collect" in BLOCKS[k] for k in (0, 2, 3))
    assert "Pipeline(" in BLOCKS[1]
    assert len(blocks(README)[0].partition("suspend")[2].strip().splitlines()) <= 10


def test_every_block_compiles(tools: toolchain.Toolchain, tmp_path: Path) -> None:
    compile_all(tools, BLOCKS, tmp_path)
    assert (tmp_path / "own.jar").stat().st_size > 1000


def test_a_name_that_the_sample_does_not_have_fails(tools: toolchain.Toolchain, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="unresolved reference"):
        compile_all(tools, [BLOCKS[1].replace("openBest(", "openBetter(")], tmp_path)
