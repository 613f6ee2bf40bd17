"""How much a program may ask for. What is stored in its files bounds itself; what it makes up at a call does not.

A value of more than MAX_ELEMENTS is refused before it is made: by its declared shape at load, and, where an
operation takes sizes from values or attributes (fill, tile, pad, resize, ...), by those sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

# 4 GiB as float32: more than a phone's model has in one value.
MAX_ELEMENTS = 1 << 30
# What may live at the same time, by declared shapes.
MAX_LIVING_ELEMENTS = 1 << 32


def room(sizes: Iterable[int]) -> None:
    """Stop when a value of these sizes is beyond the limit.

    Args:
        sizes: of each axis; a negative one is left to the operation itself.

    Raises:
        ValueError: more than MAX_ELEMENTS.
    """
    known = [int(n) for n in sizes]
    if math.prod(known) > MAX_ELEMENTS:
        raise ValueError(f"a value of shape {known} has more than {MAX_ELEMENTS} elements; refused")


def room_to_pad(sizes: Iterable[int | None], pads: list[int]) -> None:
    """`room` for a value with [before, after] pairs put around its last axes; unknown sizes count as none.

    Raises:
        ValueError: more than MAX_ELEMENTS.
    """
    known = [n or 1 for n in sizes]
    first = len(known) - len(pads) // 2
    for i, total in enumerate(a + b for a, b in zip(pads[::2], pads[1::2], strict=True)):
        known[first + i] += total
    room(known)
