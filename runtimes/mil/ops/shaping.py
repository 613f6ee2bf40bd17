"""Operations that only move, join, repeat or create values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from runtimes.mil.limits import room, room_to_pad
from runtimes.mil.ops.conv import torch_pads
from runtimes.mil.ops.table import TORCH_DTYPES, Kernel, Node, op


def _to_shape(node: Node) -> Kernel | None:
    """The kernel of any operation whose result is x in its declared, fully known shape."""
    shape = node.out_type.static_shape
    if shape is None:
        return None
    if shape == node.shape():
        return Kernel(None, ("x",))
    return Kernel(lambda x: x.reshape(shape), ("x",))


def _fill_in(sizes: Sequence[int], wanted: list[int], from_the_end: bool) -> list[int]:
    """`wanted` with zeros (copy that axis of the input) resolved; -1 is left to torch."""
    if not from_the_end:
        return [sizes[i] if n == 0 and i < len(sizes) else n for i, n in enumerate(wanted)]
    shift = len(sizes) - len(wanted)
    return [(sizes[i + shift] if i + shift >= 0 else 1) if n == 0 else n for i, n in enumerate(wanted)]


@op("reshape", rounds=False)
def reshape(node: Node) -> Kernel:
    """x in another shape; 0 copies an axis (from iOS 17 on counted from the last), -1 is what is left."""
    static = _to_shape(node)
    if static is not None:
        return static
    from_the_end = node.opset >= 17
    return Kernel(lambda x, shape: x.reshape(_fill_in(x.shape, shape.tolist(), from_the_end)), ("x", "shape"))


@op("reshape_like", rounds=False)
def reshape_like(node: Node) -> Kernel:
    """x in a shape put together from other tensors' axes; always known at load."""
    static = _to_shape(node)
    if static is None:
        raise node.refuse("the shape must be known at load")
    return static


@op("expand_dims", rounds=False)
def expand_dims(node: Node) -> Kernel:
    """x with axes of size one put in."""
    static = _to_shape(node)
    if static is not None:
        return static
    axes = node.integers("axes") or []
    rank = node.rank() + len(axes)
    places = sorted(a % rank for a in axes)

    def run(x: Tensor) -> Tensor:
        for place in places:
            x = x.unsqueeze(place)
        return x

    return Kernel(run, ("x",))


@op("squeeze", rounds=False)
def squeeze(node: Node) -> Kernel:
    """x without axes of size one."""
    static = _to_shape(node)
    if static is not None:
        return static
    axes = node.integers("axes")
    if axes is None:
        return Kernel(torch.squeeze, ("x",))
    dims = tuple(axes)
    return Kernel(lambda x: x.squeeze(dims), ("x",))


@op("flatten2d", rounds=False)
def flatten2d(node: Node) -> Kernel:
    """x as a matrix, split before `axis`."""
    axis = node.integer("axis", 1)
    return Kernel(lambda x: x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), ("x",))


@op("transpose", rounds=False)
def transpose(node: Node) -> Kernel:
    """x with axes permuted."""
    perm = node.integers("perm") or []
    if sorted(p % max(node.rank(), 1) for p in perm) != list(range(node.rank())):
        raise node.refuse(f"perm {perm} is no permutation of {node.rank()} axes")
    return Kernel(lambda x: x.permute(perm), ("x",))


@op("shape", rounds=False)
def shape(_node: Node) -> Kernel:
    """The shape of x as integers."""
    return Kernel(lambda x: torch.tensor(x.shape, dtype=torch.int32), ("x",))


def _joined(join: Callable[..., Tensor], values: tuple[Tensor, ...], axis: int = 0) -> Tensor:
    room([sum(v.numel() for v in values)])
    return join(values, axis)


@op("concat", rounds=False)
def concat(node: Node) -> Kernel:
    """Values joined along an axis; interleaved takes one slice of each in turn."""
    rank = node.rank("values")
    if rank == 0:
        return Kernel(lambda *values: _joined(torch.stack, values), ("values",))
    axis = node.axis("axis", 0, of="values")
    if node.flag("interleave", False):
        return Kernel(lambda *values: _joined(torch.stack, values, axis + 1).flatten(axis, axis + 1), ("values",))
    return Kernel(lambda *values: _joined(torch.cat, values, axis), ("values",))


@op("stack", rounds=False)
def stack(node: Node) -> Kernel:
    """Values joined along a new axis."""
    axis, types = node.integer("axis", 0), node.types("values")
    unequal = {str(t) for t in types if t.static_shape is None} and len({t.shape for t in types}) > 1

    def run(*values: Tensor) -> Tensor:
        if unequal:
            node.undefined(f"values of types {', '.join(map(str, types))} are stacked; their shapes must be the same")
        return _joined(torch.stack, values, axis)

    return Kernel(run, ("values",))


