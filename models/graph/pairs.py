"""Complex values as pairs of real ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx

from models.graph.builder import Builder, Value, name_of


@dataclass(frozen=True, eq=False)
class Pair:
    """A complex value.

    Attributes:
        re, im: real and imaginary part, of one shape.
    """

    re: Value
    im: Value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.re.shape

    @property
    def is_constant(self) -> bool:
        return self.re.is_constant and self.im.is_constant


@dataclass(frozen=True)
class _Tables:
    """`table`: operations on pairs; `makers`: operations of real values that give one."""

    table: dict[str, Callable[..., Any]] = field(default_factory=dict)
    makers: dict[str, Callable[..., Any]] = field(default_factory=dict)


COMPLEX = _Tables()


def complex_constant(b: Builder, value: Tensor) -> Pair:
    """A constant as a pair."""
    return Pair(b.constant(value.real.contiguous()), b.constant(value.imag.contiguous()))


def _on(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        COMPLEX.table.update(dict.fromkeys(names, function))
        return function

    return enter


def _makes(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        COMPLEX.makers.update(dict.fromkeys(names, function))
        return function

    return enter


def as_pair(b: Builder, value: Any) -> Pair:
    """A pair, a real value, or a number, as a pair."""
    if isinstance(value, Pair):
        return value
    if isinstance(value, complex):
        return Pair(b.constant(torch.tensor(value.real)), b.constant(torch.tensor(value.imag)))
    if isinstance(value, Value):
        return Pair(value, b.constant(torch.zeros(value.shape)))
    return Pair(b.constant(torch.tensor(float(value))), b.constant(torch.tensor(0.0)))


# --- made, and taken apart ----------------------------------------------------------------------------------


@_makes("complex")
def _complex(b: Builder, re: Value, im: Value) -> Any:  # noqa: ARG001 as all of them
    return Pair(re, im)


@_makes("view_as_complex")
def _view_as_complex(b: Builder, x: Value) -> Any:
    return Pair(b.op("select", x, -1, 0), b.op("select", x, -1, 1))


@_makes("polar")
def _polar(b: Builder, size: Value, angle: Value) -> Any:
    return Pair(b.op("mul", size, b.op("cos", angle)), b.op("mul", size, b.op("sin", angle)))


@_on("view_as_real")
def _view_as_real(b: Builder, x: Pair) -> Any:
    return b.op("stack", [x.re, x.im], -1)


@_on("real")
def _real(b: Builder, x: Pair) -> Any:  # noqa: ARG001 as all of them
    return x.re


@_on("imag")
def _imag(b: Builder, x: Pair) -> Any:  # noqa: ARG001 as all of them
    return x.im


@_on("abs")
def _abs(b: Builder, x: Pair) -> Any:
    return b.op("sqrt", _power(b, x))


def _power(b: Builder, x: Pair) -> Any:
    return b.op("add", b.op("mul", x.re, x.re), b.op("mul", x.im, x.im))


@_on("angle")
def _angle(b: Builder, x: Pair) -> Any:
    return b.op("atan2", x.im, x.re)


# --- arithmetic ---------------------------------------------------------------------------------------------


@_on("add", "add_")
def _add(b: Builder, x: Any, y: Any, alpha: float = 1) -> Any:
    one, two = as_pair(b, x), as_pair(b, y)
    return Pair(b.op("add", one.re, two.re, alpha=alpha), b.op("add", one.im, two.im, alpha=alpha))


@_on("sub", "sub_")
def _sub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Any:
    return _add(b, x, y, -alpha)


@_on("rsub")
def _rsub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Any:
    return _sub(b, y, x, alpha)


@_on("reciprocal")
def _reciprocal(b: Builder, x: Pair) -> Any:
    return _div(b, 1.0, x)


@_on("square")
def _square(b: Builder, x: Pair) -> Any:
    return _mul(b, x, x)


@_on("mul", "mul_")
def _mul(b: Builder, x: Any, y: Any) -> Any:
    if not isinstance(x, Pair) and not isinstance(x, complex):
        x, y = y, x
    if not isinstance(y, Pair | complex):
        return Pair(b.op("mul", x.re, y), b.op("mul", x.im, y))
    one, two = as_pair(b, x), as_pair(b, y)
    return Pair(
        b.op("sub", b.op("mul", one.re, two.re), b.op("mul", one.im, two.im)),
        b.op("add", b.op("mul", one.re, two.im), b.op("mul", one.im, two.re)),
    )


@_on("div", "div_")
def _div(b: Builder, x: Any, y: Any) -> Any:
    if not isinstance(y, Pair | complex):
        return Pair(b.op("div", x.re, y), b.op("div", x.im, y))
    one, two = as_pair(b, x), as_pair(b, y)
    product = _mul(b, one, _conj(b, two))
    size = _power(b, two)
    return Pair(b.op("div", product.re, size), b.op("div", product.im, size))


@_on("conj", "_conj", "conj_physical", "_conj_physical")
def _conj(b: Builder, x: Pair) -> Any:
    return Pair(x.re, b.op("neg", x.im))


@_on("exp")
def _exp(b: Builder, x: Pair) -> Any:
    return _polar(b, b.op("exp", x.re), x.im)


@_on("pow")
def _pow(b: Builder, x: Pair, exponent: Any) -> Any:
    if exponent == 2:
        return _mul(b, x, x)
    return NotImplemented


@_on("sgn")
def _sgn(b: Builder, x: Pair) -> Any:
    size = b.op("clamp", _abs(b, x), min=1e-30)
    return Pair(b.op("div", x.re, size), b.op("div", x.im, size))


@_on("matmul", "bmm", "mm")
def _matmul(b: Builder, x: Any, y: Any) -> Any:
    one, two = as_pair(b, x), as_pair(b, y)
    real = b.op("sub", b.op("matmul", one.re, two.re), b.op("matmul", one.im, two.im))
    return Pair(real, b.op("add", b.op("matmul", one.re, two.im), b.op("matmul", one.im, two.re)))


@_on("resolve_conj", "resolve_neg", "to", "_to_copy", "expand_as")
def _itself(b: Builder, x: Pair, *_: Any, **__: Any) -> Any:  # noqa: ARG001 as all of them
    return x


@_on("where")
def _where(b: Builder, condition: Value, x: Any, y: Any) -> Any:
    one, two = as_pair(b, x), as_pair(b, y)
    return Pair(b.op("where", condition, one.re, two.re), b.op("where", condition, one.im, two.im))


# --- values put elsewhere, each part for itself -------------------------------------------------------------


def _each(name: str) -> Callable[..., Pair | tuple[Pair, ...]]:
    def both(b: Builder, x: Pair, *args: Any, **kwargs: Any) -> Pair | tuple[Pair, ...]:
        re, im = b.op(name, x.re, *args, **kwargs), b.op(name, x.im, *args, **kwargs)
        return Pair(re, im) if isinstance(re, Value) else tuple(map(Pair, re, im))

    return both


for _name in (
    "select", "slice", "transpose", "permute", "unsqueeze", "squeeze", "reshape", "view", "_unsafe_view", "expand",
    "flatten", "unflatten", "narrow", "unfold", "sum", "mean", "neg", "cumsum", "split", "split_with_sizes", "chunk",
    "unbind", "t", "constant_pad_nd", "flip", "roll", "repeat", "index_select", "movedim", "swapaxes", "tile",
):  # fmt: skip
    COMPLEX.table[_name] = _each(_name)


@_on("cat", "concat")
def _joined(b: Builder, parts: Any, dim: int = 0) -> Any:
    pairs = [as_pair(b, part) for part in parts]
    return Pair(b.op("cat", [p.re for p in pairs], dim), b.op("cat", [p.im for p in pairs], dim))


@_on("stack")
def _stacked(b: Builder, parts: Any, dim: int = 0) -> Any:
    pairs = [as_pair(b, part) for part in parts]
    return Pair(b.op("stack", [p.re for p in pairs], dim), b.op("stack", [p.im for p in pairs], dim))


@_on("pad")
def _pad(b: Builder, x: Pair, pads: list[int], mode: str = "constant", value: float | None = None) -> Any:
    return Pair(
        b.op("pad", x.re, pads, mode, value), b.op("pad", x.im, pads, mode, 0.0 if mode == "constant" else None)
    )


@_on("zeros_like")
def _zeros_like(b: Builder, x: Pair, **_: Any) -> Any:
    zeros = b.constant(torch.zeros(x.shape))
    return Pair(zeros, zeros)


@_on("einsum")
def _einsum(b: Builder, equation: str, parts: Any, **_: Any) -> Any:
    one, two = (as_pair(b, part) for part in parts)

    def product(x: Value, y: Value) -> Value:
        value: Value = b.op("einsum", equation, [x, y])
        return value

    real = b.op("sub", product(one.re, two.re), product(one.im, two.im))
    return Pair(real, b.op("add", product(one.re, two.im), product(one.im, two.re)))


# --- transforms ---------------------------------------------------------------------------------------------


def _norm_factor(norm: str | None, points: int, inverse: bool) -> float:
    """What torch.fft's `norm` multiplies by."""
    if norm == "ortho":
        return 1.0 / math.sqrt(points)
    return 1.0 / points if (norm in (None, "backward")) == inverse else 1.0


