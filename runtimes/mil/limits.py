"""How much a program may ask for. What is stored in its files bounds itself; what it makes up does not.

Four rules, so that no package fills the memory, whatever it declares:

1. A value of more than MAX_ELEMENTS is refused before it is made: by its declared shape at load, and, where an
   operation multiplies (by broadcasting, by a product, by sizes from values or attributes), by the sizes at the call.
2. What lives at the same time is bounded by MAX_LIVING_ELEMENTS: by the declared shapes at load, and, where some are
   known only at the call, by a count at the call. A result that is not as large as declared stops the call.
3. Constants may not be larger than CONSTANT_ELEMENTS_A_BYTE times the package's files, however often the
   program names the same bytes; a compressed one may not be larger than its declaration.
4. A list may not be longer than MAX_LIST, nor hold more than MAX_ELEMENTS.

HEARPACK_MIL_MEMORY_MB moves the limits of a process: MiB that living float32 values may take, 1,024 unless given.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

MEMORY_MB = "HEARPACK_MIL_MEMORY_MB"


def _memory_mb(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and 1 <= int(text) <= 1 << 20 else 1024


# What may live at the same time; more than a phone gives an app's activations.
MAX_LIVING_ELEMENTS = _memory_mb(os.environ.get(MEMORY_MB)) << 18
MAX_ELEMENTS = MAX_LIVING_ELEMENTS // 2
# A weight of a large language model has up to 2^29; its bytes are in the package.
MAX_CONSTANT_ELEMENTS = 1 << 30
# One-bit palettes give 8 elements a byte, those of vectors more.
CONSTANT_ELEMENTS_A_BYTE = 32
FEWEST_CONSTANT_ELEMENTS = 1 << 27
# Above these sizes a constant expression is left to the call.
MAX_FOLDED_ELEMENTS = 1 << 26
MAX_FOLDED_ELEMENTS_IN_ALL = 1 << 27
MAX_LIST = 1 << 20


class Budget:
    """Elements that a program's constants may still take.

    Args:
        stored_bytes: what the package's files take.
    """

    def __init__(self, stored_bytes: int) -> None:
        self._left = max(FEWEST_CONSTANT_ELEMENTS, CONSTANT_ELEMENTS_A_BYTE * stored_bytes)
        self._to_fold = MAX_FOLDED_ELEMENTS_IN_ALL

    def constant(self, elements: int) -> None:
        """Take a constant's elements off.

        Raises:
            ValueError: more than the package can hold.
        """
        self._left -= elements
        if elements > MAX_CONSTANT_ELEMENTS or self._left < 0:
            raise ValueError(
                f"the constants have more elements than a package of this size can hold ({elements} in this one); "
                "refused"
            )

    def fold(self, elements: int) -> bool:
        """Take the elements of a constant expression off; False where they are too many to keep."""
        if elements > min(MAX_FOLDED_ELEMENTS, self._to_fold):
            return False
        self._to_fold -= elements
        return True


def room(sizes: Iterable[int]) -> None:
    """Stop when a value of these sizes is beyond the limit.

    Args:
        sizes: of each axis; a negative one is left to the operation itself.

    Raises:
        ValueError: more than MAX_ELEMENTS.
    """
    known = [int(n) for n in sizes]
    if math.prod(known) > MAX_ELEMENTS:
        raise ValueError(
            f"a value of shape {known} has more than {MAX_ELEMENTS} elements; refused ({MEMORY_MB} moves the limit)"
        )


def room_to_pad(sizes: Iterable[int | None], pads: Sequence[int]) -> None:
    """`room` for a value with [before, after] pairs put around its last axes; unknown sizes count as one.

    Raises:
        ValueError: more than MAX_ELEMENTS.
    """
    known = [n or 1 for n in sizes]
    first = len(known) - len(pads) // 2
    for i, total in enumerate(a + b for a, b in zip(pads[::2], pads[1::2], strict=True)):
        known[first + i] += total
    room(known)


def room_to_broadcast(*values: Any) -> None:
    """`room` for tensors that are broadcast to one shape.

    Raises:
        ValueError: more than MAX_ELEMENTS.
    """
    product = 1
    for value in values:
        product *= value.numel()
    # No broadcast result is larger than the product of its operands: nearly always the end of it.
    if product > MAX_ELEMENTS:
        room(np.broadcast_shapes(*(tuple(value.shape) for value in values)))


def held(value: Any) -> int:
    """Elements that a result holds: a tensor's, those of several results, those of a list by its first item."""
    if isinstance(value, tuple):
        return sum(held(part) for part in value)
    if isinstance(value, list):
        return len(value) * held(value[0]) if value else 0
    return int(value.numel()) if hasattr(value, "numel") else 0
