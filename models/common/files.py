"""Files and folders that appear whole or not at all: written aside, synced, exchanged with what was there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from models.common.errors import OutputError, UsageError
from models.common.exchange import exchange
from models.common.temporary import beside, claimed, locked, remove, sweep

LOCK = ".lock"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_AT_ONCE = 8
_TRIES = 20  # other processes may put their result there at the same time


def as_path(path: str | Path | None) -> Path | None:
    """An optional path as Path."""
    return None if path is None else Path(path)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder's files into `target`; the first OSError ends it (shutil.copytree collects them all into one)."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.rglob("*")):
        copy = target / file.relative_to(source)
        if file.is_dir():
            copy.mkdir(exist_ok=True)
        else:
            shutil.copyfile(file, copy)


def cannot_write(exc: OSError, place: Path, remedy: str) -> OutputError:
    """The error to raise where writing `place` failed: it names the disk that is full, which may be TMPDIR's."""
    if exc.errno in _FULL:
        return no_space(place, remedy)
    return OutputError(f"{place}: cannot be written: {exc.strerror or exc}; {remedy}")


def no_space(place: Path, remedy: str = "free some, or choose another folder") -> OutputError:
    """The error of a full disk: TMPDIR's, where that is another disk than that of `place` and has less left."""
    here, free = _disk(place)
    with contextlib.suppress(OSError):
        temporary = Path(tempfile.gettempdir())
        there, free_there = _disk(temporary)
        if there != here and free_there < free:
            return OutputError(
                f"no space left for temporary files in {temporary} ({free_there / 1e6:.1f} MB free); free some, or set "
                f"TMPDIR to another folder; nothing was changed"
            )
    return OutputError(f"{place}: cannot be written: no space left ({free / 1e6:.1f} MB free); {remedy}")


def is_full(exc: BaseException | None) -> bool:
    """Whether a full disk is behind an error, its causes and what libraries say in words included."""
    while exc is not None:
        if (isinstance(exc, OSError) and exc.errno in _FULL) or os.strerror(errno.ENOSPC) in str(exc):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _disk(path: Path) -> tuple[int, int]:
    """The device that holds a path, or would, and its free bytes."""
    path = path.absolute()
    there = next(p for p in (path, *path.parents) if p.exists())
    return there.stat().st_dev, shutil.disk_usage(there).free


@contextlib.contextmanager
def atomic_folder(target: Path, remedy: str = "choose another folder with --output") -> Iterator[Path]:
    """A folder to write into that becomes `target` when the block ends without an error.

    An existing `target` changes places with it at the very end, in one step where the system can, and is untouched if
    anything fails. What killed processes left beside `target` is removed first.

    Args:
        target: where the finished folder is to be.
        remedy: what a message says to do when the place cannot be written.

    Yields:
        an empty folder beside `target`.

    Raises:
        OutputError: the place cannot be written (read-only, full, a file stands there).
    """
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: cannot be written: a file of this name is there; move it away")
    with claimed(target) as partial:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target.parent)
            partial.mkdir()
        except OSError as exc:
            raise cannot_write(exc, target, remedy) from exc
        with locked(partial):
            try:
                yield partial
                _sync_tree(partial)
                _put_in_place(partial, target)
                _sync(target.parent)
            except OSError as exc:
                raise cannot_write(exc, target, f"nothing was changed; {remedy}") from exc


def _put_in_place(partial: Path, target: Path) -> None:
    """Rename a folder to `target`; what was there is gone, or is called `partial` now."""
    for _ in range(_TRIES):
        try:
            if not target.is_symlink():
                partial.rename(target)  # nothing there, or an empty folder
                return
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        with contextlib.suppress(FileNotFoundError):  # another process has just moved it
            if exchange(partial, target):
                return
            if _step_aside(partial, target):
                return
    raise OSError(errno.EBUSY, "other processes keep writing it")


def _step_aside(partial: Path, target: Path) -> bool:
    """The same in two steps, for file systems that cannot exchange; `sweep` undoes the first after a kill."""
    old = beside(target, "old")
    target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        if not os.path.lexists(target):
            old.rename(target)
            raise
        remove(old)
        return False
    remove(old)
    return True


