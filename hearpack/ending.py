"""How the command ends: whatever happens becomes one line on stderr and an exit code; a traceback only on request."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from models.common.errors import MOST_CHARACTERS, HearpackError
from models.common.printable import ENCODING_ERRORS, printable

DEBUG = "HEARPACK_DEBUG"
WRONG_INPUT, OUR_FAULT, INTERRUPTED = 2, 3, 130


class StoppedError(Exception):
    """The user, or the reader of our output, wants no more."""

    def __init__(self, why: BaseException) -> None:
        super().__init__(why)
        self.why = why


def take_debug_switch(arguments: list[str]) -> bool:
    """Whether a traceback is wanted: HEARPACK_DEBUG, or --debug anywhere in the line, which is taken out."""
    wanted = os.environ.get(DEBUG, "") not in ("", "0")
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if "--debug" in arguments[1:end]:
        arguments[1:end] = [a for a in arguments[1:end] if a != "--debug"]
        return True
    return wanted


@contextlib.contextmanager
def in_one_line(debug: bool = False) -> Iterator[None]:
    """Run a command line inside: it ends with SystemExit, whatever escapes from the block.

    Args:
        debug: print the traceback of an error before its line.
    """
    _make_streams_safe()
    code, told = 0, ""
    try:
        yield
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except StoppedError as exc:
        code, told = _stopped(exc.why)
    except KeyboardInterrupt as exc:
        code, told = _stopped(exc)
    except Exception as exc:
        code, told = _failed(exc)
        if debug:
            _write(traceback.format_exc())
    code, told = _flushed(code, told)
    if told:
        _write(f"hearpack: {told}\n")
    sys.exit(code)


def _stopped(why: BaseException) -> tuple[int, str]:
    if isinstance(why, KeyboardInterrupt):
        return INTERRUPTED, "interrupted; nothing half-written was left"
    return 0, ""  # the reader of our output went away (hearpack ... | head): nothing more can be said


def _failed(exc: Exception) -> tuple[int, str]:
    if isinstance(exc, HearpackError):
        return WRONG_INPUT, str(exc)
    if isinstance(exc, MemoryError):
        return WRONG_INPUT, "not enough memory for this input; give a smaller one, or run it on a larger machine"
    if isinstance(exc, OSError):
        return WRONG_INPUT, _line(f"{_place(exc)}{exc.strerror or exc}; check the path, its rights and the room there")
    if isinstance(exc, UnicodeError):
        return WRONG_INPUT, _line(f"a name or a text cannot be read or written here ({exc}); try with PYTHONUTF8=1")
    again = "this is a fault of hearpack: run it again with --debug and report what it prints"
    return OUR_FAULT, _line(f"{type(exc).__name__}: {exc}; {again}")


def _place(exc: OSError) -> str:
    return "" if exc.filename is None else f"{os.fsdecode(exc.filename) if _is_path(exc.filename) else exc.filename}: "


def _is_path(name: object) -> bool:
    return isinstance(name, str | bytes | os.PathLike)


def _line(text: str) -> str:
    return printable(" ".join(text.split()), MOST_CHARACTERS)


def _make_streams_safe() -> None:
    """Standard streams that exist, and that show in their own encoding what they cannot hold instead of failing."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed by the caller: the next file opened would take its place and get our text
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 -- until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)


def _flushed(code: int, told: str) -> tuple[int, str]:
    """The code and line with what the last of stdout says: a full disk is an error, a reader who left is none."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as exc:
        with contextlib.suppress(OSError, ValueError):  # or Python tries again at its end, and says so
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(exc, BrokenPipeError) and code in (0, WRONG_INPUT):
            said = exc.strerror if isinstance(exc, OSError) else str(exc)
            return WRONG_INPUT, f"standard output cannot be written: {said}; files that were written are whole"
    return code, told


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
