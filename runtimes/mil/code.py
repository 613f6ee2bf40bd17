"""A compiled block: calls in order on slots; how it runs, and what it checks while it does.

What one result has in elements is declared, and held against the declaration; where sizes show only at the call, what
lives is counted (limits.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.common.errors import ArtefactError
from runtimes.mil.graph import Block, Operation
from runtimes.mil.limits import MAX_LIVING_ELEMENTS, held

UNKNOWN, CHECKED = -1, -2
# What the functions that a kernel calls raise on values that do not fit.
CALL_ERRORS = (
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
)


class Call(NamedTuple):
    """One call: slots[out] = fn(*slots[args]), then the `dead` slots are emptied.

    `size` is what its one result has by declaration, in elements; UNKNOWN where that shows at the call,
    CHECKED where `fn` itself looks.
    """

    fn: Callable[..., Any]
    args: tuple[int, ...]
    out: int | slice
    dead: tuple[int, ...]
    place: str
    size: int


@dataclass(frozen=True)
class Code:
    """A compiled block.

    Attributes:
        calls: in order.
        template: the slots at the start of a call: constants in place, the rest empty.
        inputs: slots of the inputs, then of captured outer values.
        outputs: slots of the outputs.
        counted: whether living values are counted at a call, since not all sizes are declared.
    """

    calls: tuple[Call, ...]
    template: tuple[Any, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    counted: bool

    def __call__(self, *values: Any) -> tuple[Any, ...]:
        slots = list(self.template)
        for slot, value in zip(self.inputs, values, strict=True):
            slots[slot] = value
        place, counted = "", self.counted
        living = sum(map(held, values)) if counted else 0
        try:
            for fn, args, out, dead, place, size in self.calls:  # noqa: B007  the handler below names the place
                value = slots[out] = fn(*[slots[a] for a in args])
                if size >= 0 and value.numel() != size:
                    raise ValueError(f"declared with {size} elements, computed as {list(value.shape)}")
                if counted:
                    living += held(value)
                    if living > MAX_LIVING_ELEMENTS:
                        raise ValueError(f"more than {MAX_LIVING_ELEMENTS} elements live at the same time; refused")
                    living -= sum(held(slots[slot]) for slot in dead)
                for slot in dead:
                    slots[slot] = None
        except CALL_ERRORS as exc:
            raise ArtefactError(f"{place} failed: {exc}") from exc
        return tuple(slots[slot] for slot in self.outputs)


def several(fn: Callable[..., Any], sizes: list[int]) -> Callable[..., Any]:
    """fn, checked to give results of these sizes: a wrong number of them would move every slot behind."""

    def run(*values: Any) -> Any:
        results = fn(*values)
        if not isinstance(results, (tuple, list)) or len(results) != len(sizes):
            raise ValueError(f"the program expects {len(sizes)} results of it")
        for result, size in zip(results, sizes, strict=True):
            if size >= 0 and result.numel() != size:
                raise ValueError(f"declared with {size} elements, computed as {list(result.shape)}")
        return results

    return run


def with_deaths(calls: list[Call], kept: set[int]) -> tuple[Call, ...]:
    """The calls, each told which slots nobody reads after it."""
    seen = set(kept)
    backwards: list[Call] = []
    for call in reversed(calls):
        made = range(call.out.start, call.out.stop) if isinstance(call.out, slice) else (call.out,)
        dead = tuple(sorted({*call.args, *made} - seen))
        seen.update(dead)
        backwards.append(call._replace(dead=dead))
    return tuple(reversed(backwards))


def accumulated(body: Block) -> tuple[dict[str, int], frozenset[str]]:
    """Loop values that the body only reads by `gather`, and then changes by a `scatter` that is their next value.

    Nobody else sees them between rounds, so the scatter may write in place, and the gathers before it take copies:
    else a loop over n steps copies n x n values.

    Returns:
        place among the loop's values, by name of the scatter's result; and the names of those gathers' results.
    """
    uses = Counter(name for o in body.walk() for name in _names(o))
    uses.update(name for o in body.walk() for block in o.blocks for name in block.outputs)
    uses.update(body.outputs)
    places = {i.name: place for place, i in enumerate(body.inputs)}
    reads: defaultdict[str, list[str]] = defaultdict(list)
    found: dict[str, int] = {}
    copied: set[str] = set()
    for operation in body.operations:
        if operation.type == "gather":
            for name in operation.inputs.get("x", ()):
                if isinstance(name, str):
                    reads[name].append(operation.name)
        if operation.type != "scatter":
            continue
        for data in operation.inputs.get("data", ()):
            place = places.get(data, len(body.outputs)) if isinstance(data, str) else len(body.outputs)
            given_on = place < len(body.outputs) and body.outputs[place] == operation.name
            if given_on and isinstance(data, str) and uses[data] == 1 + len(reads[data]) and uses[operation.name] == 1:
                found[operation.name] = place
                copied.update(reads[data])
    return found, frozenset(copied)


def _names(operation: Operation) -> list[str]:
    return [name for bindings in operation.inputs.values() for name in bindings if isinstance(name, str)]
