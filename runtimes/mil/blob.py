"""Core ML's weight file (storage format 2): 64-byte records that point at data, all little-endian.

file header   uint32 count, uint32 version = 2, padding to 64 bytes
record        uint32 sentinel 0xDEADBEEF, uint32 type, uint64 bytes, uint64 offset, uint64 padding bits, to 64 bytes
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError

Value = NDArray[Any]

_RECORD = struct.Struct("<IIQQQ")
_RECORD_BYTES = 64
_SENTINEL = 0xDEADBEEF
_VERSION = 2

# type name in the program -> (type number in the blob, bits an element, stored as). bfloat16 and float8 are not
# among the types that an ML Program's tensors take today.
STORED: dict[str, tuple[int, int, str]] = {
    "fp16": (1, 16, "<f2"),
    "fp32": (2, 32, "<f4"),
    "uint8": (3, 8, "u1"),
    "int8": (4, 8, "i1"),
    "int16": (6, 16, "<i2"),
    "uint16": (7, 16, "<u2"),
    "int4": (8, 4, "i1"),
    "uint1": (9, 1, "u1"),
    "uint2": (10, 2, "u1"),
    "uint4": (11, 4, "u1"),
    "uint3": (12, 3, "u1"),
    "uint6": (13, 6, "u1"),
    "int32": (14, 32, "<i4"),
    "uint32": (15, 32, "<u4"),
}


def stored_bytes(dtype: str, count: int) -> int:
    """Bytes that `count` elements of `dtype` take, sub-byte types packed."""
    return (count * STORED[dtype][1] + 7) // 8


def unpack(raw: NDArray[np.uint8], bits: int, count: int, signed: bool = False) -> Value:
    """Elements of a sub-byte type, packed from the least significant bit on.

    Args:
        raw: packed bytes.
        bits: bits an element, 1 to 7.
        count: elements wanted.
        signed: two's complement.

    Returns:
        uint8 (or int8) [count].

    Raises:
        ArtefactError: fewer bytes than the elements take.
    """
    if count < 0 or raw.size * 8 < count * bits:
        raise ArtefactError(f"{count} elements of {bits} bits do not fit into {raw.size} bytes; the package is corrupt")
    stream = np.unpackbits(raw, bitorder="little", count=count * bits).reshape(count, bits)
    values = np.zeros(count, np.uint8)
    for bit in range(bits):
        values |= stream[:, bit] << np.uint8(bit)
    if not signed:
        return values
    wide = values.astype(np.int16)
    return np.where(wide >= 1 << (bits - 1), wide - (1 << bits), wide).astype(np.int8)


def decode(raw: bytes | NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> Value:
    """Bytes as an array of the program's type (sub-byte types widened to 8 bits).

    Raises:
        ArtefactError: the bytes do not fit the shape.
    """
    count = math.prod(shape)
    data = np.frombuffer(raw, np.uint8)
    if dtype not in STORED or data.size < stored_bytes(dtype, count):
        raise ArtefactError(f"a constant of type {dtype} {list(shape)} does not fit its {data.size} bytes")
    _, bits, numpy_type = STORED[dtype]
    if bits < 8:
        return unpack(data, bits, count, signed=numpy_type == "i1").reshape(shape)
    return data[: stored_bytes(dtype, count)].view(numpy_type).reshape(shape)


class BlobFile:
    """A weights file, read piece by piece.

    Args:
        path: the file.

    Raises:
        ArtefactError: it is no storage-format-2 file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = path.stat().st_size
        header = self._read(0, 8, "header")
        if struct.unpack("<II", header)[1] != _VERSION:
            raise ArtefactError(f"{path.name}: not a Core ML weights file of storage version {_VERSION}")

    def _read(self, offset: int, count: int, what: str) -> bytes:
        if offset + count > self._bytes:
            raise ArtefactError(
                f"{self._path.name} is truncated: {what} needs bytes {offset} to {offset + count}, "
                f"the file has {self._bytes}; copy the package again"
            )
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(count)

    def read(self, offset: int, dtype: str, shape: tuple[int, ...]) -> Value:
        """The array whose record lies at `offset`.

        Args:
            offset: byte offset of the record, as the program gives it.
            dtype: type in the program.
            shape: fixed shape.

        Raises:
            ArtefactError: the record is broken, of another type, or points out of the file.
        """
        if dtype not in STORED:
            raise ArtefactError(f"{self._path.name}: tensors of type {dtype} cannot be stored in a weights file")
        sentinel, number, size, start, _ = _RECORD.unpack_from(self._read(offset, _RECORD_BYTES, "a record"))
        if sentinel != _SENTINEL:
            raise ArtefactError(f"{self._path.name}: no weight record at byte {offset}; the package is corrupt")
        wanted = stored_bytes(dtype, math.prod(shape))
        if number != STORED[dtype][0] or size < wanted:
            raise ArtefactError(
                f"{self._path.name}: the record at byte {offset} (type {number}, {size} bytes) "
                f"is not the {dtype} {list(shape)} that the program expects there"
            )
        return decode(self._read(start, wanted, f"a {dtype} {list(shape)}"), dtype, shape)
