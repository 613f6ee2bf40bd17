"""Ctrl-C ends a command within two seconds, whatever it is doing, and leaves nothing.

A KeyboardInterrupt alone does not: converters swallow it in their callbacks, a long call of a library does not see it,
and libraries that were torn out of their work crash while Python ends. So a thread hears of the signal in any case,
and when the command has not ended of itself a moment later, removes its temporaries and ends the process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

from hearpack.ending import INTERRUPTED
from models.common.errors import OutputError
from models.common.temporary import remove_live, scratch

MOMENT_S = 0.6
CLOSING_MOMENT_S = 1.4  # for a command that has a handler of its own: it closes what it has got so far
_LINE = b"hearpack: interrupted; nothing half-written was left\n"
_ending = threading.Event()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Run a command inside; temporary files of its libraries go into one folder, which is removed with the rest."""
    with _heard():
        try:
            with _one_scratch():
                yield
        except SystemExit as exc:
            if exc.code == INTERRUPTED:
                _end()
            raise
        except KeyboardInterrupt:  # before the command began
            with contextlib.suppress(OSError):
                os.write(2, _LINE)
            _end()
        finally:
            if _ending.is_set():  # it failed because its temporaries are being removed: nothing to tell
                threading.Event().wait()


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Have a thread watch for SIGINT, where it is Python's to handle."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as under nohup
        yield
        return
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    terminal = os.dup(2)  # converters send 2 elsewhere
    threading.Thread(target=_watch, args=(ear, terminal), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(mouth)


def _watch(ear: int, terminal: int) -> None:
    while signal.SIGINT not in (heard := os.read(ear, 64)):
        if not heard:  # the command has ended
            os.close(ear)
            os.close(terminal)
            return
    mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    time.sleep(MOMENT_S if mine else CLOSING_MOMENT_S)
    _ending.set()
    remove_live()
    with contextlib.suppress(OSError):
        show_cursor = b"\x1b[?25h" if os.isatty(terminal) else b""  # a progress bar hides it
        os.write(terminal, show_cursor + _LINE)
    os._exit(INTERRUPTED)


def _end() -> None:
    """End now: Python's own end runs what libraries left to be run, which takes long or crashes."""
    remove_live()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def _one_scratch() -> Iterator[None]:
    """Temporary files of this process, its libraries and children go into one folder of TMPDIR."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch("command"))
        except OutputError:  # whoever needs one will say so
            yield
            return
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        chosen = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if any(folder.iterdir()):
                    gc.collect()  # objects of libraries remove their files while the folder is there, or complain later
            tempfile.tempdir = before
            os.environ.pop("TMPDIR")
            if chosen is not None:
                os.environ["TMPDIR"] = chosen
