"""Lowerings for any length: operations written as simpler ones that both converters take."""

from __future__ import annotations

import math
from typing import Any

import torch

from models.common.errors import ConversionError
from models.graph.builder import Builder, Value
from models.graph.table import SHAPE_FREE, lowers, per_axis


def axis_of(x: Value, dim: int) -> int:
    """An axis counted from the front."""
    return dim % len(x.shape)


# --- types --------------------------------------------------------------------------------------------------


@lowers(SHAPE_FREE, "_to_copy", "to", "type_as")
def _to(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Any:
    """A float stays one, whatever its size."""
    wanted = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    dtype = args[0].tensor.dtype if args and isinstance(args[0], Value) else (wanted or [x.tensor.dtype])[0]
    if dtype == x.tensor.dtype or (dtype.is_floating_point and x.tensor.is_floating_point()):
        return x
    return b.op("_to_copy", x, dtype=torch.float32 if dtype.is_floating_point else dtype)


def as_float(b: Builder, x: Any) -> Any:
    """A bool as 0 or 1: arithmetic with truth values is another thing in each format."""
    if isinstance(x, Value) and x.tensor.dtype == torch.bool:
        return b.op("_to_copy", x, dtype=torch.float32)
    return x


@lowers(SHAPE_FREE, "mul", "add", "sub", "div")
def _arithmetic(b: Builder, x: Any, y: Any, **kwargs: Any) -> Any:
    if kwargs.get("rounding_mode") is not None:
        return NotImplemented
    if all(isinstance(z, Value) and z.tensor.dtype == torch.bool for z in (x, y)) and b.operation in ("mul", "add"):
        return b.op("logical_and" if b.operation == "mul" else "logical_or", x, y)
    one, two = as_float(b, x), as_float(b, y)
    name = b.operation if b.operation in ("mul", "add", "sub", "div") else None
    if (one is x and two is y) or name is None:
        return NotImplemented
    return b.op(name, one, two, **kwargs)


# --- norms --------------------------------------------------------------------------------------------------


@lowers(SHAPE_FREE, "_native_batch_norm_legit_no_training")
def _batch_norm(
    b: Builder, x: Value, weight: Any, bias: Any, mean: Value, variance: Value, momentum: float, eps: float
) -> tuple[Value, ...]:
    return (b.op("batch_norm", x, weight, bias, mean, variance, False, momentum, eps, False),)


@lowers(SHAPE_FREE, "batch_norm")
def _batch_norm_whole(
    b: Builder, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float,
    *_: Any,
) -> Any:  # fmt: skip
    return (
        NotImplemented if training else b.op("batch_norm", x, weight, bias, mean, variance, False, momentum, eps, False)
    )


@lowers(SHAPE_FREE, "instance_norm")
def _instance_norm(
    b: Builder,
    x: Value,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Any:
    if use_input_stats:
        return NotImplemented
    return b.op("batch_norm", x, weight, bias, mean, variance, False, momentum, eps, False)


# --- values put elsewhere -----------------------------------------------------------------------------------


@lowers(SHAPE_FREE, "view", "_unsafe_view", "view_copy")
def _view(b: Builder, x: Value, shape: list[int]) -> Any:
    """Whatever order its memory has."""
    return b.op("reshape", x, shape)


@lowers(SHAPE_FREE, "pad")
def _pad(b: Builder, x: Value, pads: list[int], mode: str = "constant", value: float | None = None) -> Any:
    if mode != "constant":
        return NotImplemented
    return b.op("constant_pad_nd", x, pads, value or 0.0)


@lowers(SHAPE_FREE, "zeros_like", "new_zeros", "ones_like", "new_ones", "full_like", "new_full")
def _made(b: Builder, x: Value, *args: Any, dtype: torch.dtype | None = None, **_: Any) -> Any:
    """A constant of the size that it is asked for."""
    sizes = [a for a in args if isinstance(a, list | tuple)]
    shape = list(sizes[0]) if sizes else list(x.shape)
    value = 1.0 if "ones" in b.operation else 0.0
    if "full" in b.operation:
        value = float(next(a for a in args if not isinstance(a, list | tuple)))
    return b.constant(torch.full(shape, value, dtype=dtype or x.tensor.dtype))


@lowers(SHAPE_FREE, "fill")
def _fill(b: Builder, x: Value, value: Any) -> Any:
    if isinstance(value, Value) and not value.is_constant:
        return b.op("expand", value, list(x.shape))
    number = float(value.tensor if isinstance(value, Value) else value)
    return b.constant(torch.full(x.shape, number, dtype=x.tensor.dtype))


@lowers(SHAPE_FREE, "repeat", "tile")
def _repeat(b: Builder, x: Value, repeats: list[int]) -> Any:
    if len(repeats) < len(x.shape):
        repeats = [1] * (len(x.shape) - len(repeats)) + list(repeats)
    for _ in range(len(repeats) - len(x.shape)):
        x = b.op("unsqueeze", x, 0)
    for dim, count in enumerate(repeats):
        if count > 1:
            x = b.op("cat", [x] * count, dim)
    return x


@lowers(SHAPE_FREE, "repeat_interleave")
def _repeat_interleave(b: Builder, x: Value, repeats: Any, dim: int | None = None, **_: Any) -> Any:
    if not isinstance(repeats, int) or dim is None:
        return NotImplemented
    at = axis_of(x, dim)
    shape = list(x.shape)
    wide = b.op("cat", [b.op("unsqueeze", x, at + 1)] * repeats, at + 1)
    return b.op("reshape", wide, [*shape[:at], shape[at] * repeats, *shape[at + 1 :]])


@lowers(SHAPE_FREE, "roll")
def _roll(b: Builder, x: Value, shifts: list[int], dims: list[int] | None = None) -> Any:
    if not dims:
        return NotImplemented
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim]
        cut = (size - shift) % size
        if cut:
            x = b.op("cat", [b.op("slice", x, dim, cut, size), b.op("slice", x, dim, 0, cut)], dim)
    return x


@lowers(SHAPE_FREE, "diff")
def _diff(b: Builder, x: Value, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    parts = [part for part in (prepend, x, append) if part is not None]
    x = b.op("cat", parts, dim) if len(parts) > 1 else x
    at = axis_of(x, dim)
    for _ in range(n):
        x = b.op("sub", b.op("slice", x, at, 1, x.shape[at]), b.op("slice", x, at, 0, -1))
    return x


@lowers(SHAPE_FREE, "pixel_shuffle")
def _pixel_shuffle(b: Builder, x: Value, factor: int) -> Any:
    *batch, channels, height, width = x.shape
    kept = channels // factor**2
    lead = len(batch)
    y = b.op("reshape", x, [*batch, kept, factor, factor, height, width])
    order = [*range(lead), lead, lead + 3, lead + 1, lead + 4, lead + 2]
    return b.op("reshape", b.op("permute", y, order), [*batch, kept, height * factor, width * factor])


# --- arithmetic ---------------------------------------------------------------------------------------------


@lowers(SHAPE_FREE, "hypot")
def _hypot(b: Builder, x: Value, y: Value) -> Value:
    value: Value = b.op("sqrt", b.op("add", b.op("mul", x, x), b.op("mul", y, y)))
    return value


@lowers(SHAPE_FREE, "linalg_vector_norm", "norm")
def _norm(b: Builder, x: Value, order: float | None = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
    """Of the orders that nets use."""
    axes = list(range(len(x.shape))) if dim is None or dim == [] else dim
    if order in (2, None):
        return b.op("sqrt", b.op("sum", b.op("mul", x, x), axes, keepdim))
    if order == 1:
        return b.op("sum", b.op("abs", x), axes, keepdim)
    return b.op("amax", b.op("abs", x), axes, keepdim) if order == math.inf else NotImplemented


@lowers(SHAPE_FREE, "cdist", "_cdist_forward")
def _cdist(b: Builder, x: Value, y: Value, order: float = 2.0, *_: Any) -> Any:
    """Distances of rows, by their differences."""
    apart = b.op("sub", b.op("unsqueeze", x, -2), b.op("unsqueeze", y, -3))
    if order == 2.0:
        return b.op("sqrt", b.op("sum", b.op("mul", apart, apart), [-1]))
    return b.op("sum", b.op("abs", apart), [-1]) if order == 1.0 else NotImplemented


# --- convolutions -------------------------------------------------------------------------------------------


@lowers(SHAPE_FREE, "conv1d", "conv2d")
def _conv(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Padding said in words is padded; a recording without a batch axis gets one."""
    rank = len(weight.shape) - 2
    name = f"conv{rank}d"
    stride, dilation = per_axis(stride, rank), per_axis(dilation, rank)
    if len(x.shape) == rank + 1:
        y = _conv(b, b.op("unsqueeze", x, 0), weight, bias, stride, padding, dilation, groups)
        return b.op("squeeze", y, 0)
    if isinstance(padding, str):
        pads: list[int] = []
        for size, step in zip(weight.shape[2:], dilation, strict=True):
            total = (size - 1) * step if padding == "same" else 0
            pads = [total // 2, total - total // 2, *pads]
        if len(set(pads)) > 1 or any(pads[i] != pads[i + 1] for i in range(0, len(pads), 2)):
            return b.op(name, b.op("constant_pad_nd", x, pads), weight, bias, stride, [0] * rank, dilation, groups)
        return b.op(name, x, weight, bias, stride, pads[::2][::-1], dilation, groups)
    return b.op(name, x, weight, bias, stride, per_axis(padding, rank), dilation, groups)


@lowers(SHAPE_FREE, "convolution")
def _convolution(
    b: Builder, x: Value, w: Value, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Any:  # fmt: skip
    rank = len(w.shape) - 2
    if transposed:
        return b.op(f"conv_transpose{rank}d", x, w, bias, stride, padding, output_padding, groups, dilation)
    return b.op(f"conv{rank}d", x, w, bias, stride, padding, dilation, groups)


@lowers(SHAPE_FREE, "col2im")
def _fold(
    b: Builder, x: Value, size: list[int], kernel: list[int], dilation: list[int], padding: list[int], stride: list[int]
) -> Any:
    """Overlap-add as a transposed convolution whose kernel puts each value where it belongs."""
    taps = kernel[0] * kernel[1]
    unbatched = len(x.shape) == 2
    if unbatched:
        x = b.op("unsqueeze", x, 0)
    channels = x.shape[1] // taps
    counts = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True)
    ]
    eye = torch.eye(taps).reshape(taps, 1, *kernel).repeat(channels, 1, 1, 1)
    if kernel[0] == size[0] == 1 and dilation == [1, 1] and padding == [0, 0]:
        y = b.op("conv_transpose1d", x, b.constant(eye[:, :, 0]), None, stride[1:], [0], [0], channels)
        whole = y.shape[-1]
        if whole < size[1]:
            y = b.op("constant_pad_nd", y, [0, size[1] - whole])
        y = b.op("unsqueeze", y, 2)
    else:
        grid = b.op("reshape", x, [x.shape[0], x.shape[1], *counts])
        missing = [
            n - ((c - 1) * s - 2 * p + d * (k - 1) + 1)
            for n, c, k, d, p, s in zip(size, counts, kernel, dilation, padding, stride, strict=True)
        ]
        given = (grid, b.constant(eye), None, stride, padding, missing, channels, dilation)
        y = _transposed(b, *given)
        if y is NotImplemented:
            y = b.op("conv_transpose2d", *given)
    return b.op("squeeze", y, 0) if unbatched else y


@lowers(SHAPE_FREE, "conv_transpose2d")
def _transposed(
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
    """Along one axis only where the other is a point: its stream is conv_transpose1d's."""
    steps, pads, more, holes = (per_axis(n, 2) for n in (stride, padding, output_padding, dilation))
    for axis in (1, 0) if len(x.shape) == 4 else ():
        if x.shape[2 + axis] == weight.shape[2 + axis] == steps[axis] == 1 and pads[axis] == more[axis] == 0:
            row, kernel, at = b.op("squeeze", x, 2 + axis), b.op("squeeze", weight, 2 + axis), 1 - axis
            y = b.op("conv_transpose1d", row, kernel, bias, [steps[at]], [pads[at]], [more[at]], groups, [holes[at]])
            return b.op("unsqueeze", y, 2 + axis)
    return NotImplemented


@lowers(SHAPE_FREE, "im2col")
def _im2col(b: Builder, x: Value, kernel: list[int], dilation: list[int], padding: list[int], stride: list[int]) -> Any:
    taps = kernel[0] * kernel[1]
    if len(x.shape) == 3:
        return b.op("squeeze", _im2col(b, b.op("unsqueeze", x, 0), kernel, dilation, padding, stride), 0)
    channels = x.shape[1]
    eye = torch.eye(taps).reshape(taps, 1, *kernel).repeat(channels, 1, 1, 1)
    y = b.op("conv2d", x, b.constant(eye), None, stride, padding, dilation, channels)
    return b.op("reshape", y, [x.shape[0], channels * taps, math.prod(y.shape[2:])])


# --- recurrences of one step --------------------------------------------------------------------------------


@lowers(SHAPE_FREE, "gru_cell")
def gru_cell(b: Builder, x: Value, h: Value, w_ih: Value, w_hh: Value, b_ih: Any = None, b_hh: Any = None) -> Value:
    """One step of a GRU."""
    units = h.shape[-1]
    drive, feedback = b.op("linear", x, w_ih, b_ih), b.op("linear", h, w_hh, b_hh)
    with b.precise():
        both = b.op(
            "sigmoid",
            b.op("add", b.op("slice", drive, -1, 0, 2 * units), b.op("slice", feedback, -1, 0, 2 * units)),
        )
        reset, update = b.op("slice", both, -1, 0, units), b.op("slice", both, -1, units, 2 * units)
        offered = b.op(
            "tanh",
            b.op(
                "add",
                b.op("slice", drive, -1, 2 * units, 3 * units),
                b.op("mul", reset, b.op("slice", feedback, -1, 2 * units, 3 * units)),
            ),
        )
        value: Value = b.op("add", offered, b.op("mul", update, b.op("sub", h, offered)))
    return value


@lowers(SHAPE_FREE, "lstm_cell")
def lstm_cell(
    b: Builder, x: Value, hx: Any, w_ih: Value, w_hh: Value, b_ih: Any = None, b_hh: Any = None
) -> tuple[Value, Value]:
    """One step of an LSTM."""
    h, c = hx
    units = c.shape[-1]
    gates = b.op("add", b.op("linear", x, w_ih, b_ih), b.op("linear", h, w_hh, b_hh))
    with b.precise():
        parts = [b.op("slice", gates, -1, i * units, (i + 1) * units) for i in range(4)]
        gate_in, forget, gate_out = (b.op("sigmoid", parts[i]) for i in (0, 1, 3))
        cell = b.op("add", b.op("mul", forget, c), b.op("mul", gate_in, b.op("tanh", parts[2])))
        return b.op("mul", gate_out, b.op("tanh", cell)), cell


@lowers(SHAPE_FREE, "rnn_tanh_cell", "rnn_relu_cell")
def _rnn_cell(b: Builder, x: Value, h: Value, w_ih: Value, w_hh: Value, b_ih: Any = None, b_hh: Any = None) -> Value:
    how = "relu" if "relu" in b.operation else "tanh"
    value: Value = b.op(how, b.op("add", b.op("linear", x, w_ih, b_ih), b.op("linear", h, w_hh, b_hh)))
    return value


# --- refused by name ----------------------------------------------------------------------------------------


@lowers(SHAPE_FREE, "linalg_lstsq", "linalg_inv", "linalg_solve", "sort", "topk", "unique", "nonzero")
def _refused(b: Builder, *_: Any, **__: Any) -> Any:
    raise ConversionError(
        f"{b.origin}: {b.operation} has no form in a graph of fixed size that both formats compute alike"
    )