@op("split", rounds=False)
def split(node: Node) -> Kernel:
    """x cut along an axis."""
    count, axis = len(node.outputs), node.axis("axis", 0)
    if count == 1:
        return Kernel(None, ("x",))
    sizes = [o.type.shape[axis] for o in node.outputs]
    known = [n for n in sizes if n is not None]
    if len(known) == count:
        return Kernel(lambda x: torch.split(x, known, axis), ("x",))
    if node.has("split_sizes"):
        return Kernel(lambda x, lengths: torch.split(x, lengths.tolist(), axis), ("x", "split_sizes"))
    return Kernel(lambda x: torch.split(x, x.shape[axis] // count, axis), ("x",))


@op("tile", rounds=False)
def tile(node: Node) -> Kernel:
    """x repeated along each axis."""

    def run(x: Tensor, counts: list[int]) -> Tensor:
        room(n * count for n, count in zip(x.shape, counts, strict=True))
        return x.repeat(counts)

    if node.is_static("reps"):
        reps = node.integers("reps") or []
        return Kernel(lambda x: run(x, reps), ("x",))
    return Kernel(lambda x, reps: run(x, reps.tolist()), ("x", "reps"))


@op("reverse", rounds=False)
def reverse(node: Node) -> Kernel:
    """x backwards along axes."""
    axes = node.integers("axes")
    dims = list(range(node.rank())) if axes is None else axes
    return Kernel(lambda x: x.flip(dims), ("x",))


@op("reverse_sequence", rounds=False)
def reverse_sequence(node: Node) -> Kernel:
    """The first `lengths` steps of each batch item backwards."""
    time, batch = node.axis("seq_axis", 0), node.axis("batch_axis", 0)

    def turned(item: Tensor, n: int) -> Tensor:
        return torch.cat([item.narrow(time, 0, n).flip(time), item.narrow(time, n, item.shape[time] - n)], time)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        if x.shape[batch] == 0:
            return x
        return torch.cat([turned(i, n) for i, n in zip(torch.split(x, 1, batch), lengths.tolist(), strict=True)], batch)

    return Kernel(run, ("x", "lengths"))


def _mirrored(size: int, before: int, after: int, reflect: bool) -> Tensor:
    index = torch.arange(-before, size + after)
    if not reflect:
        return index.clamp(0, size - 1)
    period = max(2 * (size - 1), 1)
    index = index.remainder(period)
    return torch.where(index >= size, period - index, index)


@op("pad", rounds=False)
def pad(node: Node) -> Kernel:
    """x with values put around its last axes: a constant, the edge, or the mirrored inside."""
    mode = node.text("mode", "constant").lower()
    if mode not in ("constant", "reflect", "replicate"):
        raise node.refuse(f"unknown mode {mode!r}")
    value = node.number("constant_val", 0.0)
    fill = value if node.is_float() else int(value)

    def around(x: Tensor, pads: list[int]) -> Tensor:
        room_to_pad(x.shape, pads)
        if mode == "constant":
            return F.pad(x, torch_pads(pads), value=fill)
        first = x.dim() - len(pads) // 2
        for i in range(len(pads) // 2):
            if pads[2 * i] or pads[2 * i + 1]:
                index = _mirrored(x.shape[first + i], pads[2 * i], pads[2 * i + 1], mode == "reflect")
                x = x.index_select(first + i, index)
        return x

    if not node.is_static("pad"):
        return Kernel(lambda x, pads: around(x, pads.tolist()), ("x", "pad"))
    pads = node.integers("pad") or []
    if not any(pads):
        return Kernel(None, ("x",))
    if mode == "constant" and node.shape() is not None:
        room_to_pad(node.shape() or (), pads)
        ordered = torch_pads(pads)
        return Kernel(lambda x: F.pad(x, ordered, value=fill), ("x",))
    return Kernel(lambda x: around(x, pads), ("x",))


@op("depth_to_space", rounds=False)
def depth_to_space(node: Node) -> Kernel:
    """Channels to space; the block's place is the slowest part of the channel."""
    b = node.integer("block_size", 1)

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)

    return Kernel(run, ("x",))


@op("space_to_depth", rounds=False)
def space_to_depth(node: Node) -> Kernel:
    """The inverse of depth_to_space."""
    b = node.integer("block_size", 1)

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)

    return Kernel(run, ("x",))


@op("space_to_batch", rounds=False)
def space_to_batch(node: Node) -> Kernel:
    """Spatial blocks to the batch axis, after padding."""
    (b0, b1), around = node.integers("block_shape") or [1, 1], node.integers("paddings") or [0] * 4
    pads = torch_pads(around)

    def run(x: Tensor) -> Tensor:
        room_to_pad(x.shape, around)
        x = F.pad(x, pads)
        n, c, h, w = x.shape
        return x.reshape(n, c, h // b0, b0, w // b1, b1).permute(3, 5, 0, 1, 2, 4).reshape(-1, c, h // b0, w // b1)

    return Kernel(run, ("x",))


@op("batch_to_space", rounds=False)
def batch_to_space(node: Node) -> Kernel:
    """The inverse of space_to_batch, cropped."""
    (b0, b1), crops = node.integers("block_shape") or [1, 1], node.integers("crops") or [0] * 4
    around = [-c for c in crops]
    cuts = torch_pads(around)

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(b0, b1, n // (b0 * b1), c, h, w).permute(2, 3, 4, 0, 5, 1)
        whole = y.reshape(n // (b0 * b1), c, h * b0, w * b1)
        room_to_pad(whole.shape, around)
        return F.pad(whole, cuts)

    return Kernel(run, ("x",))


@op("pixel_shuffle", rounds=False)
def pixel_shuffle(node: Node) -> Kernel:
    """Channels to space; the block's place is the fastest part of the channel."""
    factor = node.integer("upscale_factor", 1)
    return Kernel(lambda x: F.pixel_shuffle(x, factor), ("x",))


@op("pixel_unshuffle", rounds=False)
def pixel_unshuffle(node: Node) -> Kernel:
    """The inverse of pixel_shuffle."""
    factor = node.integer("downscale_factor", 1)
    return Kernel(lambda x: F.pixel_unshuffle(x, factor), ("x",))


@op("sliding_windows", rounds=False)
def sliding_windows(node: Node) -> Kernel:
    """Windows of `size` every `stride` along an axis, on a new axis behind it."""
    axis, size, stride = node.axis("axis", 0), node.integer("size", 1), node.integer("stride", 1)

    def run(x: Tensor) -> Tensor:
        room([x.numel() // max(x.shape[axis], 1), max((x.shape[axis] - size) // max(stride, 1) + 1, 0), size])
        return x.unfold(axis, size, stride).movedim(-1, axis + 1)

    return Kernel(run, ("x",))


def _fill(node: Node) -> tuple[float | int | bool, torch.dtype]:
    kind = node.out_type.dtype
    value = node.number("value", 0.0)
    return (value if kind.startswith("fp") else bool(value) if kind == "bool" else int(value)), TORCH_DTYPES[kind]


@op("fill", rounds=False)
def fill(node: Node) -> Kernel:
    """A tensor of one value."""
    value, dtype = _fill(node)

    def run(shape: Tensor) -> Tensor:
        sizes = shape.tolist()
        room(sizes)
        return torch.full(sizes, value, dtype=dtype)

    return Kernel(run, ("shape",))


@op("fill_like", rounds=False)
def fill_like(node: Node) -> Kernel:
    """A tensor of one value, shaped as another."""
    value, dtype = _fill(node)
    return Kernel(lambda like: torch.full(like.shape, value, dtype=dtype), ("ref_tensor",))


@op("range_1d")
def range_1d(node: Node) -> Kernel:
    """start, start + step, ... below end."""
    dtype = TORCH_DTYPES[node.out_type.dtype]

    def run(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
        first, last, stride = start.item(), end.item(), step.item()
        if stride and math.isfinite(last - first):
            room([math.ceil((last - first) / stride)])
        return torch.arange(first, last, stride, dtype=dtype)

    return Kernel(run, ("start", "end", "step"))


@op("one_hot", rounds=False)
def one_hot(node: Node) -> Kernel:
    """on_value where the new axis' position equals the index, off_value elsewhere."""
    axis = node.integer("axis", -1)
    dtype = TORCH_DTYPES[node.out_type.dtype]
    on = torch.full((), node.number("on_value", 1.0)).to(dtype)
    off = torch.full((), node.number("off_value", 0.0)).to(dtype)

    def run(indices: Tensor, size: Tensor) -> Tensor:
        room([*indices.shape, int(size)])
        positions = torch.arange(int(size))
        return torch.where(indices.unsqueeze(-1) == positions, on, off).movedim(-1, axis)

    return Kernel(run, ("indices", "one_hot_vector_size"))


@op("band_part", rounds=False)
def band_part(node: Node) -> Kernel:
    """Matrices with everything outside a band around the diagonal set to zero; -1 keeps all of a side."""
    lower, upper = node.integer("lower", -1), node.integer("upper", -1)

    def run(x: Tensor) -> Tensor:
        y = x if upper < 0 else torch.tril(x, upper)
        return y if lower < 0 else torch.triu(y, -lower)

    return Kernel(run, ("x",))


@op("cumsum")
def cumsum(node: Node) -> Kernel:
    """Running sum along an axis, from either end, with or without the element itself."""
    axis, exclusive, backwards = node.axis("axis", 0), node.flag("exclusive", False), node.flag("reverse", False)

    def run(x: Tensor) -> Tensor:
        y = x.flip(axis) if backwards else x
        total = torch.cumsum(y, axis, dtype=x.dtype)
        if exclusive and y.shape[axis]:
            total = torch.cat([torch.zeros_like(y.narrow(axis, 0, 1)), total.narrow(axis, 0, y.shape[axis] - 1)], axis)
        return total.flip(axis) if backwards else total

    return Kernel(run, ("x",))


@op("non_zero", rounds=False)
def non_zero(_node: Node) -> Kernel:
    """Indices of what is not zero, one row each."""

    def run(x: Tensor) -> Tensor:
        # Places are made as int64.
        room([2, x.numel(), max(x.dim(), 1)])
        return torch.nonzero(x).to(torch.int32)

    return Kernel(run, ("x",))
