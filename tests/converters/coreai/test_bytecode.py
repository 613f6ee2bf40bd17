"""Keys of constants by their order, in bytecode made by hand; no package of Apple's is needed."""

from __future__ import annotations

import pytest

from converters.coreai.bytecode import _as_varint, _varint, with_ordered_keys
from models.common.errors import ConversionError


def section(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _as_varint(len(body)) + body


def strings(*texts: bytes) -> bytes:
    sizes = [_as_varint(len(t) + 1) for t in reversed(texts)]
    return section(0, _as_varint(len(texts)) + b"".join(sizes) + b"".join(t + b"\0" for t in texts))


def program(*sections: bytes, version: int = 6) -> bytes:
    return b"ML\xefR" + _as_varint(version) + b"MLIR22\0" + b"".join(sections)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16_383, 16_384, 2**31, 2**48 - 1])
def test_a_varint_is_read_as_it_was_written(value: int) -> None:
    data = b"x" + _as_varint(value) + b"y"
    assert _varint(data, 1) == (value, len(data) - 1)


def test_programs_that_differ_in_keys_alone_become_the_same() -> None:
    other = section(4, bytes(range(64)))
    one = program(other, strings(b"main", b"resource_8", b"audio", b"resource_123456789"))
    two = program(other, strings(b"main", b"resource_17446744073709551615", b"audio", b"resource_9"))
    done = with_ordered_keys(one)
    assert done == with_ordered_keys(two)
    assert done == program(other, strings(b"main", b"constant_00000", b"audio", b"constant_00001"))
    assert with_ordered_keys(done) == done


def test_only_whole_keys_are_renamed() -> None:
    data = program(strings(b"resource_", b"my_resource_12", b"resource_12a", b"dense_resource"), section(8, b"after"))
    assert with_ordered_keys(data) == data


def test_an_aligned_section_in_front_stays_as_it_is() -> None:
    head = program()
    aligned = bytes([5 | 0x80]) + _as_varint(16) + _as_varint(16)
    padding = b"\xcb" * (-len(head + aligned) % 16)
    data = head + aligned + padding + bytes(16) + strings(b"resource_7")
    assert with_ordered_keys(data) == head + aligned + padding + bytes(16) + strings(b"constant_00000")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no", "no MLIR magic"),
        (program(strings(b"a"), version=7), "version 7, expected 6"),
        (program(section(4, b"abc")), "0 string sections"),
        (program(strings(b"a"), strings(b"b")), "2 string sections"),
        (program(strings(b"a"))[:-1], "cut off"),
        (program(section(0, _as_varint(1) + _as_varint(3) + b"abc")), "unknown form"),
        (program(strings(b"a"), bytes([5 | 0x80]) + _as_varint(0) + _as_varint(1)), "aligned section behind"),
    ],
)
def test_a_form_that_is_not_known_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ConversionError, match=rf"{why}.*install the version that hearpack pins"):
        with_ordered_keys(data)
