"""Common layers with their past as a value: what models/custom/causal/convert.py puts in the place of those that look
back.

Every forward takes frames of one call and its state, and returns the same layer's output for these frames and the new
state. Frames of a call are numbers of the modules, not read from a shape: a traced shape would become operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.layers.front_end import Features
from models.layers.front_end_spec import FrontEndSpec

# A state that is the whole of its input would be an input handed through, which CompiledModel cannot do: the clamp
# survives conversion and changes nothing.
_BEYOND_AUDIO = 1e30


def _last(joined: Tensor, axis: int, past: int, new: int) -> Tensor:
    kept = joined.narrow(axis, new, past)
    return torch.clamp(kept, -_BEYOND_AUDIO, _BEYOND_AUDIO) if past <= new else kept


def _stack(rows: list[Tensor], axis: int) -> Tensor:
    """Frames of an RNN side by side, in groups of four (models/layers/recurrent.py says why).

    `stack_rows` in another order of operations, which exported files keep.
    """
    while len(rows) > 4:
        groups = [torch.cat(rows[first : first + 4], axis) for first in range(0, len(rows), 4)]
        rows = [torch.clamp(group, -1.0, 1.0) for group in groups]
    return torch.cat(rows, axis) if len(rows) > 1 else rows[0]


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
    """A strided ConvTranspose1d as a matrix and an overlap-add; the tail of a call's last frames is its state.

    Neither converter needs to know transposed convolutions then (LiteRT's does not).
    """

    def __init__(self, conv: nn.ConvTranspose1d, frames: int) -> None:
        super().__init__()
        kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.frames, self.channels = frames, conv.out_channels
        self.parts = math.ceil(kernel / self.stride)
        weight = nn.functional.pad(conv.weight.detach(), (0, self.parts * self.stride - kernel))  # [in, out, span]
        matrix = weight.permute(2, 1, 0).reshape(-1, conv.in_channels)  # [span x out, in]
        self.matrix = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        self.matrix.weight = nn.Parameter(matrix.contiguous(), requires_grad=False)
        bias = torch.zeros(self.channels) if conv.bias is None else conv.bias.detach()
        self.bias: Tensor
        self.register_buffer("bias", bias.reshape(1, -1, 1).clone(), persistent=False)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The tail: [parts - 1, stride x channels]; none where kernel and stride are equal."""
        return (self.parts - 1, self.stride * self.channels)

    def forward(self, x: Tensor, tail: Tensor | None = None) -> tuple[Tensor, ...]:
        """x [1, in, frames] to [1, out, frames x stride]."""
        parts, frames, width = self.parts, self.frames, self.stride * self.channels
        y = self.matrix(x.transpose(1, 2).reshape(frames, x.shape[1]))  # [frames, parts x width]
        if tail is None:
            summed = y
        else:
            summed = nn.functional.pad(tail, (0, 0, 0, frames))  # [parts - 1 + frames, width]
            for part in range(parts):
                column = y[:, part * width : (part + 1) * width]
                summed = summed + nn.functional.pad(column, (0, 0, part, parts - 1 - part))
        out = summed[:frames].reshape(1, frames * self.stride, self.channels).transpose(1, 2) + self.bias
        return (out,) if tail is None else (out, summed[frames:])


class GruCell(nn.Module):
    """What a GRU does behind its matrices; no weights."""

    def forward(self, drive: Tensor, feedback: Tensor, hidden: Tensor) -> Tensor:
        units = hidden.shape[1]
        gates = torch.sigmoid(drive[:, : 2 * units] + feedback[:, : 2 * units])
        reset, update = gates[:, :units], gates[:, units:]
        offered = torch.tanh(drive[:, 2 * units :] + reset * feedback[:, 2 * units :])
        return offered + update * (hidden - offered)


class LstmCell(nn.Module):
    """What an LSTM does behind its matrices; no weights. Gates stand as input, forget, output, cell."""

    def forward(self, drive: Tensor, feedback: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        units = cell.shape[1]
        gates = drive + feedback
        opened = torch.sigmoid(gates[:, : 3 * units])
        offered = torch.tanh(gates[:, 3 * units :])
        cell = opened[:, units : 2 * units] * cell + opened[:, :units] * offered
        return opened[:, 2 * units :] * torch.tanh(cell), cell


class _Direction(nn.Module):
    """One layer in one direction, written out over its frames."""

    def __init__(self, rnn: nn.GRU | nn.LSTM, suffix: str) -> None:
        super().__init__()
        self.is_lstm, self.units = isinstance(rnn, nn.LSTM), rnn.hidden_size
        self.from_input = self._linear(rnn, f"ih_{suffix}")
        self.from_hidden = self._linear(rnn, f"hh_{suffix}")
        self.cell: nn.Module = LstmCell() if self.is_lstm else GruCell()

    def _linear(self, rnn: nn.GRU | nn.LSTM, name: str) -> nn.Linear:
        weight = cast(Tensor, getattr(rnn, f"weight_{name}")).detach()
        bias = cast(Tensor, getattr(rnn, f"bias_{name}")).detach() if rnn.bias else None
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.weight = nn.Parameter(self._order(weight), requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(self._order(bias), requires_grad=False)
        return layer

    def _order(self, value: Tensor) -> Tensor:
        if not self.is_lstm:
            return value.contiguous()
        gate_in, forget, cell, gate_out = value.chunk(4)
        return torch.cat([gate_in, forget, gate_out, cell])

    def forward(
        self, x: Tensor, frames: int, hidden: Tensor, cell: Tensor | None, backwards: bool = False
    ) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """x [frames x batch, features], frame by frame; hidden and cell [batch, units]."""
        drive, batch = self.from_input(x), hidden.shape[0]
        rows: list[Tensor] = []
        for frame in reversed(range(frames)) if backwards else range(frames):
            now = drive[frame * batch : (frame + 1) * batch]
            if cell is None:
                hidden = self.cell(now, self.from_hidden(hidden), hidden)
            else:
                hidden, cell = self.cell(now, self.from_hidden(hidden), cell)
            rows.append(hidden)
        return rows[::-1] if backwards else rows, hidden, cell


class StreamRnn(nn.Module):
    """A GRU or LSTM over time, written out over the frames of a call; states [layers x batch, units]."""

    def __init__(self, rnn: nn.GRU | nn.LSTM, frames: int, batch: int, frame_axis: int) -> None:
        super().__init__()
        self.frames, self.batch, self.frame_axis = frames, batch, frame_axis
        self.is_lstm, self.units = isinstance(rnn, nn.LSTM), rnn.hidden_size
        self.layers = nn.ModuleList(_Direction(rnn, f"l{layer}") for layer in range(rnn.num_layers))

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (len(self.layers) * self.batch, self.units)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        frames, batch = self.frames, self.batch
        if self.frame_axis == 1 and batch > 1:
            x = x.transpose(0, 1)
        x = x.reshape(frames * batch, x.shape[-1])
        new: list[tuple[Tensor, ...]] = []
        for index, layer in enumerate(self.layers):
            own = [state[index * batch : (index + 1) * batch] for state in states]
            rows, hidden, cell = layer(x, frames, own[0], own[1] if self.is_lstm else None)
            x = _stack(rows, 0)  # [frames x batch, units]
            new.append((hidden,) if cell is None else (hidden, cell))
        kept = [torch.cat(parts, 0) if len(parts) > 1 else parts[0] for parts in zip(*new, strict=True)]
        return (_unfold(x, frames, batch, self.units, self.frame_axis), *kept)


def _unfold(x: Tensor, frames: int, batch: int, units: int, frame_axis: int) -> Tensor:
    if frame_axis == 0:
        return x.reshape(frames, batch, units)
    return x.reshape(frames, batch, units).transpose(0, 1) if batch > 1 else x.reshape(1, frames, units)


class UnrolledRnn(nn.Module):
    """A GRU or LSTM along another axis than time, inside one frame: from zero each time, in one or both directions."""

    def __init__(self, rnn: nn.GRU | nn.LSTM, frames: int, batch: int, frame_axis: int) -> None:
        super().__init__()
        self.frames, self.batch, self.frame_axis = frames, batch, frame_axis
        self.is_lstm, self.units = isinstance(rnn, nn.LSTM), rnn.hidden_size
        ends = ("", "_reverse") if rnn.bidirectional else ("",)
        self.layers = nn.ModuleList(
            nn.ModuleList(_Direction(rnn, f"l{layer}{end}") for end in ends) for layer in range(rnn.num_layers)
        )
        self.zero: Tensor
        self.register_buffer("zero", torch.zeros(batch, self.units), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        frames, batch = self.frames, self.batch
        if self.frame_axis == 1:
            x = x.transpose(0, 1)
        x = x.reshape(frames * batch, x.shape[-1])
        units = self.units
        for layer in self.layers:
            directions = cast("Sequence[nn.Module]", layer)
            both = []
            for backwards, direction in enumerate(directions):
                cell = self.zero if self.is_lstm else None
                rows, _, _ = direction(x, frames, self.zero, cell, bool(backwards))
                both.append(_stack(rows, 0))
            x = torch.cat(both, 1) if len(both) > 1 else both[0]
            units = self.units * len(both)
        x = x.reshape(frames, batch, units)
        return (x.transpose(0, 1) if self.frame_axis == 1 else x,)


class StreamCumsum(nn.Module):
    """A cumulative sum over time; the sum so far is its state."""

    def __init__(self, axis: int, frames: int) -> None:
        super().__init__()
        self.axis, self.frames = axis, frames

    def forward(self, x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        y = (torch.cumsum(x, self.axis) if self.frames > 1 else x) + total
        return y, y.narrow(self.axis, self.frames - 1, 1) if self.frames > 1 else y * 1.0


class StreamCount(nn.Module):
    """torch.arange over time: where the call begins is its state."""

    def __init__(self, first: float, step: float, frames: int) -> None:
        super().__init__()
        self.advance = step * frames
        self.base: Tensor
        self.register_buffer("base", first + step * torch.arange(frames, dtype=torch.float32), persistent=False)

    def forward(self, count: Tensor) -> tuple[Tensor, Tensor]:
        return self.base + count, count + self.advance


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


class StreamCumulativeNorm(nn.Module):
    """CumulativeNorm for the frames of a call; state [1, 3]: frames, sum and sum of squares so far."""

    def __init__(self, norm: CumulativeNorm, frames: int) -> None:
        super().__init__()
        self.norm, self.frames = norm, frames
        self.count: Tensor
        count = torch.arange(1, frames + 1, dtype=torch.float32).reshape(1, -1, 1)
        self.register_buffer("count", count, persistent=False)

    def forward(self, x: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        norm, shape = self.norm, x.shape
        flat = x.reshape(1, self.frames, norm.features)
        sums = torch.cat([flat.sum(2, keepdim=True), (flat * flat).sum(2, keepdim=True)], 2)  # [1, frames, 2]
        if self.frames > 1:
            sums = torch.cumsum(sums, 1)
        sums = sums + totals[:, 1:].reshape(1, 1, 2)
        count = self.count + totals[:, :1].reshape(1, 1, 1)
        means = sums / (norm.features * count)
        mean, power = means[:, :, :1], means[:, :, 1:]
        y = (flat - mean) * torch.rsqrt(torch.clamp(power - mean * mean, min=0.0) + norm.eps)
        last = torch.cat([count[:, -1], sums[:, -1]], 1)
        return (y * norm.weight + norm.bias).reshape(shape), last


class StreamFeatures(nn.Module):
    """The front end for the frames of a call; the samples that its first frames reach back to are its state."""

    def __init__(self, spec: FrontEndSpec, frames: int) -> None:
        super().__init__()
        self.past, self.samples = spec.frame_samples - spec.hop_samples, frames * spec.hop_samples
        self.features = Features(spec, frames)

    def forward(self, audio: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([past, audio], 1)
        return self.features(joined), _last(joined, 1, self.past, self.samples)
