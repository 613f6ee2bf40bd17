"""Gather and scatter.

Until iOS 16 a negative index counts from the end, and one outside stops the call. From iOS 17 on Core ML counts both
as out of bounds: with `validate_indices` they stop the call, without it what they do is undefined. Such a program may
do something else on every device, so the first such index gives an UndefinedWarning, and a strict program stops. Then

    a negative index    counts from the end, as before; only `scatter` of iOS 17 leaves the row out (by Apple's test)
    one outside         stops gather, gather_nd, gather_along_axis, scatter_nd and scatter_along_axis; `scatter`
                        leaves the row out (by Apple's test)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from runtimes.mil.limits import room
from runtimes.mil.ops.table import Kernel, Node, op

VALIDATED_SINCE = 17


Positive = Callable[[Tensor, int], Tensor]


def positive(node: Node) -> Positive:
    """What turns an operation's indices into int64, negative ones counted from the end of an axis of some size.

    It raises IndexError where the program asks for validated indices and one is negative or too large.
    """
    since = node.opset >= VALIDATED_SINCE
    validated = since and node.flag("validate_indices", False)

    def resolved(indices: Tensor, size: int) -> Tensor:
        wide = indices.to(torch.int64)
        low = int(wide.min()) if wide.numel() else 0
        if validated and wide.numel() and not (low >= 0 and int(wide.max()) < size):
            raise IndexError(f"an index is outside [0, {size}), and the program asks for validated indices")
        if low >= 0:
            return wide
        if since:
            node.undefined("a negative index, since iOS 17")
        return torch.where(wide < 0, wide + size, wide)

    return resolved


def _room_to_pick(x: Tensor, size: int, count: int) -> None:
    """Room for `count` slices of an x that holds `size` of them."""
    room([x.numel() // max(size, 1), count])


def _batched(batch: int, pick: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    """`pick` for each place of the first `batch` axes, which x and the indices share."""

    def run(x: Tensor, indices: Tensor) -> Tensor:
        shared = x.shape[:batch]
        count = math.prod(shared)
        parts, places = x.reshape(count, *x.shape[batch:]), indices.reshape(count, *indices.shape[batch:])
        if count == 0:
            inner = pick(x.new_zeros(x.shape[batch:]), indices.new_zeros(indices.shape[batch:]))
            return inner.new_zeros(*shared, *inner.shape)
        first = pick(parts[0], places[0])
        room([count, first.numel()])
        rest = [pick(part, place) for part, place in zip(parts[1:], places[1:], strict=True)]
        return torch.stack([first, *rest]).reshape(*shared, *first.shape)

    return Kernel(run, ("x", "indices"))


@op("gather", rounds=False)
def gather(node: Node) -> Kernel:
    """Slices of x along an axis, chosen by index; the first `batch_dims` axes go together."""
    kernel = _gather(node)
    fn = kernel.fn
    if not node.in_place or fn is None:
        return kernel
    # x is written in place afterwards: what was read stays.
    return kernel._replace(fn=lambda *values: fn(*values).clone())


def _gather(node: Node) -> Kernel:
    axis, batch, resolved = node.axis("axis", 0), node.integer("batch_dims", 0), positive(node)
    sizes = node.type().shape
    size = sizes[axis] if sizes else None
    if batch == 0 and node.is_static("indices") and size is not None:
        raw = node.need("indices")
        known = resolved(raw, size)
        if known.numel() and not (int(known.min()) >= 0 and int(known.max()) < size):
            raise node.refuse(f"an index is out of range for axis {axis} of size {size}")
        if raw.dim() == 0:
            index = int(known)
            return Kernel(lambda x: x.select(axis, index), ("x",))
        if raw.dim() == 1:
            whole = node.shape()
            if whole is not None:
                room([math.prod(whole) // max(size, 1), known.numel()])
                return Kernel(lambda x: x.index_select(axis, known), ("x",))

    def pick(x: Tensor, indices: Tensor, along: int) -> Tensor:
        if indices.numel() == 1:
            index = int(indices)
            if 0 <= index < x.shape[along]:
                return x.narrow(along, index, 1).reshape(*x.shape[:along], *indices.shape, *x.shape[along + 1 :])
        _room_to_pick(x, x.shape[along], indices.numel())
        chosen = x.index_select(along, resolved(indices, x.shape[along]).reshape(-1))
        return chosen.reshape(*x.shape[:along], *indices.shape, *x.shape[along + 1 :])

    if batch == 0:
        return Kernel(lambda x, indices: pick(x, indices, axis), ("x", "indices"))

    return _batched(batch, lambda x, indices: pick(x, indices, axis - batch))


@op("gather_along_axis", rounds=False)
def gather_along_axis(node: Node) -> Kernel:
    """x at `indices` along an axis, the other axes in step."""
    axis, resolved = node.axis("axis", 0), positive(node)
    return Kernel(lambda x, i: torch.gather(x, axis, resolved(i, x.shape[axis])), ("x", "indices"))


def _linear(indices: Tensor, sizes: list[int], resolved: Positive) -> Tensor:
    """Rows of an index tensor [..., depth] as positions in row-major order."""
    place = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for k, size in enumerate(sizes):
        part = resolved(indices[..., k], size)
        if part.numel() and not (int(part.min()) >= 0 and int(part.max()) < size):
            raise IndexError(f"an index is out of range for an axis of size {size}")
        place = place * size + part
    return place


@op("gather_nd", rounds=False)
def gather_nd(node: Node) -> Kernel:
    """Slices of x at index vectors; the first `batch_dims` axes go together."""
    batch, resolved = node.integer("batch_dims", 0), positive(node)

    def pick(x: Tensor, indices: Tensor) -> Tensor:
        depth = indices.shape[-1]
        place = _linear(indices, list(x.shape[:depth]), resolved)
        inner = x.shape[depth:]
        room([place.numel(), *inner])
        chosen = x.reshape(math.prod(x.shape[:depth]), *inner).index_select(0, place.reshape(-1))
        return chosen.reshape(*indices.shape[:-1], *inner)

    if batch == 0:
        return Kernel(pick, ("x", "indices"))

    return _batched(batch, pick)


def combine(data: Tensor, place: Tensor, updates: Tensor, mode: str) -> Tensor:
    """Rows of `data` [m, k] at `place` [n], combined with `updates` [n, k]; several to one row all count."""
    if mode == "add":
        return data.index_add(0, place, updates)
    if mode == "sub":
        return data.index_add(0, place, updates, alpha=-1)
    if mode == "update":
        return data.index_copy(0, place, updates)
    rows = place.unsqueeze(1).expand(updates.shape)
    if mode in ("max", "min"):
        return data.scatter_reduce(0, rows, updates, f"a{mode}")
    product = torch.ones_like(data).scatter_reduce(0, rows, updates, "prod")
    return data * product if mode == "mul" else torch.div(data, product).to(data.dtype)


def _mode(node: Node) -> str:
    mode = node.text("mode", "add").lower()
    if mode not in ("add", "sub", "mul", "div", "max", "min", "update"):
        raise node.refuse(f"unknown mode {mode!r}")
    return mode


@op("scatter")
def scatter(node: Node) -> Kernel:
    """data with slices along an axis combined with updates."""
    axis, mode, resolved = node.axis("axis", 0, of="data"), _mode(node), positive(node)
    loose = node.opset >= VALIDATED_SINCE and not node.flag("validate_indices", False)
    no_negative = node.opset == VALIDATED_SINCE
    in_place = node.in_place and axis == 0 and mode in ("add", "update")

    def run(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        size = data.shape[axis]
        place = resolved(indices, size).reshape(-1)
        moved = data.movedim(axis, 0)
        inner = math.prod(moved.shape[1:])
        shaped = updates.reshape(*data.shape[:axis], place.numel(), *data.shape[axis + 1 :]).movedim(axis, 0)
        rows = shaped.reshape(place.numel(), inner)
        if loose:
            valid = (indices.reshape(-1) >= 0) if no_negative else (place >= 0)
            inside = place < size
            if not bool(inside.all()):
                node.undefined(f"an index outside an axis of size {size}")
            valid = valid & inside
            if not bool(valid.all()):
                place, rows = place[valid], rows[valid]
        if in_place and data.is_contiguous():
            flat = data.view(size, inner)
            flat = flat.index_add_(0, place, rows) if mode == "add" else flat.index_copy_(0, place, rows)
            return data
        flat = combine(moved.reshape(size, inner), place, rows, mode)
        return flat.reshape(moved.shape).movedim(0, axis)

    return Kernel(run, ("data", "indices", "updates"))


@op("scatter_along_axis")
def scatter_along_axis(node: Node) -> Kernel:
    """data combined with updates at `indices` along an axis, the other axes in step."""
    axis, mode, resolved = node.axis("axis", 0, of="data"), _mode(node), positive(node)

    def run(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        index = resolved(indices, data.shape[axis])
        if mode == "update":
            return data.scatter(axis, index, updates)
        if mode in ("add", "sub"):
            return data.scatter_add(axis, index, updates if mode == "add" else -updates)
        if mode in ("max", "min"):
            return data.scatter_reduce(axis, index, updates, f"a{mode}")
        product = torch.ones_like(data).scatter_reduce(axis, index, updates, "prod")
        return data * product if mode == "mul" else torch.div(data, product).to(data.dtype)

    return Kernel(run, ("data", "indices", "updates"))


@op("scatter_nd")
def scatter_nd(node: Node) -> Kernel:
    """data with slices at index vectors combined with updates."""
    mode, resolved = _mode(node), positive(node)

    def run(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        place = _linear(indices, list(data.shape[:depth]), resolved).reshape(-1)
        inner = math.prod(data.shape[depth:])
        flat = data.reshape(math.prod(data.shape[:depth]), inner)
        return combine(flat, place, updates.reshape(place.numel(), inner), mode).reshape(data.shape)

    return Kernel(run, ("data", "indices", "updates"))
