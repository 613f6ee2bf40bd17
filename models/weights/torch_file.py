"""A torch checkpoint as arrays, without torch: the zip of today, and the row of pickles of before torch 1.6.

Nothing in the file is executed (models/weights/torch_pickle.py), and nothing is made that is larger than the file:
a storage has the bytes that it claims, a tensor lies inside its storage.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.weights.torch_pickle import BrokenPickleError, StorageRef, TensorRef, read_pickle

Arrays = dict[str, NDArray[Any]]
Order = Literal["<", ">"]
Choose = Callable[[object], Mapping[str, TensorRef]]
_MAGIC = 0x1950A86A20F9469CFC6C
_LARGEST_PICKLE, _LARGEST_STREAM = 1 << 26, 1 << 33
# Views of one storage may be more than it holds (tied weights), but not without end (a stride of 0).
_SHARED, _FREE_ELEMENTS = 4, 1 << 20
_MOST_RANK = 32
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, KeyError),
    *(NotImplementedError, RuntimeError, OverflowError),
)


def read_torch_file(file: Path, choose: Choose) -> Arrays:
    """The tensors of a checkpoint that are wanted.

    Args:
        file: the checkpoint.
        choose: given what it holds (see `torch_pickle.read_pickle`), names those that are wanted.

    Returns:
        arrays by name, bfloat16 as float32.

    Raises:
        ForeignObjectError: it holds more than data.
        BrokenPickleError: truncated, damaged, or no checkpoint.
    """
    try:
        with file.open("rb") as stream:
            is_zip = stream.read(2) == b"PK"
        return (_read_zip if is_zip else _read_stream)(file, choose)
    except _ZIP_ERRORS as exc:
        raise BrokenPickleError(str(exc)[:100]) from exc


def _read_zip(file: Path, choose: Choose) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1 for e in entries):
            raise BrokenPickleError("its entries are compressed or encrypted, torch stores them")
        if sum(e.file_size for e in entries) > file.stat().st_size:
            raise BrokenPickleError("its entries overlap")
        sizes = {e.filename: e.file_size for e in entries}
        pickles = [name for name in sizes if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or sizes[pickles[0]] > _LARGEST_PICKLE:
            raise BrokenPickleError(f"{len(pickles)} data.pkl, expected one of at most {_LARGEST_PICKLE} bytes")
        prefix = pickles[0].removesuffix("data.pkl")
        order: Order = ">" if f"{prefix}byteorder" in sizes and archive.read(f"{prefix}byteorder") == b"big" else "<"

        def content(storage: StorageRef, size: int) -> bytes:
            name = f"{prefix}data/{storage.key}"
            if sizes.get(name) != size:
                raise BrokenPickleError(
                    f"storage {storage.key[:20]!r} has {sizes.get(name, 0)} bytes, it claims {size}"
                )
            return archive.read(name)

        return _arrays(choose(read_pickle(BytesIO(archive.read(pickles[0])), {})), content, order)


def _read_stream(file: Path, choose: Choose) -> Arrays:
    """Magic, protocol, facts of the system, the object, the storages' keys; then each storage's count and elements."""
    if file.stat().st_size > _LARGEST_STREAM:
        raise BrokenPickleError(f"more than {_LARGEST_STREAM} bytes")
    data = file.read_bytes()
    stream, storages, spans = BytesIO(data), dict[str, StorageRef](), dict[str, tuple[int, int]]()
    first = read_pickle(stream, {})
    if first != _MAGIC:  # a plain pickle, which has no storages: code in it was called code
        return _arrays(choose(first), lambda _storage, _size: b"", "<")
    _, facts, held, keys = (read_pickle(stream, storages) for _ in range(4))
    order: Order = ">" if isinstance(facts, dict) and facts.get("little_endian") is False else "<"
    at = stream.tell()
    for key in keys if isinstance(keys, list) else []:
        storage = storages[key]
        size = storage.count * _item_bytes(storage.kind)
        if data[at : at + 8] != storage.count.to_bytes(8, "big" if order == ">" else "little"):
            raise BrokenPickleError("truncated")
        spans[key] = (at + 8, size)
        at += 8 + size

    def content(storage: StorageRef, size: int) -> bytes:
        start, length = spans[storage.key]
        if length != size or start + size > len(data):
            raise BrokenPickleError("truncated")
        return data[start : start + size]

    return _arrays(choose(held), content, order)


def _item_bytes(kind: str) -> int:
    return {"bfloat16": 2, "bool": 1, "bytes": 1}.get(kind) or np.dtype(kind).itemsize


def _arrays(wanted: Mapping[str, TensorRef], content: Callable[[StorageRef, int], bytes], order: Order) -> Arrays:
    storages = {tensor.storage.key: tensor.storage for tensor in wanted.values()}
    held_bytes = {key: storage.count * _item_bytes(storage.kind) for key, storage in storages.items()}
    elements = sum(math.prod(tensor.shape) for tensor in wanted.values())
    if elements > _SHARED * sum(held_bytes.values()) + _FREE_ELEMENTS:
        raise BrokenPickleError(f"its tensors have {elements} elements, its storages {sum(held_bytes.values())} bytes")
    for tensor in wanted.values():
        if tensor.storage != storages[tensor.storage.key]:
            raise BrokenPickleError("a storage of two sizes")
    arrays: Arrays = {}
    raw: dict[str, bytes] = {}
    for name, tensor in wanted.items():
        key = tensor.storage.key
        if key not in raw:
            raw[key] = content(tensor.storage, held_bytes[key])
        arrays[name] = _array(tensor, raw[key], order)
    return arrays


def _array(tensor: TensorRef, raw: bytes, order: Order) -> NDArray[Any]:
    """A tensor's own copy of its elements."""
    size = _item_bytes(tensor.kind)
    count = math.prod(tensor.shape)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if len(tensor.shape) > _MOST_RANK or (count and (last + 1) * size > len(raw)):
        raise BrokenPickleError("a tensor reaches beyond its storage")
    dtype = np.dtype({"bfloat16": "u2", "bool": "u1"}.get(tensor.kind, tensor.kind)).newbyteorder(order)
    if not count:
        elements = np.zeros(tensor.shape, dtype)
    else:
        flat = np.frombuffer(raw, dtype, len(raw) // size)[tensor.offset :]
        strides = tuple(s * size for s in tensor.strides)
        elements = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
    if tensor.kind == "bfloat16":
        return np.asarray(elements.astype(np.uint32, order="C") << 16).view(np.float32)
    if tensor.kind == "bool":
        return np.asarray(np.not_equal(elements, 0))
    return elements.astype(dtype.newbyteorder("="), order="C", copy=True)
