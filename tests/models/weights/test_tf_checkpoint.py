"""models.tf_checkpoint: the published vectors of CRC-32C, a checkpoint written here byte by byte, and damage to it."""

from __future__ import annotations

import contextlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.common.errors import WeightsError
from models.weights.tf_checkpoint import crc32c, read_checkpoint

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
TENSORS = {
    "net/a/kernel/.ATTRIBUTES/VARIABLE_VALUE": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "net/a/kernel_more/.ATTRIBUTES/VARIABLE_VALUE": np.full((1, 5), -2.5, np.float32),
    "other/scale/.ATTRIBUTES/VARIABLE_VALUE": np.float32(7.0).reshape(()),
}


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def plain_crc32c(data: bytes) -> int:
    """Bit by bit, after the definition (RFC 3720, B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = plain_crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF).to_bytes(4, "little")


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block whose keys share prefixes, with one restart point."""
    out, before = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (x, y) in enumerate(zip(key, before, strict=False)) if x != y), min(len(key), len(before))
        )
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return out + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def entry(array: NDArray[np.float32], offset: int, size: int | None = None) -> bytes:
    raw = array.tobytes()
    dims = b"".join(b"\x12" + varint(len(dim)) + dim for dim in (b"\x08" + varint(n) for n in array.shape))
    size = len(raw) if size is None else size
    return (
        b"\x08\x01\x12"
        + varint(len(dims))
        + dims
        + b"\x20"
        + varint(offset)
        + b"\x28"
        + varint(size)
        + b"\x35"
        + masked(raw)
    )


def checkpoint(entries: list[tuple[bytes, bytes]]) -> bytes:
    index = b""
    handles = []
    for content in (block(entries), block([])):  # the data block and the empty meta-index
        handles.append(varint(len(index)) + varint(len(content)))
        index += content + b"\0" + masked(content + b"\0")
    content = block([(b"zzz", handles[0])])
    handles.append(varint(len(index)) + varint(len(content)))
    index += content + b"\0" + masked(content + b"\0")
    return index + (handles[1] + handles[2]).ljust(40, b"\0") + MAGIC


@pytest.fixture(scope="module")
def files() -> tuple[bytes, bytes]:
    entries, data = [(b"", b"\x08\x01")], b""
    for name, array in TENSORS.items():
        entries.append((name.encode(), entry(array, len(data))))
        data += array.tobytes()
    entries.append((b"step", b"\x08\x09\x20\x00\x28\x08\x35" + bytes(4)))  # an int64: not a weight
    return checkpoint(entries), data


@pytest.mark.parametrize(
    ("data", "crc"),
    [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)],
)
def test_crc32c_gives_the_published_values(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


@given(st.binary(max_size=3000))
@settings(max_examples=40, deadline=None)
def test_crc32c_in_lanes_equals_the_definition(data: bytes) -> None:
    assert crc32c(data) == plain_crc32c(data)


def test_tensors_come_back_by_name(files: tuple[bytes, bytes]) -> None:
    tensors = read_checkpoint(*files)
    assert list(tensors) == ["net/a/kernel", "net/a/kernel_more", "other/scale"]
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(tensors[name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")], array, strict=True)


def test_a_prefix_selects_and_is_taken_off(files: tuple[bytes, bytes]) -> None:
    assert list(read_checkpoint(*files, prefix="net/a/")) == ["kernel", "kernel_more"]


def test_every_truncation_is_a_weights_error(files: tuple[bytes, bytes]) -> None:
    index, data = files
    for length in range(len(index)):
        with pytest.raises(WeightsError):
            read_checkpoint(index[:length], data)
    for length in range(len(data)):
        with pytest.raises(WeightsError, match="truncated"):
            read_checkpoint(index, data[:length])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_is_found(files: tuple[bytes, bytes], data: st.DataObject) -> None:
    index, values = files
    at = data.draw(st.integers(0, len(index) + len(values) - 1))
    change = data.draw(st.integers(1, 255))
    both = bytearray(index + values)
    both[at] ^= change
    try:
        tensors = read_checkpoint(bytes(both[: len(index)]), bytes(both[len(index) :]))
    except WeightsError:
        return
    # only what nothing is read from may change unseen: the meta-index and the padding of the footer
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(tensors[name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")], array, strict=True)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_noise_with_a_footer_is_a_weights_error_or_empty(noise: bytes) -> None:
    with contextlib.suppress(WeightsError):
        assert not read_checkpoint(noise.ljust(40, b"\0") + MAGIC, bytes(16))


def test_a_tensor_that_claims_terabytes_allocates_nothing() -> None:
    huge = entry(np.zeros((1,), np.float32), 0)
    dims = b"\x08" + varint(1 << 40)
    huge = (
        b"\x08\x01\x12"
        + varint(len(dims) + 2)
        + b"\x12"
        + varint(len(dims))
        + dims
        + b"\x28"
        + varint(1 << 42)
        + huge[-5:]
    )
    index = checkpoint([(b"w", huge)])
    tracemalloc.start()
    with pytest.raises(WeightsError, match="truncated or not of this index"):
        read_checkpoint(index, bytes(16))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_entries_that_share_the_same_bytes_are_refused() -> None:
    array = np.ones((64,), np.float32)
    index = checkpoint([(f"w{n}".encode(), entry(array, 0)) for n in range(3)])
    with pytest.raises(WeightsError, match="overlap"):
        read_checkpoint(index, array.tobytes())
