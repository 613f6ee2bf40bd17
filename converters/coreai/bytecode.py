"""The same program, the same bytes: what coreai-core draws at random is taken out of an .aimodel.

main.mlirb is MLIR bytecode, version 6 (mlir/docs/BytecodeFormat.md): magic, version, producer, then sections of an
identifier, a length and that many bytes. Large constants are kept under keys `resource_<address>`, which differ from
process to process; they stand in the string section alone, and everything else names a string by its number. So the
keys are written anew by their order. metadata.json holds the date, and its keys in the order of a hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.common.errors import ConversionError
from models.common.parsing import parse_json
from runtimes.coreai.asset import HASH, MAGIC, METADATA, PROGRAM

VERSION = 6
_STRINGS = 0  # identifier of the section
_ALIGNED = 0x80  # flag of a section that begins at a multiple of something
_KEY = re.compile(rb"resource_\d+")
_DATE = "creationDate"


def make_reproducible(asset: Path, facts: Mapping[str, Any]) -> None:
    """Rewrite an .aimodel in place so that it depends on graph, weights and facts alone.

    Args:
        asset: the folder that coreai-core wrote.
        facts: what goes into metadata.json beside the versions: author, license, description, and
            creatorDefinedMetadata with any JSON.

    Raises:
        ConversionError: the program is not of the form that is known here; a beta has changed the format.
    """
    program = with_ordered_keys((asset / PROGRAM).read_bytes())
    (asset / PROGRAM).write_bytes(program)
    (asset / HASH).write_bytes(hashlib.sha256(program).digest())
    written = parse_json((asset / METADATA).read_text(encoding="utf-8"))
    kept = {key: value for key, value in written.items() if key != _DATE}
    text = json.dumps({**kept, **facts}, indent=2, sort_keys=True, ensure_ascii=False)
    (asset / METADATA).write_text(text + "\n", encoding="utf-8")


def with_ordered_keys(data: bytes) -> bytes:
    """MLIR bytecode with the keys of its constants named by their order.

    Raises:
        ConversionError: see `make_reproducible`.
    """
    try:
        return _rewritten(data)
    except (IndexError, ValueError) as exc:
        raise ConversionError(
            f"coreai-core wrote bytecode of a form that hearpack does not know ({exc}), so the file would not be "
            f"reproducible; install the version that hearpack pins: pip install 'hearpack[coreai]'"
        ) from exc


def _rewritten(data: bytes) -> bytes:
    if not data.startswith(MAGIC):
        raise ValueError("no MLIR magic")
    version, at = _varint(data, len(MAGIC))
    if version != VERSION:
        raise ValueError(f"version {version}, expected {VERSION}")
    at = data.index(0, at) + 1  # the producer's name
    done, strings_seen = bytearray(data[:at]), 0
    while at < len(data):
        begin, kind = at, data[at]
        length, at = _varint(data, at + 1)
        if kind & _ALIGNED:
            if strings_seen:
                raise ValueError("an aligned section behind the strings")
            alignment, at = _varint(data, at)
            at += -at % alignment
        body, at = data[at : at + length], at + length
        if len(body) != length:
            raise ValueError("a section is cut off")
        if kind & ~_ALIGNED == _STRINGS:
            strings_seen += 1
            table = _strings_in_order(body)
            done += bytes([kind]) + _as_varint(len(table)) + table
        else:
            done += data[begin:at]
    if strings_seen != 1:
        raise ValueError(f"{strings_seen} string sections, expected 1")
    return bytes(done)


def _strings_in_order(body: bytes) -> bytes:
    """A string section: their count, their sizes with the last first, then the strings, each with a 0 at its end."""
    count, at = _varint(body, 0)
    sizes = []
    for _ in range(count):
        size, at = _varint(body, at)
        sizes.append(size)
    strings = []
    for size in reversed(sizes):
        strings.append(body[at : at + size])
        at += size
    if at != len(body) or any(not s.endswith(b"\0") for s in strings):
        raise ValueError("strings of unknown form")
    order = iter(range(count))
    named = [b"constant_%05d\0" % next(order) if _KEY.fullmatch(s[:-1]) else s for s in strings]
    return b"".join([_as_varint(count), *(_as_varint(len(s)) for s in reversed(named)), *named])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends; the zeros at the end of its first byte say how many bytes follow."""
    first = data[at]
    if first == 0:
        return int.from_bytes(data[at + 1 : at + 9], "little"), at + 9
    size = (first & -first).bit_length()
    return int.from_bytes(data[at : at + size], "little") >> size, at + size


def _as_varint(value: int) -> bytes:
    size = next(n for n in range(1, 9) if value < 1 << 7 * n)
    return (value << size | 1 << size - 1).to_bytes(size, "little")
