"""A zip from somebody else: bounded before anything is unpacked, and every fault of it is one error."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, KeyError),
    *(NotImplementedError, RuntimeError, OverflowError),
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ZipError(Exception):
    """A zip that cannot be read, or promises too much; one sentence without the file's name."""


@contextmanager
def bounded_zip(source: Path | BinaryIO, most_bytes: int) -> Iterator[zipfile.ZipFile]:
    """Open a zip whose entries are plain and together no larger than `most_bytes` when they are unpacked.

    Args:
        source: the file.
        most_bytes: for all entries; an entry cannot unpack to more than the directory says.

    Yields:
        the archive; reading in the block may fail as well.

    Raises:
        ZipError: no zip, damaged, encrypted, of an unusual method, too large, an entry outside, or one that is not
            there.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            if any(entry.flag_bits & 1 for entry in entries):
                raise ZipError("it is encrypted")
            if any(entry.compress_type not in _METHODS for entry in entries):
                raise ZipError("it is packed by an unusual method; expected stored or deflated entries")
            total = sum(entry.file_size for entry in entries)
            if total > most_bytes:
                raise ZipError(f"it unpacks to {total} bytes, at most {most_bytes} are read")
            outside = next((entry.filename for entry in entries if not _stays(entry.filename)), None)
            if outside is not None:
                raise ZipError(f"its entry {outside[:60]!r} would lie outside of the folder")
            yield archive
    except _ERRORS as exc:
        raise ZipError(f"it cannot be read as a zip ({str(exc)[:100]})") from exc


def _stays(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return parts[0] != "" and ".." not in parts and not re.fullmatch("[A-Za-z]:", parts[0])
