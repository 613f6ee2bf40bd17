"""Lowerings for a fixed number of frames, the last pass."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from models.graph.builder import Builder, Value, name_of
from models.graph.table import FIXED, lowers, per_axis

_MASKED = -3.0e4  # what a softmax takes for never, in half too


@lowers(FIXED, "unfold")
def _unfold(b: Builder, x: Value, dim: int, size: int, step: int) -> Any:
    """Overlapping frames by slices of rows: [.., n, ..] to [.., frames, .., size]."""
    at = dim % len(x.shape)
    if at != len(x.shape) - 1:
        x = b.op("transpose", x, at, -1)
    *lead, samples = x.shape
    count = (samples - size) // step + 1
    row = math.gcd(size, step)
    rows, jump = size // row, step // row
    used = ((count - 1) * jump + rows) * row
    if used < samples:
        x = b.op("slice", x, -1, 0, used)
    grid = b.op("reshape", x, [*lead, used // row, row])
    columns = [b.op("slice", grid, -2, part, part + (count - 1) * jump + 1, jump) for part in range(rows)]
    y = b.op("cat", columns, -1) if rows > 1 else columns[0]  # [lead, frames, size]
    if at != len(x.shape) - 1:  # torch leaves the other axes where they were
        rank = len(y.shape)
        order = list(range(rank))
        order[at], order[rank - 2] = rank - 2, at
        y = b.op("permute", y, order)
    return y


@lowers(FIXED, "conv_transpose1d", "conv_transpose2d")
def _conv_transpose(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """A transposed convolution as an ordinary one whose channels are the samples between two of its input's."""
    if not weight.is_constant:
        return NotImplemented
    rank = len(weight.shape) - 2
    stride, padding, output_padding, dilation = (per_axis(n, rank) for n in (stride, padding, output_padding, dilation))
    if len(x.shape) == rank + 1:
        return b.op("squeeze", _conv_transpose(b, b.op("unsqueeze", x, 0), weight, bias, stride, padding,
                                               output_padding, groups, dilation), 0)  # fmt: skip
    kernel = _dilated(weight.tensor, dilation)
    wanted = [
        (n - 1) * s - 2 * p + k + o
        for n, s, p, k, o in zip(x.shape[2:], stride, padding, kernel.shape[2:], output_padding, strict=True)
    ]
    parts = [math.ceil(k / s) for k, s in zip(kernel.shape[2:], stride, strict=True)]
    for axis in range(rank):
        kernel = torch.nn.functional.pad(
            kernel, [0, 0] * (rank - 1 - axis) + [0, parts[axis] * stride[axis] - kernel.shape[2 + axis]]
        )
    inputs, outputs = kernel.shape[0], kernel.shape[1]
    grouped = kernel.reshape(groups, inputs // groups, outputs, *kernel.shape[2:])
    split = grouped.reshape(
        groups, inputs // groups, outputs, *(n for p, s in zip(parts, stride, strict=True) for n in (p, s))
    )
    # [groups, in, out, p0, s0, (p1, s1)] to [groups, out, s.., in, p..]
    phases = [4 + 2 * axis for axis in range(rank)]
    taps = [3 + 2 * axis for axis in range(rank)]
    turned = split.permute(0, 2, *phases, 1, *taps).flip([2 + rank + 1 + axis - 0 for axis in range(rank)])
    flat = turned.reshape(groups * outputs * math.prod(stride), inputs // groups, *parts)
    factor = math.prod(stride)
    wide = None
    if isinstance(bias, Value):
        wide = b.constant(bias.tensor.repeat_interleave(factor)) if bias.is_constant else None
        if wide is None:
            return NotImplemented
    y = b.op(f"conv{rank}d", x, b.constant(flat), wide, [1] * rank, [p - 1 for p in parts], [1] * rank, groups)
    if factor > 1:
        y = _interleave(b, y, groups * outputs, stride)
    for axis in range(rank):
        first, size = padding[axis], wanted[axis]
        have = y.shape[2 + axis]
        if first + size > have:
            pads = [0, 0] * (rank - 1 - axis) + [0, first + size - have]
            y = b.op("constant_pad_nd", y, pads)
            if isinstance(bias, Value):
                tail = torch.zeros(y.shape)
                tail.narrow(2 + axis, have, first + size - have).add_(bias.tensor.reshape(1, -1, *[1] * rank))
                y = b.op("add", y, b.constant(tail))
        if (first, first + size) != (0, y.shape[2 + axis]):
            y = b.op("slice", y, 2 + axis, first, first + size)
    return y


def _dilated(weight: Tensor, dilation: list[int]) -> Tensor:
    """The kernel with its holes filled by zeros."""
    sizes = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    if sizes == list(weight.shape[2:]):
        return weight
    full = weight.new_zeros(*weight.shape[:2], *sizes)
    full[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = weight
    return full


def _interleave(b: Builder, y: Value, channels: int, stride: list[int]) -> Value:
    """[1, channels x strides, frames..] to [1, channels, frames x stride..]."""
    batch, _, *sizes = y.shape
    rank = len(sizes)
    y = b.op("reshape", y, [batch, channels, *stride, *sizes])
    order = [0, 1]
    for axis in range(rank):
        order += [2 + rank + axis, 2 + axis]
    y = b.op("permute", y, order)
    value: Value = b.op("reshape", y, [batch, channels, *(n * s for n, s in zip(sizes, stride, strict=True))])
    return value


@lowers(FIXED, "linear")
def _linear(b: Builder, x: Value, weight: Value, bias: Any = None) -> Any:
    """Over more than three axes as over rows: litert-torch makes a product of rank 3 of it and expects rank 4."""
    if bias is None and (len(x.shape) > 3 or _is_reshaped(x)):
        return _turned(b, x, weight)
    if len(x.shape) < 4:
        return NotImplemented
    rows = b.op("linear", b.op("reshape", x, [math.prod(x.shape[:-1]), x.shape[-1]]), weight, bias)
    return b.op("reshape", rows, [*x.shape[:-1], rows.shape[-1]])


@lowers(FIXED, "matmul")
def _matmul(b: Builder, x: Value, y: Value) -> Any:
    """A constant matrix behind more than three axes: as `linear`."""
    if not y.is_constant or len(y.shape) != 2 or len(x.shape) < 2 or not (len(x.shape) > 3 or _is_reshaped(x)):
        return NotImplemented
    return _turned(b, x, b.constant(y.tensor.T.contiguous()))


def _turned(b: Builder, x: Value, weight: Value) -> Value:
    """(W x^T)^T over rows: LiteRT's converter joins x W^T and the reshapes beside it to a wrong rank."""
    rows = b.op("reshape", x, [math.prod(x.shape[:-1]), x.shape[-1]])
    turned = b.op("transpose", b.op("matmul", weight, b.op("transpose", rows, 0, 1)), 0, 1)
    value: Value = b.op("reshape", turned, [*x.shape[:-1], weight.shape[0]])
    return value


def _is_reshaped(x: Value) -> bool:
    return x.node is not None and name_of(x.node) in ("reshape", "view")


@lowers(FIXED, "scaled_dot_product_attention")
def _attention(
    b: Builder,
    q: Value,
    k: Value,
    v: Value,
    mask: Any = None,
    _dropout: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if enable_gqa:
        return NotImplemented
    factor = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    weights = b.op("matmul", b.op("mul", q, factor), b.op("transpose", k, -2, -1))
    if is_causal:
        ahead = torch.ones(q.shape[-2], k.shape[-2]).triu(1)
        weights = b.op("add", weights, b.constant(_MASKED * ahead))
    if isinstance(mask, Value):
        if mask.tensor.dtype == torch.bool:
            if mask.is_constant:
                weights = b.op("add", weights, b.constant(torch.where(mask.tensor, 0.0, _MASKED)))
            else:
                weights = b.op("where", mask, weights, b.constant(torch.tensor(_MASKED)))
        else:
            weights = b.op("add", weights, b.op("clamp", mask, min=_MASKED))
    return b.op("matmul", b.op("softmax", weights, -1), v)


@lowers(FIXED, "pad")
def _pad(b: Builder, x: Value, pads: list[int], mode: str = "constant", value: float | None = None) -> Any:
    """Reflected, repeated and circular padding by slices."""
    if mode == "constant":
        return b.op("constant_pad_nd", x, pads, value or 0.0)
    for index in range(len(pads) // 2):
        dim = len(x.shape) - 1 - index
        before, after = pads[2 * index], pads[2 * index + 1]
        if before < 0 or after < 0:
            x = b.op("slice", x, dim, max(0, -before), x.shape[dim] + min(0, after))
            before, after = max(0, before), max(0, after)
        size = x.shape[dim]

        def row(at: int, dim: int = dim, x: Value = x) -> Value:
            part: Value = b.op("slice", x, dim, at, at + 1)
            return part

        if mode == "replicate":
            front, back = [row(0)] * before, [row(size - 1)] * after
        elif mode == "reflect":
            front = [b.op("flip", b.op("slice", x, dim, 1, before + 1), [dim])] if before else []
            back = [b.op("flip", b.op("slice", x, dim, size - 1 - after, size - 1), [dim])] if after else []
        else:
            front = [b.op("slice", x, dim, size - before, size)] if before else []
            back = [b.op("slice", x, dim, 0, after)] if after else []
        if front or back:
            x = b.op("cat", [*front, x, *back], dim)
    return x


# --- other rates --------------------------------------------------------------------------------------------


def _positions(b: Builder, x: Value, args: Any, axes: int) -> Any:
    """Along each axis: where torch's own operation takes its values from, [new, old] with rows that sum to one."""
    name = b.operation
    target = getattr(torch.ops.aten, name)
    matrices = []
    size, *rest = args
    scales = rest[-1] if rest else None
    for axis in range(axes):
        old = x.shape[len(x.shape) - axes + axis]
        eye = torch.eye(old).reshape(1, old, old) if axes == 1 else _eye(old, axes, axis)
        sizes = None if size is None else [size[axis] if a == axis else 1 for a in range(axes)]
        factors = None if scales is None else [scales[axis] if a == axis else 1.0 for a in range(axes)]
        made = target(eye, sizes, *rest[:-1], factors)
        matrices.append(made.reshape(old, -1).T.contiguous())
    return matrices


def _eye(old: int, axes: int, axis: int) -> Tensor:
    shape = [1, old, *(old if a == axis else 1 for a in range(axes))]
    return torch.eye(old).reshape(shape)


@lowers(FIXED, "upsample_nearest1d", "upsample_nearest2d", "upsample_linear1d", "upsample_bilinear2d")
def _resample(b: Builder, x: Value, *args: Any) -> Any:
    """Repeated, picked or interpolated by what torch itself says; LiteRT's own resizing counts its places otherwise."""
    if len(args) < 2 or isinstance(args[-1], float):
        return NotImplemented
    axes = 1 if b.operation.endswith("1d") else 2
    for axis, matrix in enumerate(_positions(b, x, args, axes)):
        dim = len(x.shape) - axes + axis
        new, old = matrix.shape
        if new == old and bool(torch.equal(matrix, torch.eye(old))):
            continue
        places = matrix.argmax(1)
        if "nearest" not in b.operation:
            y = b.op("matmul", b.op("transpose", x, dim, -1), b.constant(matrix.T.contiguous()))
            x = b.op("transpose", y, dim, -1)
        elif new % old == 0 and bool(torch.equal(places, torch.arange(old).repeat_interleave(new // old))):
            wide = b.op("cat", [b.op("unsqueeze", x, dim + 1)] * (new // old), dim + 1)
            x = b.op("reshape", wide, [*x.shape[:dim], new, *x.shape[dim + 1 :]])
        else:
            x = b.op("index_select", x, dim, b.constant(places))
    return x


@lowers(FIXED, "adaptive_max_pool1d", "adaptive_max_pool2d")
def _adaptive_max(b: Builder, x: Value, size: list[int]) -> Any:
    """The largest of each part; its place is not known, and nothing may read it."""
    for axis, wanted in enumerate(size):
        dim = len(x.shape) - len(size) + axis
        have = x.shape[dim]
        parts = [(place * have // wanted, -((place + 1) * have // -wanted)) for place in range(wanted)]
        x = b.op("cat", [b.op("amax", b.op("slice", x, dim, *part), [dim], True) for part in parts], dim)
    return (x, None)


# --- arithmetic ---------------------------------------------------------------------------------------------


@lowers(FIXED, "add", "sub", "mul", "div")
def _without_expand(b: Builder, x: Any, y: Any, **kwargs: Any) -> Any:
    """What is expanded for arithmetic alone is not: that is what broadcasting does, and LiteRT refuses some of it."""
    one, two = _unexpanded(b, x), _unexpanded(b, y)
    if (one is x and two is y) or kwargs.get("rounding_mode") is not None:
        return NotImplemented
    broadcast: Any = torch.broadcast_shapes  # untyped in torch
    if broadcast(_shape(one), _shape(two)) != broadcast(_shape(x), _shape(y)):
        return NotImplemented
    return b.op(b.operation, one, two, **kwargs)


def _unexpanded(b: Builder, x: Any) -> Any:
    if not isinstance(x, Value) or x.node is None or "aten.expand" not in str(x.node.target):
        return x
    source = x.node.args[0]
    value = b.values[source]  # type: ignore[index]
    return Value(value, source) if value.dim() == x.tensor.dim() else x  # type: ignore[arg-type]


def _shape(x: Any) -> tuple[int, ...]:
    return x.shape if isinstance(x, Value) else ()
