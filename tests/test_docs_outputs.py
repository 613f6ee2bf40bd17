"""tools/docs_outputs.py: pages and outputs are compared line by line; slow: with what the commands put out today."""

from __future__ import annotations

import typing

import pytest

from tools.docs_outputs import PAGES, ROOT, Shown, missing, pages, refreshed, run, shape, shown

PAGE = """
```console
$ hearpack gate a.run budget.toml  # a comment
figure    value  limit
misses    0      0      ok
...
within the budget
$ head -1 a.csv
x,y
```
"""
OUTPUT = """
  simulating
figure    value   limit
delay_ms  66 ms   70 ms  ok
misses    3       0      PAST IT
within the budget
"""


def test_commands_and_their_lines_are_read() -> None:
    gate, head = shown(PAGE)
    assert (gate.command, len(gate.lines)) == ("hearpack gate a.run budget.toml", 4)
    assert head == Shown("head -1 a.csv", ("x,y",))


def test_a_line_is_known_by_its_first_cell_without_figures() -> None:
    assert shape("    3.375 s      7.695 s   0.69  Vehicle") == shape("   14.0 s  15.855 s   0.56  Vehicle")
    assert shape("    3.375 s      7.695 s   0.69  Vehicle") != shape("    3.375 s      7.695 s   0.69  Bell")
    assert shape("counted: 2,479 calls, 0 past") == shape("counted: 41 calls, 3 past")
    assert shape("within the budget") == shape("FAILED: 1 of 8 past the budget")
    assert shape("keeps up: no call late") == shape("does not keep up: 3 of 41 calls late; first")
    assert shape("p50 ms  1.0") != shape("load  1.0")


def test_what_is_shown_and_not_put_out_is_named() -> None:
    gate = shown(PAGE)[0]
    assert not missing(gate, OUTPUT)
    assert missing(gate, OUTPUT.replace("misses", "late_calls")) == ["misses    0      0      ok"]


def test_a_page_is_written_anew_and_stays_as_short() -> None:
    lines = refreshed(shown(PAGE)[0], OUTPUT)
    assert lines == ["figure    value   limit", "misses    3       0      PAST IT", "...", "within the budget"]


def test_a_page_may_not_run_anything_else(tmp_path: typing.Any) -> None:
    with pytest.raises(ValueError, match="may have hearpack and head"):
        run("rm -r a.run", tmp_path)


@pytest.mark.parametrize("name", PAGES)
def test_pages_show_commands_with_their_outputs(name: str) -> None:
    commands = shown((ROOT / name).read_text(encoding="utf-8"))
    assert commands, "the page shows no command with its output"
    assert all(one.command.startswith(("hearpack ", "head ")) for one in commands)
    assert all(one.lines for one in commands)


@pytest.mark.slow
def test_the_pages_show_what_the_commands_put_out() -> None:
    gone = [
        (page.name, one.command, line)
        for page, outputs in pages(list(PAGES))
        for one, output in outputs
        for line in missing(one, output)
    ]
    assert not gone
