"""What the commands print: foreign text as it is, and no command past the one door."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hearpack.commands.shared import console, progress_bars, say, show_table

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
