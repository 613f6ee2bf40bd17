"""Temporaries that the next run can tell from results, and remove once nobody needs them.

Each is named `.NAME.new.hearpack-PID-TOKEN` (or `.old.`, a result that waits for its successor) and is locked as long
as its process lives. The kernel lets go of the lock however the process ends, so what is unlocked and of a process
that is gone, or old, was left by a kill. `sweep` removes it, or puts an old result back where its place is empty.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from models.common.errors import OutputError

_NAME = re.compile(r"\.(?P<name>.+)\.(?P<role>new|old)\.hearpack-(?P<pid>\d+)-[0-9a-f]{8}", re.S)
_LONGEST_NAME_BYTES = 200  # of the 255 that a file system takes; the rest is the mark
_OLD_S = 24 * 3600.0  # a process id may have been given to another process by then
_LIVE: set[Path] = set()
_GUARD = threading.Lock()
_closed = False


def beside(target: Path, role: str = "new") -> Path:
    """A name for a temporary in the folder of `target`; role "old" is for a result to put back after a kill."""
    stem = os.fsencode(target.name)
    stem = stem if role == "old" else stem[:_LONGEST_NAME_BYTES]  # a role that is put back needs its whole name
    # Not the process id alone: containers that share a folder share their ids, and threads have one.
    mark = f".{role}.hearpack-{os.getpid()}-{secrets.token_hex(4)}"
    return target.with_name(os.fsdecode(b"." + stem + mark.encode()))


def remove(path: Path) -> None:
    """Remove a file, link or folder as far as that is permitted."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # a read-only folder refuses; the first error is the one to report
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(target: Path) -> Iterator[Path]:
    """The name of a temporary beside `target`; what is there when the block ends is removed."""
    path = beside(target)
    with _GUARD:
        if _closed:
            raise KeyboardInterrupt
        _LIVE.add(path.absolute())
    try:
        yield path
    finally:
        remove(path)
        with _GUARD:
            _LIVE.discard(path.absolute())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a temporary that exists."""
    handle = -1
    with contextlib.suppress(OSError):  # file systems without locks: its process id has to do
        handle = os.open(path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def remove_live() -> None:
    """Remove this process's temporaries, and let no more be made: for a process that is about to end."""
    global _closed
    with _GUARD:
        _closed = True
        live = sorted(_LIVE)
    for path in live:
        for _ in range(20):  # another thread may be writing into it
            remove(path)
            if not os.path.lexists(path):
                break
            time.sleep(0.01)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is a temporary of ours."""
    return _NAME.fullmatch(name) is not None


def abandoned(path: Path) -> bool:
    """Whether a temporary's process is gone."""
    found = _NAME.fullmatch(path.name)
    with _GUARD:
        if found is None or path.absolute() in _LIVE:
            return False
    try:
        old = time.time() - path.lstat().st_mtime > _OLD_S
    except OSError:
        return False
    return (old or not _alive(int(found["pid"]))) and not _is_locked(path)


def sweep(folder: Path) -> None:
    """Undo what killed processes left in `folder`: drop what was half-written, put back a result that was moved."""
    for path in leftovers(folder):
        found = _NAME.fullmatch(path.name)
        if found and found["role"] == "old" and not os.path.lexists(path.with_name(found["name"])):
            with contextlib.suppress(OSError):
                path.rename(path.with_name(found["name"]))
        else:
            remove(path)


def leftovers(folder: Path) -> list[Path]:
    """What killed processes left in `folder`; nothing where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if is_temporary(entry.name))
    except OSError:
        return []
    return [folder / name for name in names if abandoned(folder / name)]


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # what this process needs is in _LIVE: another process had this id before
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_locked(path: Path) -> bool:
    if path.is_symlink():
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks here
        return False
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def scratch(what: str, folder: Path | None = None) -> Iterator[Path]:
    """A folder for temporary files, removed when the block ends, or by the next run after a kill.

    Args:
        what: a word for its name.
        folder: where it is made; the system's place for temporary files (TMPDIR) when None.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        place = Path(tempfile.gettempdir()) if folder is None else folder
    except OSError as exc:
        raise OutputError(f"temporary files cannot be written: {exc.strerror}; set TMPDIR to another folder") from exc
    sweep(place)
    with claimed(place / what) as path:
        try:
            path.mkdir(mode=0o700)
        except OSError as exc:
            remedy = "set TMPDIR to another folder" if folder is None else "choose another folder"
            raise OutputError(f"{place}: cannot be written: {exc.strerror or exc}; {remedy}") from exc
        with locked(path):
            yield path
