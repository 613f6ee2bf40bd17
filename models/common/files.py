"""Files and folders that appear whole or not at all: write aside, rename into place, sweep up after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from models.common.errors import OutputError

PARTIAL = ".partial-"
REPLACED = ".replaced-"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _pid_of(folder: Path, marker: str) -> int | None:
    tail = folder.name.rpartition(marker)[2]
    return int(tail) if tail.isdigit() else None


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


def sweep(target: Path) -> None:
    """Undo what a killed process left beside `target`: drop half-written folders, restore a replaced one."""
    for folder in sorted(target.parent.glob(f".{target.name}{REPLACED}*")):
        pid = _pid_of(folder, REPLACED)
        if pid is None or (pid != os.getpid() and _alive(pid)):
            continue
        if target.exists():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.rename(target)
    for folder in target.parent.glob(f".{target.name}{PARTIAL}*"):
        pid = _pid_of(folder, PARTIAL)
        if pid is not None and (pid == os.getpid() or not _alive(pid)):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A folder to write into that becomes `target` when the block ends without an error.

    An existing `target` is replaced at the very end and is untouched if anything fails.

    Args:
        target: where the finished folder is to be.

    Yields:
        an empty folder beside `target`.

    Raises:
        OutputError: the place cannot be written (read-only, full, a file stands there).
    """
    partial = target.parent / f".{target.name}{PARTIAL}{os.getpid()}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        partial.mkdir()
    except OSError as exc:
        raise OutputError(
            f"{target}: cannot be written: {exc.strerror or exc}; choose another folder with --output"
        ) from exc
    try:
        yield partial
        _put_in_place(partial, target)
    except OSError as exc:
        raise OutputError(f"{target}: cannot be written: {exc.strerror or exc}; nothing was changed") from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    replaced = target.parent / f".{target.name}{REPLACED}{os.getpid()}"
    target.rename(replaced)
    try:
        partial.rename(target)
    except OSError:
        replaced.rename(target)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time work in `folder` (made if missing); the others wait.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be written: {exc.strerror or exc}; set HEARPACK_CACHE elsewhere") from exc
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it when the process ends, however it ends
        yield


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
        raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}; {remedy}") from exc
    with atomic_file(path, remedy) as file:
        file.write(encoded(data) if isinstance(data, str) else data)


def save_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all, in a folder that is there; OutputError if it cannot be written."""
    with atomic_file(Path(path)) as file:
        file.write(encoded(text))


def check_place(path: str | Path | None) -> None:
    """Raise OutputError where no file of this name can be made; to be asked before long work. None is no file."""
    if path is None:
        return
    file = Path(path)
    if not file.name or file.is_dir():
        raise OutputError(f"{file}: is a folder; expected a file name")
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
    # Not the process id alone: containers that share a cache share their ids.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}; {remedy}") from exc
    finally:
        with contextlib.suppress(OSError):  # a read-only folder refuses even this; the first error is reported
            temporary.unlink(missing_ok=True)
