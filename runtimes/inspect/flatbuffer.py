"""A FlatBuffers reader that checks every offset before it follows it.

TensorFlow Lite follows the offsets of a damaged file without looking and takes the process down, so
a file is walked with this first. Layout: https://flatbuffers.dev/internals (little-endian; a table
starts with the signed distance back to its vtable, which holds one 16-bit offset a field).
"""

from __future__ import annotations

import struct

from models.common.errors import ArtefactError

MOST_TABLES = 200_000  # the largest net of the catalogue has 10,000
_FORMS = {code: struct.Struct("<" + code) for code in "bBhHiIqQf"}
_SIZES = {code: form.size for code, form in _FORMS.items()}


def read(data: bytes | memoryview, code: str, at: int) -> int:
    """One little-endian integer (struct code) at byte `at`.

    Raises:
        ArtefactError: it lies outside the file.
    """
    form = _FORMS[code]
    if at < 0 or at + form.size > len(data):
        raise ArtefactError(
            f"damaged file: an offset points to byte {at}, the file has {len(data)}; fetch or export it again"
        )
    value: int = form.unpack_from(data, at)[0]
    return value


def span(data: bytes | memoryview, start: int, count: int, item_bytes: int) -> None:
    """Raise ArtefactError unless `count` items from `start` lie inside the file."""
    if start < 0 or start + count * item_bytes > len(data):
        raise ArtefactError(
            f"damaged file: a vector of {count * item_bytes} bytes starts at byte {start}, "
            f"the file has {len(data)}; fetch or export it again"
        )


class Budget:
    """How much of a file may be read in all: vectors and tables of an honest one do not lie over each other.

    Without it, a few kilobytes of offsets that all lead to one long vector are hours of reading.
    """

    __slots__ = ("bytes", "tables")

    def __init__(self, file_bytes: int) -> None:
        self.bytes = 4 * file_bytes + (1 << 20)
        self.tables = MOST_TABLES

    def take(self, count: int) -> None:
        """Take `count` bytes from it; ArtefactError where it is used up."""
        self.bytes -= count
        if self.bytes < 0:
            raise ArtefactError("damaged file: its lists lie over each other; fetch or export it again")

    def take_table(self) -> None:
        """Take a table from it; ArtefactError where it is used up."""
        self.tables -= 1
        if self.tables < 0:
            raise ArtefactError(f"damaged file: it has more than {MOST_TABLES} tables; fetch or export it again")


class Table:
    """One table of a flatbuffer; fields are addressed by their number in the schema."""

    __slots__ = ("_budget", "_fields", "at", "data")

    def __init__(self, data: bytes, at: int, budget: Budget) -> None:
        self.data, self.at, self._budget = data, at, budget
        budget.take_table()
        vtable = at - read(data, "i", at)
        count = (read(data, "H", vtable) - 4) // 2
        span(data, vtable + 4, count, 2)
        self._fields = struct.unpack_from(f"<{max(0, count)}H", data, vtable + 4)

    def _field(self, slot: int) -> int:
        """Absolute position of a field, 0 where it is absent."""
        relative = self._fields[slot] if slot < len(self._fields) else 0
        return self.at + relative if relative else 0

    def scalar(self, slot: int, code: str, default: int = 0) -> int:
        """An integer field, or its default."""
        at = self._field(slot)
        return read(self.data, code, at) if at else default

    def _target(self, slot: int) -> int:
        at = self._field(slot)
        if not at:
            return 0
        return at + read(self.data, "I", at)

    def table(self, slot: int) -> Table | None:
        """A table field."""
        at = self._target(slot)
        return Table(self.data, at, self._budget) if at else None

    def raw(self, slot: int, item_bytes: int = 1) -> tuple[int, int] | None:
        """Start and item count of a vector field, bounds checked; None where absent."""
        at = self._target(slot)
        if not at:
            return None
        count = read(self.data, "I", at)
        span(self.data, at + 4, count, item_bytes)
        self._budget.take(count * item_bytes)
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
        return tuple(
            Table(self.data, at + read(self.data, "I", at), self._budget) for at in range(start, start + 4 * count, 4)
        )

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
    return Table(data, read(data, "I", 0), Budget(len(data)))
