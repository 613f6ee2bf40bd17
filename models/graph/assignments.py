"""Assignments to parts of a tensor as slices and joins, and what is read of it afterwards."""

from __future__ import annotations

from typing import Any, cast

from models.graph.builder import Builder, Value, name_of
from models.graph.operations import axis_of
from models.graph.table import SHAPE_FREE, lowers


@lowers(SHAPE_FREE, "slice")
def _slice(b: Builder, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    """A part of what was just joined is that part: an assignment that is read again."""
    if x.node is None or name_of(x.node) != "cat" or step != 1:
        return NotImplemented
    if x.node in b.joined:
        first, last, _ = slice(start, end).indices(x.shape[dim])
        return _part(b, x, dim, first, last) if first < last else NotImplemented
    parts, *at = cast("tuple[Any, ...]", x.node.args)
    axis = axis_of(x, dim)
    if axis_of(x, at[0] if at else 0) != axis:
        return NotImplemented
    first, last, _ = slice(start, end).indices(x.shape[axis])
    place = 0
    for part in parts:
        size = b.values[part].shape[axis]
        if (first, last) == (place, place + size):
            return Value(b.values[part], part)
        place += size
    return NotImplemented


@lowers(SHAPE_FREE, "slice_scatter")
def _slice_scatter(
    b: Builder, x: Value, new: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    size = x.shape[dim]
    first, last, _ = slice(start, end).indices(size)
    if step != 1:
        rows = [new_row(b, x, new, dim, i, first, step, last) for i in range(size)]
        return b.op("cat", rows, dim)
    if (first, last) == (0, size):
        return new
    front = [_part(b, x, dim, 0, first)] if first else []
    back = [_part(b, x, dim, last, size)] if last < size else []
    whole = b.op("cat", [*front, new, *back], dim)
    if whole.node is not None:
        b.joined[whole.node] = (dim % len(x.shape), [*front, new, *back])
    return whole


def _part(b: Builder, x: Value, dim: int, first: int, last: int) -> Value:
    """Rows of a value; of one that was assigned to in parts, from the part that has them all."""
    at = 0
    axis, parts = b.joined.get(x.node, (-1, [])) if x.node is not None else (-1, [])
    for part in parts if axis == dim % len(x.shape) else []:
        size = part.shape[dim]
        if at <= first < last <= at + size:
            return _part(b, part, dim, first - at, last - at)
        at += size
    if (first, last) == (0, x.shape[dim]):
        return x
    rows: Value = b.op("slice", x, dim, first, last)
    return rows


@lowers(SHAPE_FREE, "select")
def _select(b: Builder, x: Value, dim: int, index: int) -> Any:
    if x.node not in b.joined:
        return NotImplemented
    at = index % x.shape[dim]
    return b.op("squeeze", _part(b, x, dim, at, at + 1), dim)


def new_row(b: Builder, x: Value, new: Value, dim: int, at: int, first: int, step: int, last: int) -> Value:
    """One row of an assignment to every `step`th."""
    hit = first <= at < last and (at - first) % step == 0
    where = (at - first) // step if hit else at
    row: Value = b.op("slice", new if hit else x, dim, where, where + 1)
    return row


@lowers(SHAPE_FREE, "select_scatter")
def _select_scatter(b: Builder, x: Value, new: Value, dim: int, index: int) -> Any:
    at = index % x.shape[dim]
    return _slice_scatter(b, x, b.op("unsqueeze", new, dim), dim, at, at + 1)


@lowers(SHAPE_FREE, "copy")
def _copy(b: Builder, x: Value, new: Value, *_: Any) -> Any:
    return new if new.shape == x.shape else b.op("expand", new, list(x.shape))