def _last_axis(b: Builder, x: Value, dim: int, points: int | None) -> tuple[Value, int]:
    """The axis of a transform last, cut or filled up to its points."""
    if dim % len(x.shape) != len(x.shape) - 1:
        x = b.op("transpose", x, dim, -1)
    have = x.shape[-1]
    points = have if points is None else points
    if points < have:
        x = b.op("slice", x, -1, 0, points)
    elif points > have:
        x = b.op("constant_pad_nd", x, [0, points - have])
    return x, points


def _back(b: Builder, x: Any, dim: int) -> Any:
    rank = len(x.shape)
    if dim % rank == rank - 1:
        return x
    if isinstance(x, Pair):
        return Pair(b.op("transpose", x.re, dim, -1), b.op("transpose", x.im, dim, -1))
    return b.op("transpose", x, dim, -1)


def dft(rows: int, columns: int, points: int) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi row column / points: [rows, columns], float64."""
    turns = (torch.arange(rows)[:, None] * torch.arange(columns)) % points
    angles = 2.0 * math.pi * turns.double() / points
    return torch.cos(angles), torch.sin(angles)


def _mirrored(bins: int, points: int) -> Tensor:
    """How often each bin of half a spectrum counts: twice, unless it is its own mirror. [bins, 1], float64."""
    times = torch.full((bins, 1), 2.0, dtype=torch.float64)
    times[0] = 1.0
    if points % 2 == 0:
        times[-1] = 1.0
    return times


def _window_and_hop(n_fft: int, hop: int | None, size: int | None, window: Value | None) -> tuple[Tensor, int]:
    """torch's defaults of stft and istft: the window in the middle of its frame [n_fft], float64, and the hop."""
    size = n_fft if size is None else size
    shape = torch.ones(size) if window is None else window.tensor
    before = (n_fft - size) // 2
    padded = torch.nn.functional.pad(shape.double(), (before, n_fft - size - before))
    return padded, n_fft // 4 if hop is None else hop


