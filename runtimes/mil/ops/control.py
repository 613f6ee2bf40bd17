"""Branches, loops and lists. A list is a Python list that is never changed in place."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from models.common.errors import ArtefactError
from runtimes.mil.limits import MAX_ELEMENTS, MAX_LIST, held, room
from runtimes.mil.ops.table import TORCH_DTYPES, Kernel, Node, op

MAX_ITERATIONS = 1_000_000


@op("cond", rounds=False, pure=False)
def cond(node: Node) -> Kernel:
    """One of two blocks."""
    yes, no = node.subprogram(0), node.subprogram(1)
    split, single = len(yes.captured), len(node.outputs) == 1

    def run(pred: Tensor, *outer: Any) -> Any:
        results = yes.run(*outer[:split]) if bool(pred) else no.run(*outer[split:])
        return results[0] if single else results

    return Kernel(run, ("pred",), (*yes.captured, *no.captured))


@op("while_loop", rounds=False, pure=False)
def while_loop(node: Node) -> Kernel:
    """The second block again and again while the first says so."""
    test, body = node.subprogram(0), node.subprogram(1)
    count, split, single = node.count("loop_vars"), len(test.captured), len(node.outputs) == 1
    place = node.place

    def run(*values: Any) -> Any:
        current, outer_test, outer_body = values[:count], values[count : count + split], values[count + split :]
        if body.in_place:
            current = tuple(
                v.clone(memory_format=torch.contiguous_format) if i in body.in_place and isinstance(v, Tensor) else v
                for i, v in enumerate(current)
            )
        for _ in range(MAX_ITERATIONS):
            if not bool(test.run(*current, *outer_test)[0]):
                return current[0] if single else current
            current = body.run(*current, *outer_body)
            if held(current) > MAX_ELEMENTS:
                raise ArtefactError(f"{place}: its values grow beyond {MAX_ELEMENTS} elements; refused")
        raise ArtefactError(f"{place}: the loop did not end within {MAX_ITERATIONS} rounds")

    return Kernel(run, ("loop_vars",), (*test.captured, *body.captured))


@op("make_list", rounds=False)
def make_list(node: Node) -> Kernel:
    """A list of zeros."""
    length = node.integer("init_length", 1)
    kind = node.out_type
    sizes = [n or 0 for n in kind.shape]
    _room_for_items(length, math.prod(sizes))
    item = torch.zeros(sizes, dtype=TORCH_DTYPES.get(kind.dtype, torch.float32))
    return Kernel(lambda: [item] * length, ())


def _room_for_items(count: int, elements: int) -> None:
    if count > MAX_LIST:
        raise ValueError(f"a list of {count} items is longer than {MAX_LIST}; refused")
    room([count, elements])


def _written(items: list[Tensor], index: int, value: Tensor) -> list[Tensor]:
    _room_for_items(max(len(items), index + 1), value.numel())
    copy = list(items)
    if index >= len(copy):
        copy += [torch.zeros_like(value)] * (index + 1 - len(copy))
    copy[index] = value
    return copy


@op("list_write", rounds=False)
def list_write(_node: Node) -> Kernel:
    """The list with one item replaced; it grows where the index lies behind its end."""
    return Kernel(lambda ls, index, value: _written(ls, int(index), value), ("ls", "index", "value"))


@op("list_read", rounds=False)
def list_read(_node: Node) -> Kernel:
    """One item."""
    return Kernel(lambda ls, index: ls[int(index)], ("ls", "index"))


@op("list_gather", rounds=False)
def list_gather(_node: Node) -> Kernel:
    """Items at indices, stacked."""

    def run(ls: list[Tensor], indices: Tensor) -> Tensor:
        if not indices.numel() and ls:
            return ls[0].new_zeros((0, *ls[0].shape))
        room([indices.numel(), max((item.numel() for item in ls), default=0)])
        return torch.stack([ls[i] for i in indices.tolist()])

    return Kernel(run, ("ls", "indices"))


@op("list_scatter", rounds=False)
def list_scatter(_node: Node) -> Kernel:
    """The list with items at indices replaced by rows."""

    def run(ls: list[Tensor], indices: Tensor, rows: Tensor) -> list[Tensor]:
        _room_for_items(len(ls), held(rows[:1]))
        for index, row in zip(indices.tolist(), rows, strict=True):
            ls = _written(ls, index, row)
        return ls

    return Kernel(run, ("ls", "indices", "value"))


@op("list_length", rounds=False)
def list_length(_node: Node) -> Kernel:
    """How many items the list has."""
    return Kernel(lambda ls: torch.tensor(len(ls), dtype=torch.int32), ("ls",))
