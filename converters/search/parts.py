"""The parts of a net whose precision is chosen: a module with weights each, or a block of them where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.compress.litert import Weight
from converters.compress.recipe import kept_modules
from models.entry import ModelEntry

MOST_PARTS = 32
_PROTECTED = ("mask", "lstm", "gru", "intra", "inter", "hidden")


@dataclass(frozen=True)
class Part:
    """Modules that are stored alike.

    Attributes:
        name: the module, or what the modules of a block begin with.
        modules: dotted, in the graph's order.
        elements: weights in all of them.
        operations: LiteRT's, of all of them.
        kept: whether compression leaves it in float32 unless the search finds otherwise: transforms, and what the
            entry names.
        protected: whether it takes a precision only where its own measured loss is small: what is kept, recurrences,
            masks, the last layer.
    """

    name: str
    modules: tuple[str, ...]
    elements: int
    operations: frozenset[str]
    kept: bool
    protected: bool


def parts_of(weights: Sequence[Weight], model: ModelEntry) -> tuple[Part, ...]:
    """The parts of a converted net; at most about `MOST_PARTS`, by taking the smallest modules of a parent together."""
    elements: dict[str, int] = {}
    operations: dict[str, set[str]] = {}
    for weight in weights:
        if not weight.module and "front_end" in weight.scope:
            continue
        elements[weight.module] = elements.get(weight.module, 0) + weight.elements
        operations.setdefault(weight.module, set()).add(weight.operation)
    kept = kept_modules(model)
    groups: list[list[str]] = [[module] for module in elements]
    total = sum(elements.values())
    depth = max((module.count(".") for module in elements), default=0)
    while len(groups) > MOST_PARTS and depth >= 0:
        groups = _joined(groups, depth, elements, total, kept)
        depth -= 1
    last = list(elements)[-1] if elements else ""
    found = []
    for group in groups:
        name = group[0] if len(group) == 1 else _common(group)
        is_kept = _within(group[0], kept)
        protected = is_kept or last in group or any(word in module for module in group for word in _PROTECTED)
        used = frozenset(op for module in group for op in operations[module])
        found.append(Part(name, tuple(group), sum(elements[m] for m in group), used, is_kept, protected))
    return tuple(found)


def _joined(
    groups: list[list[str]], depth: int, elements: dict[str, int], total: int, kept: tuple[str, ...]
) -> list[list[str]]:
    """Small groups of one parent at a depth become one; large ones stay by themselves."""
    made: dict[str, list[str]] = {}
    for group in groups:
        parent = ".".join(group[0].split(".")[: max(1, depth)])
        small = sum(elements[m] for m in group) * MOST_PARTS < total
        key = f"{parent} {_within(group[0], kept)}" if small else group[0]
        made.setdefault(key, []).extend(group)
    return list(made.values())


def _within(module: str, kept: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in kept)


def _common(group: list[str]) -> str:
    paths = [module.split(".") for module in group]
    shared = []
    for steps in zip(*paths, strict=False):
        if len(set(steps)) > 1:
            break
        shared.append(steps[0])
    return ".".join(shared) + ".*" if shared else f"{group[0]} and {len(group) - 1} more"
