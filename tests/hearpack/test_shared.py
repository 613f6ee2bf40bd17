"""What the commands print: foreign text as it is, and no command past the one door."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from hearpack.commands.shared import UsersWords, _table_lines, console, progress_bars, say, show_table

COMMANDS = Path(__file__).resolve().parents[2] / "hearpack" / "commands"
NASTY = "[/b] [1] [bold]x :smile: \x1b[31m\x07 \u202e"
SHOWN = "[/b] [1] [bold]x :smile: \\x1b[31m\\x07 \\u202e"


def test_markup_and_escapes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    say(NASTY)
    say(NASTY, err=True)
    console().print(NASTY)
    show_table((NASTY, "b"), [(NASTY, "c")], title=NASTY)
    with progress_bars() as progress:
        progress(NASTY, 0.0)
    found = capsys.readouterr()
    assert found.out.count(SHOWN) == 5
    assert found.err.count(SHOWN) == 2
    assert "\x1b" not in found.out + found.err


@pytest.mark.parametrize("file", sorted(COMMANDS.glob("*.py")), ids=lambda file: file.stem)
def test_commands_print_through_the_one_door(file: Path) -> None:
    wrong = r"typer\.echo|\bprint\(|rich\.console|sys\.std(out|err)\.write\(f"
    found = [line for line in file.read_text().splitlines() if re.search(rf"(?<!\.)(?:{wrong})", line)]
    assert file.name == "shared.py" or found == []


ROWS = [
    ["yamnet", "classifier", "audio events, 521 AudioSet classes", "480 ms"],
    ["panns-mobilenetv1", "x", "", "8 ms"],
]


@pytest.mark.parametrize("width", [200, 80, 60, 40, 32])
def test_a_table_fits_its_terminal_with_every_name_whole(width: int) -> None:
    lines = [text for text, _ in _table_lines(("name", "task", "what it is", "hop"), ROWS, None, width)]
    assert all(len(line) <= width for text in lines for line in text.splitlines())
    shown = " ".join(" ".join(lines).split())
    for cell in (cell for row in ROWS for cell in row):
        assert cell in shown or all(word in shown for word in cell.split())
    assert "panns-mobilenetv1" in shown


def test_a_table_that_fits_is_lines_and_columns() -> None:
    lines = [text for text, _ in _table_lines(("name", "n"), [["a", "10"], ["longer", "2"]], "title", 80)]
    assert lines == ["title", "name    n", "a       10", "longer  2"]


def test_progress_in_a_pipe_says_how_far(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 1.0, 11.0, 12.0])
    monkeypatch.setattr("hearpack.commands.shared.time.monotonic", lambda: next(clock))
    with progress_bars() as progress:
        for fraction in (0.0, 0.1, 0.5, 0.6):
            progress("trying", fraction)
    assert capsys.readouterr().err == "  trying\n  trying: 50%\n"


def test_what_a_users_net_says_is_told_once_and_never_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    words, counts = UsersWords(), []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as heard, words.on_stderr():
            for _ in range(3):
                print("made net")
                with warnings.catch_warnings():
                    warnings.simplefilter("always")
                    warnings.warn("is slow", UserWarning, stacklevel=1)
            print("no end", end="")
        counts.append(len(heard))
    print("ours")
    said = capfd.readouterr()
    assert said.out == "ours\n"
    assert said.err == "made net\nno end\n"
    assert counts == [1, 0]
