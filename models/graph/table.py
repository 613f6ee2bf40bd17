"""The tables of lowerings, and how a function enters one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Lowering = Callable[..., Any]
Table = dict[str, Lowering]

SHAPE_FREE: Table = {}
FIXED: Table = {}


def per_axis(value: int | Sequence[int], rank: int) -> list[int]:
    """What torch takes as one number for all axes, or as one for each."""
    if isinstance(value, int):
        return [value] * rank
    return list(value) * (rank if len(value) == 1 else 1)


def lowers(table: Table, *names: str) -> Callable[[Lowering], Lowering]:
    """Enter a function: it takes a Builder and what torch's operation takes, and gives Values.

    NotImplemented as its result means: leave the operation as it is.
    """

    def enter(function: Lowering) -> Lowering:
        for name in names:
            if name in table:
                raise ValueError(f"two lowerings of {name}")
            table[name] = function
        return function

    return enter
