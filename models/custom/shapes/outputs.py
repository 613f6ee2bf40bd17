"""Outputs of a net that gives several: which of forward's results is which. Light.

`net.outputs` in a geometry.toml names them: a list in forward's order (or by a dict's keys), or a table of name and
key. The task's own output comes first in a signature, or a separator's sources; the others are extra outputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.common.errors import ConversionError, UsageError
from models.geometry import TensorSpec

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LEFT_OUT = ""
_ANY = (-3.4e38, 3.4e38)  # nobody said what it lies in


@dataclass(frozen=True)
class Pick:
    """Where an output is in what forward returns.

    Attributes:
        name: of the output.
        key: its position or key there; None where forward returns one tensor.
        part: of that tensor's axis of sources; None for the tensor as it is.
    """

    name: str
    key: str | int | None = None
    part: int | None = None


@dataclass(frozen=True)
class ExtraOutput:
    """An output beside the task's own.

    Attributes:
        name: in every format.
        shape: for a call of one hop (of a window).
        axis: that grows with the hops of a call; None where none does.
    """

    name: str
    shape: tuple[int, ...]
    axis: int | None = None

    def spec(self, hops: int) -> TensorSpec:
        """As a signature has it."""
        shape = tuple(n * hops if axis == self.axis else n for axis, n in enumerate(self.shape))
        return TensorSpec(self.name, shape, _ANY, "an extra output of the net, beside the task's own")


def said_outputs(value: Any, where: str, own: str, sources: bool) -> tuple[tuple[str, str], ...]:
    """What `net.outputs` says: (name, key), key "" where the position tells.

    Args:
        value: of the key, or None.
        where: for messages.
        own: name of the task's own output.
        sources: whether the task is a separator, whose outputs are its sources.

    Raises:
        UsageError: not names, twice the same, or the task's own output is not among them.
    """
    if value is None:
        if sources:
            raise UsageError(f"{where}: a separator names its sources: net.outputs = ['voice', 'noise']")
        return ()
    if isinstance(value, Mapping):
        pairs = [(name, key) for name, key in value.items()]
        wrong = [key for _, key in pairs if not isinstance(key, str) or not key]
    else:
        pairs = [(name, "") for name in value]
        wrong = [name for name, _ in pairs if name != LEFT_OUT and not is_name(name)]
    wrong += [name for name, key in pairs if key and not is_name(name)]
    names = [name for name, _ in pairs if name != LEFT_OUT]
    if wrong or len(set(names)) != len(names):
        what = repr(wrong[0]) if wrong else f"{names!r}, one of them twice"
        raise UsageError(
            f"{where}: net.outputs: expected names of letters, digits and _ in forward's order ('' leaves one out), or "
            f"a table of name and key, got {what}"
        )
    reserved = sorted({"audio"} & set(names))
    if reserved:
        raise UsageError(f"{where}: net.outputs: {reserved[0]!r} is the name of the input; choose another")
    if sources and len(names) < 2:
        raise UsageError(f"{where}: net.outputs: a separator has two sources at least, got {names!r}")
    if not sources and own not in names:
        raise UsageError(
            f"{where}: net.outputs: {own!r}, the task's own output, is not among {', '.join(names) or 'them'}"
        )
    return tuple(pairs)


def is_name(name: Any) -> bool:
    """Whether a tensor may be called so in every format."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name))


def placed(said: Sequence[tuple[str, str]], result: Any, who: str, sources: bool = False) -> tuple[Pick, ...]:
    """Names that were said, at their places in what forward returned.

    Args:
        said: of `said_outputs`.
        result: a tensor, a tuple, a list or a dict.
        who: for messages.
        sources: whether one tensor may hold them all, along an axis of sources.

    Raises:
        ConversionError: they do not fit.
    """
    if isinstance(result, Mapping):
        keys = [str(key) for key in result]
        named = {name: key or name for name, key in said if key or name in keys}
        missing = [key for key in named.values() if key not in keys]
        rest = [key for key in keys if key not in named.values()]
        others = [name for name, _ in said if name not in named]
        if missing or (others and len(others) != len(rest)):
            lacks = f" has no {missing[0]!r}" if missing else ""
            raise ConversionError(
                f"{who}: forward returned a dict of {', '.join(keys)}{lacks}; net.outputs names "
                f"{', '.join(name or repr('') for name, _ in said)}"
            )
        named |= dict(zip(others, rest, strict=False))
        return tuple(Pick(name, named[name]) for name, _ in said if name != LEFT_OUT)
    keyed = next((key for _, key in said if key), "")
    if keyed:
        raise ConversionError(f"{who}: net.outputs takes {keyed!r} of a dict, forward returned {_kind(result)}")
    if isinstance(result, tuple | list) and len(result) != 1:
        if len(result) != len(said):
            raise ConversionError(
                f"{who}: forward returned {len(result)} results, net.outputs names {len(said)}: "
                f"{', '.join(name or repr('') for name, _ in said)} ('' leaves one out)"
            )
        return tuple(Pick(name, place) for place, (name, _) in enumerate(said) if name != LEFT_OUT)
    if len(said) == 1:
        return (Pick(said[0][0]),)
    whole = result[0] if isinstance(result, tuple | list) else result
    shape = list(getattr(whole, "shape", ()))
    if not sources or len(shape) < 2 or shape[_axis_of_sources(shape)] != len(said):
        raise ConversionError(
            f"{who}: forward returned {shape or _kind(whole)}, net.outputs names {len(said)}: "
            f"{', '.join(name or repr('') for name, _ in said)}"
        )
    return tuple(Pick(name, None, part) for part, (name, _) in enumerate(said) if name != LEFT_OUT)


def picked(result: Any, pick: Pick) -> Any:
    """One output of what forward returned; a tensor if the net is as it was when it was looked at."""
    value = result
    if pick.key is not None:
        value = result[pick.key]
    elif isinstance(result, tuple | list):
        value = result[0]
    if pick.part is None:
        return value
    return value.select(_axis_of_sources(value.shape), pick.part)


def _axis_of_sources(shape: Sequence[int]) -> int:
    """Of [1, sources, ...] or [sources, ...]."""
    return 1 if shape[0] == 1 and len(shape) > 2 else 0


def _kind(result: Any) -> str:
    many = f" of {len(result)}" if isinstance(result, tuple | list) else ""
    return f"a {type(result).__name__}{many}"
