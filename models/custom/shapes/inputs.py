"""Inputs of a net beside its audio: constants from a file, and further streams such as a loudspeaker's. Light.

    [[inputs]]  name = "speaker", file = "speaker.npy"     a constant: it goes into the graph
    [[inputs]]  name = "far", kind = "audio"               one channel, heard at the same time as `audio`

`name` is that of forward's own argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.common.errors import UsageError
from models.common.hashing import sha256_bytes
from models.custom.tables import Table

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_FAR = 4
MOST_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Constant:
    """A tensor that forward takes, the same at every call.

    Attributes:
        name: of forward's argument.
        shape: as the file has it.
        sha256: of `data`.
        data: float32, little-endian, C order.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str
    data: bytes = field(repr=False, compare=False)


def said_inputs(items: Any, where: str, taken: Collection[str]) -> tuple[tuple[Constant, ...], tuple[str, ...]]:
    """What `[[inputs]]` says: constants, and names of further streams.

    Args:
        items: the tables; a constant's `file` was read into `values` (`with_values`).
        where: for messages.
        taken: names of other tensors.

    Raises:
        UsageError: a key is unknown, a name is taken, or values are no floats.
    """
    constants: list[Constant] = []
    far: list[str] = []
    for index, item in enumerate(items):
        table = Table(item, f"{where}: [[inputs]] {index + 1}")
        name, values = table.take("name", str), table.left.pop("values", None)
        kind = table.choice("kind", ("constant", "audio"), "constant" if values is not None else "audio")
        table.known += ["file", "values"]
        table.end()
        if not name.isidentifier() or name in taken or name in far or name in (c.name for c in constants):
            raise UsageError(f"{where}: [[inputs]] {index + 1}: name: expected one of its own, got {name!r}")
        if (kind == "constant") != (values is not None):
            what = "a constant needs file = 'NAME.npy'" if values is None else "an audio input has no file"
            raise UsageError(f"{where}: [[inputs]] {name}: {what}")
        if kind == "audio":
            far.append(name)
        else:
            constants.append(_constant(name, values, where))
    if len(far) > MOST_FAR:
        raise UsageError(f"{where}: [[inputs]]: expected at most {MOST_FAR} of kind audio, got {len(far)}")
    return tuple(constants), tuple(far)


def _constant(name: str, values: Any, where: str) -> Constant:
    import numpy as np

    try:
        array = np.ascontiguousarray(values, "<f4")
    except (TypeError, ValueError) as exc:
        raise UsageError(f"{where}: [[inputs]] {name}: expected numbers, or a .npy of floats: {exc}") from exc
    if not 1 <= array.ndim <= 8 or not 0 < array.size <= MOST_ELEMENTS or not np.isfinite(array).all():
        raise UsageError(
            f"{where}: [[inputs]] {name}: expected finite floats, 1 to 8 axes and at most {MOST_ELEMENTS} of them, got "
            f"{list(array.shape)}"
        )
    data = array.tobytes()
    return Constant(name, array.shape, sha256_bytes(data), data)


def with_values(items: Any, folder: Path, where: str, read: Callable[[Path], Any]) -> Any:
    """The tables with the files that constants name read in; raises UsageError."""
    if not isinstance(items, list):
        raise UsageError(f"{where}: [[inputs]]: expected tables, got {items!r}")
    made = []
    for item in items:
        name = item.get("file") if isinstance(item, Mapping) else None
        if not isinstance(name, str):
            made.append(item)
            continue
        try:
            values = read(folder / name)
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the name too
            raise UsageError(
                f"{where}: [[inputs]]: file {name!r} cannot be read: {exc}; expected a .npy (numpy.save) of floats"
            ) from exc
        made.append({key: value for key, value in item.items() if key != "file"} | {"values": values})
    return made


def check_arguments(net: nn.Module, names: tuple[str, ...], who: str) -> None:
    """Raise UsageError where forward has no arguments of such names behind its first."""
    known = list(_parameters(net))[1:]
    for name in names:
        if name not in (p.name for p in known):
            has = ", ".join(p.name for p in known) or "none behind its first"
            raise UsageError(f"{who}: [[inputs]] names {name!r}, which forward has not; it has: {has}")


def called(net: nn.Module, audio: Tensor, named: Mapping[str, Tensor], states: Iterator[Any]) -> Any:
    """forward of the user's own, with each argument at its place.

    Args:
        net: the user's.
        audio: its first argument.
        named: inputs by the name of the argument.
        states: what goes into the others, in order.
    """
    if not named:
        return net(audio, *states)
    left, args, skipped = dict(named), [audio], False
    for parameter in list(_parameters(net))[1:]:
        if parameter.kind == parameter.VAR_POSITIONAL:
            args += list(states)
        elif parameter.name in left and parameter.kind != parameter.KEYWORD_ONLY and not skipped:
            args.append(left.pop(parameter.name))
        elif parameter.name not in left and parameter.kind == parameter.POSITIONAL_OR_KEYWORD:
            state = next(states, None)
            skipped = skipped or state is None  # it has a default: what follows goes by name
            args += [] if state is None else [state]
    return net(*args, *states, **left)


def _parameters(net: nn.Module) -> Iterator[inspect.Parameter]:
    yield from inspect.signature(net.forward).parameters.values()
