"""Keep the chatter of C++ libraries and of their Python wrappers off the terminal.

TensorFlow Lite, LiteRT and MLIR write "INFO: Created TensorFlow Lite XNNPACK delegate" and the like
straight to file descriptor 2, below sys.stderr; no setting of theirs reaches all of it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

_LOCK = threading.RLock()
_KEEP_BYTES = 4000


class Captured:
    """What was kept off the terminal; `text` is filled when the block ends."""

    text: str = ""


@contextlib.contextmanager
def quiet() -> Iterator[Captured]:
    """Send file descriptor 2 to a scratch file while the block runs.

    sys.stderr stays connected to the terminal (through a duplicate), so that a progress bar goes on;
    log records and warnings of Python libraries are dropped. One thread at a time.

    Yields:
        Captured: afterwards its `text` holds the last 4000 bytes that were written, for an error message.
    """
    captured = Captured()
    with _LOCK, tempfile.TemporaryFile() as scratch:
        flush(sys.stderr)
        saved = os.dup(2)
        os.dup2(scratch.fileno(), 2)
        previous = sys.stderr
        live = (
            os.fdopen(
                os.dup(saved), "w", buffering=1, encoding=_of(previous, "encoding"), errors=_of(previous, "errors")
            )
            if _is_fd2(previous)
            else None
        )
        level = logging.root.manager.disable
        try:
            if live is not None:
                sys.stderr = live
            logging.disable(max(level, logging.ERROR))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield captured
        finally:
            logging.disable(level)
            if live is not None:
                if sys.stderr is live:
                    sys.stderr = previous
                flush(live)
            flush(previous)  # what a library wrote to the old object belongs to the scratch file
            os.dup2(saved, 2)
            os.close(saved)
            size = scratch.seek(0, os.SEEK_END)
            scratch.seek(max(0, size - _KEEP_BYTES))
            captured.text = scratch.read().decode("utf-8", "replace")


def flush(stream: io.TextIOBase | object) -> None:
    """Flush a stream that may be absent or closed already."""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        stream.flush()  # type: ignore[union-attr]


def _of(stream: object, what: str) -> str:
    return str(getattr(stream, what, None) or {"encoding": "utf-8", "errors": "replace"}[what])


def _is_fd2(stream: object) -> bool:
    try:
        return bool(stream.fileno() == 2)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
