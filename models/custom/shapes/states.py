"""States of a step net as forward takes them: one by one, in tuples, in dicts; of any float type. Light.

    [net]        states = ["conv", ["h", "c"]]          forward(audio, conv, (h, c)) -> out, conv, (h, c)
                 states = [{conv = "conv", gru = "h"}]  forward(audio, {"conv": conv, "gru": h}) -> out, {...}
    [[states]]   name, shape, dtype = "float16"         in the net; in a bundle every state is float32

What is carried is the same whatever holds it: a bundle names tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.common.errors import ConversionError, UsageError

DTYPES = ("float32", "float16", "bfloat16", "float64")
ROUGH = ("float16", "bfloat16")  # the net rounds to them, a bundle does not
_DEEPEST = 8


def said_structure(value: Any, names: Sequence[str], where: str) -> Any:
    """What `net.states` says: lists, tables and names, every state once; None where nothing is said.

    Raises:
        UsageError: another kind of thing, or a state is missing, unknown or named twice.
    """
    if value is None:
        return None
    found = list(_names(value, where, 0))
    if sorted(found) != sorted(names):
        wrong = next((n for n in [*found, *names] if found.count(n) != 1 or n not in names), "")
        raise UsageError(
            f"{where}: net.states names {wrong!r} {found.count(wrong)} times; expected each of [[states]] once: "
            f"{', '.join(names)}"
        )
    return value


def _names(value: Any, where: str, depth: int) -> Iterator[str]:
    if isinstance(value, str) and depth:
        yield value
    elif isinstance(value, list | Mapping) and value and depth < _DEEPEST and (depth or isinstance(value, list)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _names(item, where, depth + 1)
    else:
        raise UsageError(
            f"{where}: net.states: expected a list of names of [[states]], lists and tables of them, as forward takes "
            f"them behind the audio; got {value!r}"
        )


def packed(structure: Any, values: Mapping[str, Any]) -> list[Any]:
    """The arguments of forward: lists become tuples, tables dicts."""

    def build(part: Any) -> Any:
        if isinstance(part, str):
            return values[part]
        if isinstance(part, Mapping):
            return {key: build(item) for key, item in part.items()}
        return tuple(build(item) for item in part)

    return [build(part) for part in structure]


def unpacked(structure: Sequence[Any], results: Sequence[Any], who: str) -> dict[str, Any]:
    """The new states by name, in what forward returned.

    Raises:
        ConversionError: it is not of the structure that was said.
    """
    found: dict[str, Any] = {}

    def take(part: Any, value: Any, path: str) -> None:
        if isinstance(part, str):
            found[part] = value
            return
        if isinstance(part, Mapping):
            keys = list(value) if isinstance(value, Mapping) else None
            if keys is None or set(keys) != set(part):
                came = f"a {type(value).__name__}" if keys is None else f"a dict of {', '.join(map(str, keys))}"
                raise ConversionError(f"{who}: {path}: forward returned {came}, expected a dict of {', '.join(part)}")
            for key, item in part.items():
                take(item, value[key], f"{path}.{key}")
            return
        if not isinstance(value, tuple | list) or len(value) != len(part):
            came = f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
            raise ConversionError(f"{who}: {path}: forward returned {came}, expected {len(part)}")
        for place, item in enumerate(part):
            take(item, value[place], f"{path}[{place}]")

    take(list(structure), list(results), "net.states")
    return found
