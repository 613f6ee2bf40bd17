"""Common layers with their past as a value: what models/custom/causal/convert.py puts in the place of those that look
back.

Every forward takes frames of one call and its state, and returns the same layer's output for these frames and the new
state. Frames of a call are numbers of the modules, not read from a shape: a traced shape would become operations.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.layers.constants import BEYOND_AUDIO


def _last(joined: Tensor, axis: int, past: int, new: int) -> Tensor:
    kept = joined.narrow(axis, new, past)
    return torch.clamp(kept, -BEYOND_AUDIO, BEYOND_AUDIO) if past <= new else kept


class StreamPad(nn.Module):
    """Zeros in front of a recording: in a stream, the last frames of the call before."""

    def __init__(self, axis: int, past: int, frames: int) -> None:
        super().__init__()
        self.axis, self.past, self.frames = axis, past, frames

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([past, x], self.axis)
        return joined, _last(joined, self.axis, self.past, self.frames)


class StreamConv(nn.Module):
    """A convolution whose padding in front is its past.

    Args:
        conv: Conv1d or Conv2d; its weights are shared.
        axis: the time axis of its input.
        past: frames of padding in front.
        frames: frames that come per call.
        out_frames: frames that go per call.
    """

    def __init__(self, conv: nn.Conv1d | nn.Conv2d, axis: int, past: int, frames: int, out_frames: int) -> None:
        super().__init__()
        self.axis, self.past, self.frames, self.out_frames = axis, past, frames, out_frames
        padding = list(cast("tuple[int, ...]", conv.padding))
        padding[axis - 2] = 0
        kind: Any = nn.Conv1d if isinstance(conv, nn.Conv1d) else nn.Conv2d  # not type(conv): it may be parametrised
        self.conv: nn.Conv1d | nn.Conv2d = kind(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            tuple(padding),
            conv.dilation,
            conv.groups,
            conv.bias is not None,
        )
        self.conv.weight = nn.Parameter(conv.weight.detach(), requires_grad=False)
        if conv.bias is not None:
            self.conv.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([past, x], self.axis)
        y = self.conv(joined)
        if y.shape[self.axis] != self.out_frames:
            y = y.narrow(self.axis, 0, self.out_frames)
        return y, _last(joined, self.axis, self.past, self.frames)


class StreamConvTranspose(nn.Module):
    """A strided transposed convolution as a matrix and an overlap-add; the tail of a call's last frames is its state.

    Args:
        weight: [in, out / groups, kernel]; bias: [out], or None.
        stride, dilation, groups: of it.
        frames: of a call.
        batch: how many signals go through at once; the sources of a separator do.

    Neither converter needs to know transposed convolutions then (LiteRT's does not).
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, stride: int, dilation: int, groups: int, frames: int, batch: int = 1
    ) -> None:
        super().__init__()
        self.lead = () if batch == 1 else (batch,)
        weight = _block_diagonal(_with_holes(weight, dilation), groups)
        inputs, self.channels, kernel = weight.shape
        self.stride, self.frames = stride, frames
        self.parts = math.ceil(kernel / stride)
        weight = nn.functional.pad(weight, (0, self.parts * stride - kernel))  # [in, out, span]
        matrix = weight.permute(2, 1, 0).reshape(-1, inputs)  # [span x out, in]
        self.matrix = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        self.matrix.weight = nn.Parameter(matrix.contiguous(), requires_grad=False)
        self.bias: Tensor
        offset = torch.zeros(self.channels) if bias is None else bias
        self.register_buffer("bias", offset.reshape(1, -1, 1).clone(), persistent=False)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The tail: [parts - 1, stride x channels], of each signal; none where kernel and stride are equal."""
        return (*self.lead, self.parts - 1, self.stride * self.channels)

    def forward(self, x: Tensor, tail: Tensor | None = None) -> tuple[Tensor, ...]:
        """x [batch, in, frames] to [batch, out, frames x stride]."""
        parts, frames, width = self.parts, self.frames, self.stride * self.channels
        y = self.matrix(x.transpose(1, 2).reshape(*self.lead, frames, x.shape[1]))  # [frames, parts x width]
        if tail is None:
            summed = y
        else:
            summed = nn.functional.pad(tail, (0, 0, 0, frames))  # [parts - 1 + frames, width]
            for part in range(parts):
                column = y[..., part * width : (part + 1) * width]
                summed = summed + nn.functional.pad(column, (0, 0, part, parts - 1 - part))
        out = summed.narrow(-2, 0, frames).reshape(x.shape[0], frames * self.stride, self.channels)
        out = out.transpose(1, 2) + self.bias
        return (out,) if tail is None else (out, summed.narrow(-2, frames, parts - 1))


def _with_holes(weight: Tensor, dilation: int) -> Tensor:
    """A kernel with the zeros between its taps."""
    if dilation == 1:
        return weight
    full = weight.new_zeros(*weight.shape[:2], (weight.shape[2] - 1) * dilation + 1)
    full[..., ::dilation] = weight
    return full


def _block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """[in, out / groups, kernel] to [in, out, kernel]."""
    if groups == 1:
        return weight
    inputs, outputs, kernel = weight.shape
    full = weight.new_zeros(inputs, outputs * groups, kernel)
    each = inputs // groups
    for group in range(groups):
        rows = slice(group * each, (group + 1) * each)
        full[rows, group * outputs : (group + 1) * outputs] = weight[rows]
    return full


class StreamCumsum(nn.Module):
    """A cumulative sum over time; the sum so far is its state."""

    def __init__(self, axis: int, frames: int) -> None:
        super().__init__()
        self.axis, self.frames = axis, frames

    def forward(self, x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        y = (torch.cumsum(x, self.axis) if self.frames > 1 else x) + total
        return y, y.narrow(self.axis, self.frames - 1, 1) if self.frames > 1 else y * 1.0


class StreamCount(nn.Module):
    """Calls so far."""

    def forward(self, count: Tensor) -> tuple[Tensor, Tensor]:
        return count * 1.0, count + 1.0


class StreamPositions(nn.Module):
    """A constant as long as the recording that is the same at every call but the first ones.

    Args:
        table: [first calls + 1, ...], its last row for all later ones.

    The state [first calls] fills with ones, one a call: where it goes from one to zero is the call it is.
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.calls = table.shape[0] - 1
        self.steady: Tensor
        self.differences: Tensor
        self.register_buffer("steady", table[-1].contiguous(), persistent=False)
        self.register_buffer("differences", (table[:-1] - table[-1]).contiguous(), persistent=False)

    def forward(self, calls: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.clamp(calls[:1] + 1.0, max=1.0)  # a one that is computed: a state cannot be a constant
        now = torch.cat([first, calls[:-1]], 0) if self.calls > 1 else first
        at = now - calls  # one at this call
        value = self.steady
        for index in range(self.calls):
            value = value + self.differences[index] * at[index : index + 1].reshape([1] * self.steady.dim())
        return value, now


class StreamExtreme(nn.Module):
    """The largest (or smallest) value so far; state: that, and whether there was one."""

    def __init__(self, axis: int, frames: int, largest: bool) -> None:
        super().__init__()
        self.axis, self.frames = axis, frames
        self.sign = 1.0 if largest else -1.0

    def forward(self, x: Tensor, extreme: Tensor, begun: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x * self.sign
        best = extreme * begun + (1.0 - begun) * x.narrow(self.axis, 0, 1)
        rows = []
        for frame in range(self.frames):
            best = torch.maximum(best, x.narrow(self.axis, frame, 1))
            rows.append(best)
        y = torch.cat(rows, self.axis) if len(rows) > 1 else rows[0]
        return y * self.sign, best * 1.0, torch.clamp(begun + 1.0, max=1.0)


class CumulativeNorm(nn.Module):
    """Zero mean and unit variance over the features of all frames so far (Luo & Mesgarani, Conv-TasNet's cLN).

    Args:
        features: values of a frame, over all axes but the first two.
        eps: added to the variance.

    Takes and gives [1, frames, ...features].
    """

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.features, self.eps = features, eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], x.shape[1], self.features)
        count = self.features * torch.arange(1, x.shape[1] + 1, dtype=x.dtype, device=x.device).reshape(1, -1, 1)
        mean = torch.cumsum(flat.sum(2, keepdim=True), 1) / count
        power = torch.cumsum((flat * flat).sum(2, keepdim=True), 1) / count
        y = (flat - mean) * torch.rsqrt(torch.clamp(power - mean * mean, min=0.0) + self.eps)
        return (y * self.weight + self.bias).reshape(x.shape)
