"""A FlatBuffers reader that checks every offset before it follows it.

TensorFlow Lite follows the offsets of a damaged file without looking and takes the process down, so
a file is walked with this first. Layout: https://flatbuffers.dev/internals (little-endian; a table
starts with the signed distance back to its vtable, which holds one 16-bit offset a field).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from models.common.errors import ArtefactError

_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8, "f": 4}


def read(data: bytes | memoryview, code: str, at: int) -> int:
    """One little-endian integer (struct code) at byte `at`.

    Raises:
        ArtefactError: it lies outside the file.
    """
    if at < 0 or at + _SIZES[code] > len(data):
        raise ArtefactError(
            f"damaged file: an offset points to byte {at}, the file has {len(data)}; fetch or export it again"
        )
    value: int = struct.unpack_from("<" + code, data, at)[0]
    return value


def span(data: bytes | memoryview, start: int, count: int, item_bytes: int) -> None:
    """Raise ArtefactError unless `count` items from `start` lie inside the file."""
    if start < 0 or start + count * item_bytes > len(data):
        raise ArtefactError(
            f"damaged file: a vector of {count * item_bytes} bytes starts at byte {start}, "
            f"the file has {len(data)}; fetch or export it again"
        )


@dataclass(frozen=True)
class Table:
    """One table of a flatbuffer; fields are addressed by their number in the schema."""

    data: bytes
    at: int

    def _field(self, slot: int) -> int:
        """Absolute position of a field, 0 where it is absent."""
        vtable = self.at - read(self.data, "i", self.at)
        length = read(self.data, "H", vtable)
        if 4 + 2 * slot + 2 > length:
            return 0
        relative = read(self.data, "H", vtable + 4 + 2 * slot)
        return self.at + relative if relative else 0

    def scalar(self, slot: int, code: str, default: int = 0) -> int:
        """An integer field, or its default."""
        at = self._field(slot)
        return read(self.data, code, at) if at else default

    def _target(self, slot: int) -> int:
        at = self._field(slot)
        return at + read(self.data, "I", at) if at else 0

    def table(self, slot: int) -> Table | None:
        """A table field."""
        at = self._target(slot)
        return Table(self.data, at) if at else None

    def raw(self, slot: int, item_bytes: int = 1) -> tuple[int, int] | None:
        """Start and item count of a vector field, bounds checked; None where absent."""
        at = self._target(slot)
        if not at:
            return None
        count = read(self.data, "I", at)
        span(self.data, at + 4, count, item_bytes)
        return at + 4, count

    def ints(self, slot: int, code: str = "i") -> tuple[int, ...]:
        """A vector of integers; empty where absent."""
        found = self.raw(slot, _SIZES[code])
        if found is None:
            return ()
        start, count = found
        return tuple(struct.unpack_from(f"<{count}{code}", self.data, start))

    def tables(self, slot: int) -> tuple[Table, ...]:
        """A vector of tables; empty where absent."""
        found = self.raw(slot, 4)
        if found is None:
            return ()
        start, count = found
        return tuple(Table(self.data, at + read(self.data, "I", at)) for at in range(start, start + 4 * count, 4))

    def text(self, slot: int) -> str:
        """A string field; empty where absent."""
        found = self.raw(slot)
        return "" if found is None else bytes(self.data[found[0] : found[0] + found[1]]).decode("utf-8", "replace")


def root(data: bytes, identifier: bytes, what: str) -> Table:
    """The root table of a flatbuffer.

    Args:
        data: the whole file.
        identifier: the four bytes expected at byte 4.
        what: how to call the file in a message.

    Raises:
        ArtefactError: too short, or another kind of file.
    """
    if len(data) < 16:
        raise ArtefactError(f"not {what}: {len(data)} bytes are too few")
    if data[4:8] != identifier:
        raise ArtefactError(f"not {what}: expected {identifier!r} at byte 4, got {bytes(data[4:8])!r}")
    return Table(data, read(data, "I", 0))
