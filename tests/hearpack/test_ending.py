"""However a command ends: one line, an exit code, and a traceback only where one is wanted."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hearpack.ending import in_one_line, take_debug_switch
from models.common.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from hearpack.cli import main; main()"]


def ended(error: BaseException, capsys: pytest.CaptureFixture[str], debug: bool = False) -> tuple[int, str]:
    with pytest.raises(SystemExit) as found, in_one_line(debug):
        raise error
    return int(found.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("expected this; do that"), 2, "expected this; do that"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 300), 2, "File name too long; check the path"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "folder"), 2, "folder: Is a directory"),
        (OSError("raw"), 2, "raw"),
        (MemoryError(), 2, "not enough memory"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"), 2, "PYTHONUTF8=1"),
        (RecursionError("too deep"), 3, "RecursionError: too deep; this is a fault of hearpack"),
        (KeyError("x\x1b[2J" * 900), 3, "report what it prints"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_everything_is_one_line(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    got, said = ended(error, capsys)
    assert got == code
    assert said.startswith("hearpack: ")
    assert words in said
    assert said.count("\n") == 1
    assert said.endswith("\n")
    assert len(said) <= 301
    assert "\x1b" not in said


def test_a_traceback_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(KeyError("x"), capsys, debug=True)
    assert code == 3
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("hearpack: KeyError")


def test_the_switch_is_taken_from_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEARPACK_DEBUG", raising=False)
    line = ["hearpack", "run", "--debug", "x"]
    assert take_debug_switch(line)
    assert line == ["hearpack", "run", "x"]
    line = ["hearpack", "run", "--", "--debug"]
    assert not take_debug_switch(line)
    assert line[-1] == "--debug"
    monkeypatch.setenv("HEARPACK_DEBUG", "1")
    assert take_debug_switch(line)


def test_a_disk_that_is_full_at_the_last_moment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(SystemExit) as found, in_one_line():
        pass
    assert found.value.code == 2
    assert "standard output cannot be written: No space left on device" in capsys.readouterr().err


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = ["bash", "-c", line, "bash", *COMMAND]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, errors="replace")


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ('"$@" models > /dev/full', 2, "No space left on device"),
        ('"$@" models --json > /dev/full', 2, "No space left on device"),
        ('"$@" models >&-', 0, ""),
        ('"$@" models >&- 2>&-', 0, ""),
        ('"$@" models 2>/dev/full', 0, ""),
        ('"$@" nonsense >/dev/full 2>/dev/full', 2, ""),
        ('"$@" models | head -c 1; exit "${PIPESTATUS[0]}"', 0, ""),
        ('"$@" models --json | true; exit "${PIPESTATUS[0]}"', 0, ""),
        ("\"$@\" inspect $'\\e[31m\\xff[/b]'", 2, r"\x1b[31m\xff[/b]: no such file"),
        ('"$@" inspect "$(printf %0300d 0)"', 2, "name"),
        ('"$@" run "$(printf %0300d 0)" "$(printf %0300d 0)"', 2, "name"),
        ('"$@" report "$(printf %0300d 0)"', 2, "name"),
        ('"$@" simulate "$(printf %0300d 0)" x.wav', 2, "name"),
        ('HEARPACK_CACHE="~nouser/x" "$@" models', 2, "HEARPACK_CACHE=~nouser/x: no such user's home"),
        ('HEARPACK_WHEELS="~nouser/x" HEARPACK_CACHE=/nowhere "$@" pull dtln', 2, "hearpack: "),
    ],
)
def test_places(line: str, code: int, said: str) -> None:
    done = shell(line)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len([part for part in done.stderr.splitlines() if part.startswith("hearpack: ")]) == (1 if said else 0)
    assert max(map(len, done.stderr.splitlines()), default=0) <= 300


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize("arguments", ["--help", "models", "devices", "tune --help", "export yamnét"])
def test_a_terminal_of_ascii(environment: dict[str, str], arguments: str) -> None:
    done = shell(f'"$@" {arguments}', **environment)
    assert done.returncode == (2 if "é" in arguments else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.isascii()
    assert done.stderr.isascii()


@pytest.mark.parametrize("environment", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_names_that_the_locale_cannot_spell(environment: dict[str, str], tmp_path: Path) -> None:
    """A bundle and a sound with an umlaut, and one whose name is not UTF-8: run, simulate and report as with others."""
    from tests.fuzz.bundles import make_bundle

    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xc3\xbcndel \xe9"))
    place.mkdir()
    make_bundle(place / "tiny-256.hearpack")
    lines = ('run "$B" "$D/sound.wav" -o "$D/ä.csv"', 'simulate "$B" "$D/sound.wav" --compute-ms 1 -o "$D/ä.run"')
    for line in (*lines, 'report "$D/ä.run" -o "$D/ä.html"', 'inspect "$B"'):
        done = shell(f'D={tmp_path}/b*; D=$(echo $D); B=$D/tiny-256.hearpack; "$@" {line}', **environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
