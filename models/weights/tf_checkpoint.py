"""Read a TensorFlow checkpoint (tensor bundle) without TensorFlow.

`variables.index` is a sorted string table in LevelDB's format: blocks of prefix-compressed entries, an
index block, a 48-byte footer. Every value but the first is a BundleEntryProto that says where in
`variables.data-00000-of-00001` a tensor lies. Formats: LevelDB doc/table_format.md; tensorflow/core/
protobuf/tensor_bundle.proto. Both files carry CRC-32C sums, and all of them are checked: nothing is
allocated that the files' own sizes do not cover.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from models.common.errors import WeightsError

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bit-reversed
_FLOAT32 = 1  # DataType.DT_FLOAT


def _crc_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C of some bytes, in many lanes at once (a byte-wise loop in Python takes seconds on 15 MB)."""
    if len(data) < 4:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = int(_TABLE[(crc ^ byte) & 0xFF]) ^ crc >> 8
        return crc ^ 0xFFFFFFFF
    steps = max(64, math.isqrt(len(data)))
    lanes = max(1, -(-len(data) // steps))
    padded = np.zeros(lanes * steps, np.uint8)  # zeros in front leave a zero register at zero
    start = padded.size - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= 0xFF  # the same as starting from all ones
    columns = np.ascontiguousarray(padded.reshape(lanes, steps).T)
    # behind the data's lanes: 32 more that show what `steps` zero bytes do to each bit of the register
    register = np.concatenate([np.zeros(lanes, np.uint32), np.uint32(1) << np.arange(32, dtype=np.uint32)])
    for column in columns:
        index = register.astype(np.uint8)
        index[:lanes] ^= column
        register = _TABLE[index] ^ (register >> np.uint32(8))
    shift = [int(value) for value in register[lanes:]]
    crc = 0
    for lane in register[:lanes].tolist():
        shifted = 0
        for bit in range(32):
            if crc >> bit & 1:
                shifted ^= shift[bit]
        crc = shifted ^ lane
    return crc ^ 0xFFFFFFFF


def _unmask(masked: int) -> int:
    """Undo LevelDB's masking of a stored CRC (a rotation and an offset)."""
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WeightsError("checkpoint index: a number is longer than 64 bits; the file is corrupt")


def _block(index: bytes, offset: int, size: int) -> bytes:
    """One uncompressed block, its type and CRC checked."""
    stored = index[offset : offset + size + 5]
    if len(stored) != size + 5:
        raise WeightsError(f"checkpoint index: a block of {size} bytes at {offset} does not fit in {len(index)} bytes")
    if stored[size] != 0:
        raise WeightsError(f"checkpoint index: block type {stored[size]}, only uncompressed blocks (0) are read")
    if crc32c(stored[: size + 1]) != _unmask(int.from_bytes(stored[size + 1 :], "little")):
        raise WeightsError(f"checkpoint index: the block at {offset} does not match its CRC; the file is corrupt")
    return stored[:size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; keys share a prefix with the one before."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise WeightsError(
            f"checkpoint index: a block of {len(block)} bytes cannot have {restarts} restarts; it is corrupt"
        )
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + unshared + length > end:
            raise WeightsError("checkpoint index: an entry reaches beyond its block; the file is corrupt")
        key = key[:shared] + block[at : at + unshared]
        at += unshared + length
        yield key, block[at - length : at]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protobuf message (varint, 32-bit, 64-bit and length-delimited)."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind, -1)
        if kind == 2:
            length, at = _varint(message, at)
        if length < 0 or at + length > len(message):
            raise WeightsError(
                f"checkpoint index: field {tag >> 3} of wire type {kind} cannot be read; the file is corrupt"
            )
        raw = message[at : at + length]
        at += length
        yield tag >> 3, raw if kind == 2 else int.from_bytes(raw, "little")


def _tensor(name: str, entry: bytes, data: bytes) -> NDArray[np.float32] | None:
    """The float32 tensor of a BundleEntryProto; None for one of another type (counters, the object graph)."""
    values = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}  # dtype, shard_id, offset, size, crc32c
    shape: list[int] = []
    for number, value in _fields(entry):
        if number == 2 and isinstance(value, bytes):
            dims = [v for n, v in _fields(value) if n == 2 and isinstance(v, bytes)]
            shape = [next((v for n, v in _fields(dim) if n == 1 and isinstance(v, int)), 0) for dim in dims]
        elif number in values and isinstance(value, int):
            values[number] = value
    dtype, shard, offset, size, masked = (values[number] for number in (1, 3, 4, 5, 6))
    if dtype != _FLOAT32:
        return None
    if shard != 0 or size != 4 * math.prod(shape) or offset + size > len(data):
        raise WeightsError(
            f"checkpoint: {name} of shape {shape} wants {size} bytes at {offset} of shard {shard}, "
            f"the data file (shard 0) has {len(data)}; it is truncated or not of this index"
        )
    raw = data[offset : offset + size]
    if size and crc32c(raw) != _unmask(masked):
        raise WeightsError(f"checkpoint: {name} does not match its CRC; the data file is corrupt")
    return np.frombuffer(raw, "<f4").astype(np.float32).reshape(shape)


def read_checkpoint(index: bytes, data: bytes, prefix: str = "") -> Mapping[str, NDArray[np.float32]]:
    """All float32 tensors of a checkpoint whose name starts with `prefix`.

    Args:
        index: content of `variables.index`.
        data: content of `variables.data-00000-of-00001`.
        prefix: only names that start so, and it is taken off.

    Returns:
        tensors by name, without Keras' "/.ATTRIBUTES/VARIABLE_VALUE" at the end.

    Raises:
        WeightsError: not a checkpoint, truncated, or a CRC does not match.
    """
    if len(index) < _FOOTER_BYTES or int.from_bytes(index[-8:], "little") != _MAGIC:
        raise WeightsError(f"checkpoint index: expected a LevelDB table, got {len(index)} bytes without its footer")
    tensors: dict[str, NDArray[np.float32]] = {}
    blocks_bytes = tensors_bytes = 0
    try:
        footer = index[-_FOOTER_BYTES:]
        at = 0
        numbers = []
        for _ in range(4):  # offset and size of the meta-index block, then of the index block
            number, at = _varint(footer, at)
            numbers.append(number)
        for _, handle in _entries(_block(index, numbers[2], numbers[3])):
            offset, at = _varint(handle, 0)
            size, _ = _varint(handle, at)
            blocks_bytes += size
            if blocks_bytes > len(index):
                raise WeightsError("checkpoint index: its blocks overlap; the file is corrupt")
            for key, entry in _entries(_block(index, offset, size)):
                name = key.decode("utf-8")
                tensor = _tensor(name, entry, data) if name.startswith(prefix) and key else None
                if tensor is not None:
                    tensors_bytes += tensor.nbytes
                    if tensors_bytes > len(data):
                        raise WeightsError("checkpoint: tensors overlap in the data file; the index is corrupt")
                    tensors[name.removeprefix(prefix).removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")] = tensor
    except (IndexError, UnicodeDecodeError) as exc:
        raise WeightsError("checkpoint index: ends in the middle of an entry; the file is corrupt") from exc
    return tensors
