"""JSON and TOML of other people's files: whatever is wrong with the text is the parser's own error, never another one.

Python's parsers end a text that nests too deeply with a RecursionError and a figure of thousands of digits with a bare
ValueError; here both are the JSONDecodeError or TOMLDecodeError that a reader of a damaged file expects anyway.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: no JSON, nested too deeply, or with a figure of too many digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError as exc:
        raise json.JSONDecodeError("nested too deeply", text, 0) from exc
    except ValueError as exc:
        raise json.JSONDecodeError("a figure of too many digits", text, 0) from exc


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