@_makes("fft_rfft")
def _rfft(b: Builder, x: Value, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    with b.precise():
        x, points = _last_axis(b, x, dim, n)
        cos, sin = dft(points, points // 2 + 1, points)
        factor = _norm_factor(norm, points, False)
        re, im = (b.op("matmul", x, b.constant((factor * m).float())) for m in (cos, -sin))
        return _back(b, Pair(re, im), dim)


@_on("fft_irfft")
def _irfft(b: Builder, x: Pair, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    with b.precise():
        bins = x.shape[dim]
        points = 2 * (bins - 1) if n is None else n
        used = points // 2 + 1
        (re, _), (im, _) = _last_axis(b, x.re, dim, used), _last_axis(b, x.im, dim, used)
        cos, sin = dft(used, points, points)
        factor = _norm_factor(norm, points, True) * _mirrored(used, points)
        first = b.op("matmul", re, b.constant((factor * cos).float()))
        second = b.op("matmul", im, b.constant((factor * -sin).float()))
        return _back(b, b.op("add", first, second), dim)


def _full(b: Builder, x: Any, n: int | None, dim: int, norm: str | None, inverse: bool) -> Any:
    with b.precise():
        pair = as_pair(b, x)
        (re, points), (im, _) = _last_axis(b, pair.re, dim, n), _last_axis(b, pair.im, dim, n)
        cos, sin = dft(points, points, points)
        factor = _norm_factor(norm, points, inverse)
        c = b.constant((factor * cos).float())
        s = b.constant((factor * (sin if inverse else -sin)).float())
        real = b.op("sub", b.op("matmul", re, c), b.op("matmul", im, s))
        return _back(b, Pair(real, b.op("add", b.op("matmul", re, s), b.op("matmul", im, c))), dim)


@_makes("fft_fft")
def _fft(b: Builder, x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    return _full(b, x, n, dim, norm, False)


@_makes("fft_ifft")
def _ifft(b: Builder, x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    return _full(b, x, n, dim, norm, True)


@_makes("stft")
def _stft(
    b: Builder,
    x: Value,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Value | None = None,
    *rest: Any,
    **named: Any,
) -> Any:
    """Frames times a DFT matrix, as a strided convolution."""
    names = ["normalized", "onesided", "return_complex", "align_to_window"]
    if len(rest) > 4 or "center" in named:  # stft.center
        names = ["center", "pad_mode", *names]
    said = dict(zip(names, rest, strict=False)) | named
    shape, hop = _window_and_hop(n_fft, hop_length, win_length, window)
    bins = n_fft // 2 + 1 if said.get("onesided") in (None, True) else n_fft
    cos, sin = dft(bins, n_fft, n_fft)
    factor = 1.0 / math.sqrt(n_fft) if said.get("normalized") else 1.0
    kernel = (torch.cat([cos, -sin]) * shape * factor).float().unsqueeze(1)  # [2 bins, 1, n_fft]
    with b.precise():
        batched = x if len(x.shape) == 2 else b.op("unsqueeze", x, 0)
        if said.get("center"):
            batched = b.op(
                "pad", b.op("unsqueeze", batched, 1), [n_fft // 2, n_fft // 2], said.get("pad_mode", "reflect")
            )
        else:
            batched = b.op("unsqueeze", batched, 1)
        batched, kernel = _heard(b, batched, kernel)
        both = b.op("conv1d", batched, b.constant(kernel), None, [hop])
        re, im = b.op("slice", both, 1, 0, bins), b.op("slice", both, 1, bins, 2 * bins)
        if len(x.shape) == 1:
            re, im = b.op("squeeze", re, 0), b.op("squeeze", im, 0)
    pair = Pair(re, im)
    return pair if said.get("return_complex") in (None, True) else _view_as_real(b, pair)


def _heard(b: Builder, x: Value, kernel: Tensor) -> tuple[Value, Tensor]:
    """Reflected samples that the window blanks are not even made: x [batch, 1, n], kernel [channels, 1, taps]."""
    source = x.node
    while source is not None and name_of(source) in ("reshape", "view", "squeeze", "unsqueeze"):
        source = source.args[0] if isinstance(source.args[0], fx.Node) else None
    if source is None or name_of(source) != "pad" or source.args[2:3] != ("reflect",):
        return x, kernel
    before, after = cast("list[int]", source.args[1])
    heard = kernel.abs().sum((0, 1)).nonzero()
    first, taps = int(heard[0]), kernel.shape[-1]
    last = int(heard[-1]) + 1
    first, last = min(first, before), max(last, taps - after)
    if (first, last) == (0, taps):
        return x, kernel
    inner = cast(fx.Node, source.args[0])
    unpadded = b.op("reshape", Value(b.values[inner], inner), [x.shape[0], 1, b.values[inner].shape[-1]])
    return b.op("pad", unpadded, [before - first, after - (taps - last)], "reflect"), kernel[:, :, first:last]


@_on("istft")
def _istft(
    b: Builder,
    x: Pair,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Value | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Any:
    """Spectra times the inverse DFT, windowed, added where frames overlap, over the sum of squared windows."""
    if return_complex or onesided is False:
        return NotImplemented
    shape, hop = _window_and_hop(n_fft, hop_length, win_length, window)
    bins = n_fft // 2 + 1
    cos, sin = dft(bins, n_fft, n_fft)
    factor = _mirrored(bins, n_fft) / (math.sqrt(n_fft) if normalized else n_fft)
    kernel = (torch.cat([cos * factor, -sin * factor]) * shape).float().unsqueeze(1)  # [2 bins, 1, n_fft]
    with b.precise():
        re, im = x.re, x.im
        if len(x.shape) == 2:
            re, im = b.op("unsqueeze", re, 0), b.op("unsqueeze", im, 0)
        frames = re.shape[-1]
        y = b.op("conv_transpose1d", b.op("cat", [re, im], 1), b.constant(kernel), None, [hop])
        squares = (shape * shape).float().reshape(1, 1, -1)
        envelope = torch.nn.functional.conv_transpose1d(torch.ones(1, 1, frames), squares, stride=hop)
        total = envelope.shape[-1]
        first = n_fft // 2 if center else 0
        last = total - (n_fft // 2 if center else 0) if length is None else min(first + length, total)
        inverse = torch.where(envelope > 1e-11, 1.0 / envelope.clamp(min=1e-11), torch.zeros(()))
        y = b.op("mul", y, b.constant(inverse))
        y = b.op("squeeze", b.op("slice", y, 2, first, last), 1)
        if length is not None and last - first < length:
            y = b.op("constant_pad_nd", y, [0, length - (last - first)])
        return b.op("squeeze", y, 0) if len(x.shape) == 2 else y
