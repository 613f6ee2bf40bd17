"""A file's pages in the kernel's page cache: thrown out, read in, and counted. Linux; elsewhere it says what it cannot.

`posix_fadvise(DONTNEED)` is a wish: dirty pages and pages that another process has mapped stay. So the pages are
counted afterwards with `mincore`, and a report shows the fraction rather than the intention.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from models.common.errors import UsageError

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_CHUNK_BYTES = 1 << 20


def can_evict() -> bool:
    """Whether this system takes pages of one file out of the cache on request."""
    return hasattr(os, "posix_fadvise")


def evict(files: Sequence[Path]) -> None:
    """Ask the kernel to forget the pages of `files`; harmless where it cannot (see `can_evict`).

    Raises:
        UsageError: a file cannot be opened.
    """
    if not can_evict():
        return
    for file in files:
        try:
            descriptor = os.open(file, os.O_RDONLY)
        except OSError as exc:
            raise UsageError(f"{file}: cannot be opened to empty its page cache: {exc.strerror or exc}") from exc
        try:
            os.fsync(descriptor)  # a dirty page is never dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as exc:
            raise UsageError(f"{file}: its page cache cannot be emptied: {exc.strerror or exc}") from exc
        finally:
            os.close(descriptor)


def warm(files: Sequence[Path]) -> None:
    """Read every byte of `files` once, so that the next reader finds them in memory."""
    for file in files:
        with file.open("rb") as stream:
            while stream.read(_CHUNK_BYTES):
                pass


def drop_everything() -> None:
    """Empty the page cache of the whole machine (root on Linux). Every other process pays for it too.

    Raises:
        UsageError: it is not permitted, or this is no Linux.
    """
    try:
        os.sync()
        DROP_CACHES.write_text("3\n", encoding="ascii")
    except OSError as exc:
        raise UsageError(
            f"--drop-caches: {DROP_CACHES} cannot be written ({exc.strerror or exc}); it needs root on Linux. "
            f"Leave the option out: the model's own files are then evicted one by one"
        ) from exc


def resident_fraction(file: Path) -> float | None:
    """How much of a file lies in the page cache, 0 to 1; None where it is not known (no mincore, empty file)."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "mincore"):
        return None
    try:
        with file.open("rb") as stream:
            # A private copy-on-write map: mincore sees the file's pages, and nothing here touches one.
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):
        return None
    first = ctypes.c_char.from_buffer(mapped)
    try:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        flags = (ctypes.c_ubyte * pages)()
        failed = library.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(mapped)), flags)
    finally:
        del first
        mapped.close()
    return None if failed else sum(flag & 1 for flag in flags) / pages
