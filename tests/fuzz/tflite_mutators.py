"""Changes of a .tflite that leave it a valid flatbuffer with a wrong graph: one field, or one element of a list.

Seeded: the same base and seed give the same file. Blind flips of bytes find next to none of what these find.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from converters.litert.tflite_edit import read_model, write_model

# How often a walk down the tree goes here, where there is a choice.
_WEIGHTS = {"subgraphs": 12, "operators": 5, "tensors": 4, "inputs": 2, "outputs": 2, "builtinOptions": 2, "shape": 2}
_ODD = (-(2**31), -2, -1, 0, 1, 2, 3, 127, 128, 255, 4096, 2**15, 2**16, 2**24, 2**30, 2**31 - 1)


class Mutator:
    """One base file, read once.

    Args:
        base: a sound .tflite.
    """

    def __init__(self, base: bytes) -> None:
        self._model = read_model(base)
        _own(self._model)

    def mutate(self, seed: int) -> tuple[str, bytes] | None:
        """What was changed, and the file; None where the change does not fit the schema's types."""
        random_ = random.Random(seed)
        path, undo = self._change(random_)
        try:
            buffers = list(self._model.buffers)
            return path, write_model(self._model)
        except Exception:  # the builder refuses what does not fit a field
            return None
        finally:
            self._model.buffers = buffers
            undo()

    def _change(self, random_: random.Random) -> tuple[str, Any]:
        node, path = self._model, ""
        while True:
            if isinstance(node, list | np.ndarray):
                if not len(node) or (isinstance(node, list) and random_.random() < 0.06):
                    return path, lambda: None
                key: Any = random_.randrange(len(node))
                child = node[key]
            else:
                names = [
                    n for n, v in vars(node).items() if v is not None and not (hasattr(v, "__len__") and not len(v))
                ]
                key = random_.choices(names, [_WEIGHTS.get(n, 1) for n in names])[0]
                child = getattr(node, key)
            path += f".{key}" if isinstance(key, str) else f"[{key}]"
            if isinstance(child, list | np.ndarray) and random_.random() < 0.12:
                return self._resize(node, key, child, path, random_)
            if isinstance(child, list | np.ndarray) or hasattr(child, "__dict__"):
                node = child
                continue
            return _set(node, key, _other(child, random_), f"{path}: {child!r}")

    @staticmethod
    def _resize(node: Any, key: Any, child: Any, path: str, random_: random.Random) -> tuple[str, Any]:
        items = list(child)
        kind = random_.choice(("cut", "drop", "double", "swap", "empty"))
        at, other = random_.randrange(len(items)), random_.randrange(len(items))
        if kind == "cut":
            items = items[:at]
        elif kind == "drop":
            del items[at]
        elif kind == "double":
            items.insert(at, items[other])
        elif kind == "swap":
            items[at], items[other] = items[other], items[at]
        else:
            items = []
        changed = np.array(items, child.dtype) if isinstance(child, np.ndarray) else items
        return _set(node, key, changed, f"{path} {kind} {at}", show=False)


def _own(node: Any) -> None:
    """Arrays that are views of the file become copies that can be written."""
    for value in node if isinstance(node, list) else list(vars(node).items()):
        name, child = (None, value) if isinstance(node, list) else value
        if isinstance(child, np.ndarray):
            setattr(node, name, child.copy())
        elif isinstance(child, list) or hasattr(child, "__dict__"):
            _own(child)


def _set(node: Any, key: Any, value: Any, what: str, show: bool = True) -> tuple[str, Any]:
    if isinstance(key, str):
        before = getattr(node, key)
        setattr(node, key, value)
        undo = lambda: setattr(node, key, before)  # noqa: E731
    else:
        before = node[key]
        try:
            node[key] = value
        except OverflowError:
            node[key] = 1
        undo = lambda: node.__setitem__(key, before)  # noqa: E731
    return f"{what} -> {value!r}" if show else what, undo


def _other(value: Any, random_: random.Random) -> Any:
    if isinstance(value, bool | np.bool_):
        return not value
    if isinstance(value, bytes):
        return value[: len(value) // 2]
    if isinstance(value, float | np.floating):
        return random_.choice((0.0, -1.0, 1e30, float("nan"), float("inf"), 1e-30))
    number = int(value)
    return random_.choice((*_ODD, number + 1, number - 1, number ^ (1 << random_.randrange(8)), random_.randrange(300)))


def files(base: bytes, seeds: range) -> Iterator[tuple[int, str, bytes]]:
    """(seed, what was changed, file) of every seed whose change fits the schema."""
    mutator = Mutator(base)
    for seed in seeds:
        found = mutator.mutate(seed)
        if found is not None:
            yield seed, *found


@functools.lru_cache(8)
def _mutator(base: bytes) -> Mutator:
    return Mutator(base)


def damage_graph(random_: random.Random, base: bytes) -> bytes:
    """A sound .tflite with one change of its graph, for a table of readers (tests/fuzz/kinds.py)."""
    while True:
        found = _mutator(base).mutate(random_.getrandbits(32))
        if found is not None:
            return found[1]
