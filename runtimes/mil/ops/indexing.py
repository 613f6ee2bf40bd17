"""Gather and scatter. A negative index counts from the end; one outside stops the call with an error.

With `validate_indices` (iOS 17 on) a negative index is an error, too. Without it Core ML leaves an index outside
undefined, and iOS 17 counts negative ones to them; here `scatter` leaves such rows out, the others stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from runtimes.mil.ops.table import Kernel, Node, op

VALIDATED_SINCE = 17


def positive(indices: Tensor, size: int, strict: bool = False) -> Tensor:
    """Indices as int64, negative ones counted from the end.

    Raises:
        IndexError: `strict`, and an index is negative or too large.
    """
    wide = indices.to(torch.int64)
    if strict and wide.numel() and not (int(wide.min()) >= 0 and int(wide.max()) < size):
        raise IndexError(f"an index is outside [0, {size}), and the program asks for validated indices")
    return torch.where(wide < 0, wide + size, wide)


def _strict(node: Node) -> bool:
    return node.opset >= VALIDATED_SINCE and node.flag("validate_indices", False)


def _batched(batch: int, pick: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    """`pick` for each place of the first `batch` axes, which x and the indices share."""

    def run(x: Tensor, indices: Tensor) -> Tensor:
        pairs = zip(x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:]), strict=True)
        joined = torch.stack([pick(part, index) for part, index in pairs])
        return joined.reshape(*x.shape[:batch], *joined.shape[1:])

    return Kernel(run, ("x", "indices"))


@op("gather", rounds=False)
def gather(node: Node) -> Kernel:
    """Slices of x along an axis, chosen by index; the first `batch_dims` axes go together."""
    axis, batch, strict = node.axis("axis", 0), node.integer("batch_dims", 0), _strict(node)
    sizes = node.type().shape
    size = sizes[axis] if sizes else None
    if batch == 0 and node.is_static("indices") and size is not None:
        raw = node.need("indices")
        known = positive(raw, size, strict)
        if known.numel() and not (int(known.min()) >= 0 and int(known.max()) < size):
            raise node.refuse(f"an index is out of range for axis {axis} of size {size}")
        if raw.dim() == 0:
            index = int(known)
            return Kernel(lambda x: x.select(axis, index), ("x",))
        if raw.dim() == 1:
            return Kernel(lambda x: x.index_select(axis, known), ("x",))

    def pick(x: Tensor, indices: Tensor, along: int) -> Tensor:
        chosen = x.index_select(along, positive(indices, x.shape[along], strict).reshape(-1))
        return chosen.reshape(*x.shape[:along], *indices.shape, *x.shape[along + 1 :])

    if batch == 0:
        return Kernel(lambda x, indices: pick(x, indices, axis), ("x", "indices"))

    return _batched(batch, lambda x, indices: pick(x, indices, axis - batch))


@op("gather_along_axis", rounds=False)
def gather_along_axis(node: Node) -> Kernel:
    """x at `indices` along an axis, the other axes in step."""
    axis, strict = node.axis("axis", 0), _strict(node)
    return Kernel(lambda x, i: torch.gather(x, axis, positive(i, x.shape[axis], strict)), ("x", "indices"))


def _linear(indices: Tensor, sizes: list[int], strict: bool) -> Tensor:
    """Rows of an index tensor [..., depth] as positions in row-major order."""
    place = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for k, size in enumerate(sizes):
        part = positive(indices[..., k], size, strict)
        if part.numel() and not (int(part.min()) >= 0 and int(part.max()) < size):
            raise IndexError(f"an index is out of range for an axis of size {size}")
        place = place * size + part
    return place


@op("gather_nd", rounds=False)
def gather_nd(node: Node) -> Kernel:
    """Slices of x at index vectors; the first `batch_dims` axes go together."""
    batch, strict = node.integer("batch_dims", 0), _strict(node)

    def pick(x: Tensor, indices: Tensor) -> Tensor:
        depth = indices.shape[-1]
        place = _linear(indices, list(x.shape[:depth]), strict)
        inner = x.shape[depth:]
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
    if mode in ("max", "min"):
        return data.index_reduce(0, place, updates, f"a{mode}")
    product = torch.ones_like(data).index_reduce(0, place, updates, "prod")
    return data * product if mode == "mul" else torch.div(data, product).to(data.dtype)


def _mode(node: Node) -> str:
    mode = node.text("mode", "add").lower()
    if mode not in ("add", "sub", "mul", "div", "max", "min", "update"):
        raise node.refuse(f"unknown mode {mode!r}")
    return mode


@op("scatter")
def scatter(node: Node) -> Kernel:
    """data with slices along an axis combined with updates."""
    axis, mode, strict = node.axis("axis", 0, of="data"), _mode(node), _strict(node)
    loose = node.opset >= VALIDATED_SINCE and not strict
    no_negative = node.opset == VALIDATED_SINCE

    def run(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        size = data.shape[axis]
        place = positive(indices, size, strict).reshape(-1)
        moved = data.movedim(axis, 0)
        shaped = updates.reshape(*data.shape[:axis], place.numel(), *data.shape[axis + 1 :]).movedim(axis, 0)
        rows = shaped.reshape(place.numel(), -1)
        if loose:
            valid = (indices.reshape(-1) >= 0) if no_negative else (place >= 0)
            valid = valid & (place < size)
            place, rows = place[valid], rows[valid]
        flat = combine(moved.reshape(size, -1), place, rows, mode)
        return flat.reshape(moved.shape).movedim(0, axis)

    return Kernel(run, ("data", "indices", "updates"))


@op("scatter_along_axis")
def scatter_along_axis(node: Node) -> Kernel:
    """data combined with updates at `indices` along an axis, the other axes in step."""
    axis, mode, strict = node.axis("axis", 0, of="data"), _mode(node), _strict(node)

    def run(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        index = positive(indices, data.shape[axis], strict)
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
    mode, strict = _mode(node), _strict(node)

    def run(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        place = _linear(indices, list(data.shape[:depth]), strict).reshape(-1)
        flat = data.reshape(math.prod(data.shape[:depth]), -1)
        return combine(flat, place, updates.reshape(place.numel(), -1), mode).reshape(data.shape)

    return Kernel(run, ("data", "indices", "updates"))
