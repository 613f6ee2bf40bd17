"""The table of docs/twins.md: what both apps do is there on both sides."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIDES = {"Android": ROOT / "android-sample", "iOS": ROOT / "ios-sample"}
CELL = re.compile(r"^`([\w.]+) ([^`]+)`$")


def rows() -> list[list[str]]:
    text = (ROOT / "docs" / "twins.md").read_text(encoding="utf-8")
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line] for line in lines]


def lacks(side: str, cell: str) -> str:
    """What is missing of a cell; "" where it is all there."""
    named = CELL.match(cell)
    if named is None:
        return f"expected a file and a word of it, got {cell!r}"
    files = [f for f in SIDES[side].rglob(named[1]) if not {"Tests", "test", "build"} & set(f.parts)]
    if not files:
        return f"{side} has no {named[1]}"
    if not any(named[2] in f.read_text(encoding="utf-8") for f in files):
        return f"{named[1]} has no {named[2]}"
    return ""


def test_the_table_is_whole() -> None:
    head, *table = rows()
    assert head == ["what", *SIDES]
    assert len(table) >= 15
    assert all(len(row) == 3 for row in table)


@pytest.mark.parametrize("row", rows()[1:], ids=lambda row: row[0][:40])
def test_both_sides_have_it(row: list[str]) -> None:
    faults = [fault for side, cell in zip(SIDES, row[1:], strict=True) if (fault := lacks(side, cell))]
    assert not faults


def test_a_side_without_it_is_noticed() -> None:
    assert lacks("Android", "`Recording.kt addNothing`") == "Recording.kt has no addNothing"
    assert lacks("iOS", "`Nothing.swift x`") == "iOS has no Nothing.swift"
    assert lacks("iOS", "")
