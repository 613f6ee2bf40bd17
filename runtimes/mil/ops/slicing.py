"""Slices, read and written. A slice is resolved to (start, length, step) an axis, at load where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from runtimes.mil.ops.table import Kernel, Node, op


class Masks(NamedTuple):
    """The constant part of a slice: strides and the masks that override begin and end."""

    strides: list[int]
    begin: list[bool]
    end: list[bool]
    squeeze: list[bool]


class Cut(NamedTuple):
    """A resolved slice: positive slices, then axes to turn round, then axes to drop."""

    slices: tuple[slice, ...]
    flips: list[int]
    drops: list[int]


def _masks(node: Node) -> Masks:
    rank = node.rank()
    no = [False] * rank
    return Masks(
        node.integers("stride") or [1] * rank,
        node.flags("begin_mask") or no,
        node.flags("end_mask") or no,
        node.flags("squeeze_mask") or no,
    )


def resolve(sizes: Sequence[int], begin: Sequence[int], end: Sequence[int], masks: Masks) -> Cut:
    """What a slice means for a tensor of these sizes (numpy's rules).

    Raises:
        IndexError: a squeezed index lies outside.
    """
    slices: list[slice] = []
    flips: list[int] = []
    for axis, size in enumerate(sizes):
        if masks.squeeze[axis]:
            index = 0 if masks.begin[axis] else begin[axis]
            if not -size <= index < size:
                raise IndexError(f"index {index} is out of range for axis {axis} of size {size}")
            slices.append(slice(index % size, index % size + 1, 1))
            continue
        taken = range(size)[
            None if masks.begin[axis] else begin[axis] : None if masks.end[axis] else end[axis] : masks.strides[axis]
        ]
        if taken.step < 0:
            flips.append(axis)
            taken = taken[::-1]
        slices.append(slice(taken.start, max(taken.stop, taken.start), taken.step) if len(taken) else slice(0, 0, 1))
    return Cut(tuple(slices), flips, [a for a, drop in enumerate(masks.squeeze) if drop])


def take(x: Tensor, cut: Cut) -> Tensor:
    """The part of x that a cut selects."""
    y = x[cut.slices]
    if cut.flips:
        y = y.flip(cut.flips)
    return y.squeeze(tuple(cut.drops)) if cut.drops else y


@op("slice_by_index", rounds=False)
def slice_by_index(node: Node) -> Kernel:
    """x[begin:end:stride] with masks."""
    masks, sizes = _masks(node), node.shape()
    if sizes is None or not (node.is_static("begin") and node.is_static("end")):
        return Kernel(
            lambda x, begin, end: take(x, resolve(x.shape, begin.tolist(), end.tolist(), masks)), ("x", "begin", "end")
        )
    try:
        cut = resolve(sizes, node.integers("begin") or [], node.integers("end") or [], masks)
    except IndexError as exc:
        raise node.refuse(str(exc)) from exc
    # narrow and select are much cheaper calls than indexing with a tuple, and cover nearly every real slice.
    real = [(a, s) for a, s in enumerate(cut.slices) if (s.start, s.stop, s.step) != (0, sizes[a], 1)]
    if cut.flips or any(s.step != 1 for _, s in real) or len(real) > 2 or len(cut.drops) > 1:
        return Kernel(lambda x: take(x, cut), ("x",))
    if cut.drops:
        drop = cut.drops[0]
        index = cut.slices[drop].start
        rest = [(a - (a > drop), s) for a, s in real if a != drop]
        if not rest:
            return Kernel(lambda x: x.select(drop, index), ("x",))
        axis, start, length = rest[0][0], rest[0][1].start, rest[0][1].stop - rest[0][1].start
        return Kernel(lambda x: x.select(drop, index).narrow(axis, start, length), ("x",))
    if not real:
        return Kernel(None, ("x",))
    axis, start, length = real[0][0], real[0][1].start, real[0][1].stop - real[0][1].start
    if len(real) == 1:
        return Kernel(lambda x: x.narrow(axis, start, length), ("x",))
    axis2, start2, length2 = real[1][0], real[1][1].start, real[1][1].stop - real[1][1].start
    return Kernel(lambda x: x.narrow(axis, start, length).narrow(axis2, start2, length2), ("x",))


@op("slice_by_size", rounds=False)
def slice_by_size(_node: Node) -> Kernel:
    """`size` elements from `begin` on along each axis; size -1 takes all that is left."""

    def run(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
        for axis, (start, length) in enumerate(zip(begin.tolist(), size.tolist(), strict=True)):
            first = start + x.shape[axis] if start < 0 else start
            x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
        return x

    return Kernel(run, ("x", "begin", "size"))


@op("slice_update", rounds=False)
def slice_update(node: Node) -> Kernel:
    """A copy of x with x[begin:end:stride] replaced."""
    masks = _masks(node)

    def run(x: Tensor, update: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        cut = resolve(x.shape, begin.tolist(), end.tolist(), masks)
        y = x.clone(memory_format=torch.contiguous_format)
        target = y[cut.slices]
        target.copy_(update.reshape(target.shape).flip(cut.flips))
        return y

    return Kernel(run, ("x", "update", "begin", "end"))