def _sync(path: Path) -> None:
    """Have the disk keep a file, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):  # a file system that keeps no promise for these
            raise
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor  # late: a command that writes no folder starts without

    paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # the disk writes them together: ten times faster than one by one
        list(pool.map(_sync, paths))


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time work in `folder` (made if missing); the others wait. Marks when it was used.

    Raises:
        OutputError: the folder cannot be written.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / LOCK).open("w")
        except OSError as exc:
            raise cannot_write(exc, folder, "set HEARPACK_CACHE to another folder") from exc
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it when the process ends, however it ends
            if not _same_file(lock, folder / LOCK):
                continue  # `hearpack clean` took the folder away while we waited
            os.utime(lock.fileno())
            yield
            return


def free_to_remove(folder: Path) -> bool:
    """Take a folder that `exclusive` guards out of the way and remove it, unless it is in use.

    Returns:
        whether it was removed.
    """
    with contextlib.suppress(OSError), (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with claimed(folder) as away:
            folder.rename(away)
        return True
    return False


def _same_file(stream: TextIO, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


MOST_TEXT_BYTES = 256 * 1024 * 1024


def read_file(path: Path) -> bytes:
    """A whole file of people or of a tool, a bounded one: a device never ends, and a pipe may never begin.

    Raises:
        OSError: it cannot be read, is no plain file, or holds more than `MOST_TEXT_BYTES`.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no plain file")
        data = file.read(MOST_TEXT_BYTES + 1)
    if len(data) > MOST_TEXT_BYTES:
        raise OSError(errno.EFBIG, f"holds more than {MOST_TEXT_BYTES >> 20} MB")
    return data


def _unpacked(data: bytes) -> bytes:
    """What a gzip file holds: as much as `read_file` reads, and no more."""
    import gzip  # late: few files are packed
    import zlib

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            found = packed.read(MOST_TEXT_BYTES + 1)
    except EOFError as exc:
        raise OSError(errno.EINVAL, "is cut off: the end of its gzip data is missing") from exc
    except (zlib.error, gzip.BadGzipFile) as exc:
        raise OSError(errno.EINVAL, "is no gzip file, or a damaged one") from exc
    if len(found) > MOST_TEXT_BYTES:
        raise OSError(errno.EFBIG, f"holds more than {MOST_TEXT_BYTES >> 20} MB")
    return found


def read_text(path: Path) -> str:
    """The text of such a file, lines ended by line feeds; NAME.gz is unpacked.

    Raises:
        OSError: as `read_file`; or NAME.gz is no whole gzip file.
        UnicodeDecodeError: it is no UTF-8.
    """
    data = read_file(path)
    if path.suffix == ".gz":
        data = _unpacked(data)
    return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair, as names of files that are not UTF-8 have them, as its escape."""
    return text.encode("utf-8", "backslashreplace")


def write_atomic(path: Path, data: bytes | str, remedy: str = "nothing was changed") -> None:
    """Write a file so that a reader, or another writer, sees the old or the new one, never half of one.

    Args:
        path: the file; its folder is made if missing.
        data: its content; text is written as UTF-8.
        remedy: what a message says to do when the place cannot be written.

    Raises:
        OutputError: the folder cannot be written, or is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise cannot_write(exc, path, remedy) from exc
    with atomic_file(path, remedy) as file:
        file.write(encoded(data) if isinstance(data, str) else data)


def save_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all, in a folder that is there; OutputError if it cannot be written."""
    with atomic_file(Path(path)) as file:
        file.write(encoded(text))


def check_place(path: str | Path | None, suffix: str = "") -> None:
    """Raise OutputError where no file of this name can be made, or UsageError where it has not the `suffix` that tells
    what is in it; to be asked before long work. None is no file."""
    if path is None:
        return
    file = Path(path)
    if not file.name or file.is_dir():
        raise OutputError(f"{file}: is a folder; expected a file name")
    if suffix and file.suffix.lower() != suffix:
        raise UsageError(f"{file}: expected the name of a {suffix} file")
    if not file.parent.is_dir():
        raise OutputError(f"{file}: the folder {file.parent} does not exist; make it first")


@contextlib.contextmanager
def atomic_file(path: Path, remedy: str = "nothing was changed") -> Iterator[BinaryIO]:
    """A file that appears under its name complete or not at all.

    Args:
        path: the final name; written beside it under a temporary one and renamed.
        remedy: what a message says to do when the place cannot be written.

    Raises:
        OutputError: it cannot be written; nothing is left behind.
    """
    check_place(path)
    sweep(path.parent)
    with claimed(path) as temporary:
        try:
            with temporary.open("xb") as stream, locked(temporary):
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            _sync(path.parent)
        except OSError as exc:
            raise cannot_write(exc, path, remedy) from exc
