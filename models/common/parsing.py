"""JSON and TOML of other people's files: whatever is wrong with the text is the parser's own error, never another one.

Python's parsers end a text that nests too deeply with a RecursionError and a figure of thousands of digits with a bare
ValueError; here both are the JSONDecodeError or TOMLDecodeError that a reader of a damaged file expects anyway. NaN,
Infinity, what overflows to it, whole numbers beyond 64 bits and halves of surrogate pairs are no JSON here: no file of
ours has them, and whoever uses them fails far from the file.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from typing import Any

from models.common.printable import printable

_LARGEST = 2**63 - 1
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NAME_BYTE = re.compile("[\udc80-\udcff]")
_HALF = re.compile("[\ud800-\udfff]")


class _FigureError(ValueError):
    """A figure that a file of ours cannot have."""


def _whole(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > _LARGEST:
        raise _FigureError(f"a whole number beyond 64 bits, {text[:24]}")
    return int(text)


def _real(text: str) -> float:
    if not math.isfinite(float(text)):
        raise _FigureError(f"a number that is not finite, {text[:24]}")
    return float(text)


def _without_halves(value: Any) -> Any:
    """The value with bytes of file names that are not UTF-8, which Python keeps as halves of pairs, shown as escapes.

    Any other half of a surrogate pair is refused: no file, terminal or page can hold it.
    """
    if isinstance(value, str):
        value = _NAME_BYTE.sub(lambda byte: printable(byte.group()), value)
        if _HALF.search(value):
            raise _FigureError("a text with half of a surrogate pair")
    elif isinstance(value, dict):
        return {_without_halves(key): _without_halves(part) for key, part in value.items()}
    elif isinstance(value, list):
        return [_without_halves(part) for part in value]
    return value


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: no JSON, nested too deeply, or with a figure that is not finite or beyond 64 bits, or half
            of a surrogate pair.
    """
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_real, parse_constant=_real)
        if _ESCAPED_SURROGATE.search(text):
            value = _without_halves(value)
        return value
    except _FigureError as exc:
        raise json.JSONDecodeError(str(exc), text, 0) from exc
    except RecursionError as exc:
        raise json.JSONDecodeError("nested too deeply", text, 0) from exc


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        tomllib.TOMLDecodeError: no TOML, nested too deeply, or with a figure of too many digits.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as exc:
        raise tomllib.TOMLDecodeError("nested too deeply") from exc
    except ValueError as exc:
        raise tomllib.TOMLDecodeError("a figure of too many digits") from exc
