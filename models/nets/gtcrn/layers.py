"""What the step graph (step.py) is made of between its transforms: [1, hops, f, channels] tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.common.arrays import Float64, Weights
from models.layers.constants import constant_buffer, constant_conv, constant_linear
from models.layers.convolution import FrequencyConv, folded
from models.layers.recurrent import GruCell, gru_matrices, stack_rows, stacked
from models.nets.gtcrn.weights import ATTENTION_UNITS, CHANNELS, LAYER_NORM_EPSILON, WIDTH

_HALF = CHANNELS // 2


class PRelu(nn.Module):
    """A slope below zero, one for all channels; any sign and size of it."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Args and Returns: any shape."""
        return nn.functional.leaky_relu(x, self.slope)


class Attention(nn.Module):
    """A gain for each channel, from the energies of the channels so far."""

    def __init__(self, hops: int, weights: Weights, name: str) -> None:
        super().__init__()
        self.hops = hops
        gru = gru_matrices(weights, f"{name}.att_gru")
        self.from_input = constant_linear(gru["weight_ih"], gru["bias_ih"])
        self.from_hidden = constant_linear(gru["weight_hh"], gru["bias_hh"])
        self.cell = GruCell(ATTENTION_UNITS)
        self.gain = constant_linear(weights[f"{name}.att_fc.weight"], weights[f"{name}.att_fc.bias"])

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Args: x [1, hops, 33, 8], hidden [1, 16]. Returns: the same shapes."""
        energy = (x * x).mean(2).reshape(self.hops, _HALF)
        drive = self.from_input(energy)  # [hops, 48]
        rows = []
        for hop in range(self.hops):
            row = drive[hop : hop + 1]
            opening, offer = row[:, : 2 * ATTENTION_UNITS], row[:, 2 * ATTENTION_UNITS :]
            hidden = self.cell(opening, offer, self.from_hidden(hidden), hidden)
            rows.append(hidden)
        gain = torch.sigmoid(self.gain(stack_rows(rows)))  # [hops, 8]
        return x * gain.reshape(1, self.hops, 1, _HALF), hidden


class TemporalBlock(nn.Module):
    """Half of the channels through a dilated depthwise convolution over time; then both halves interleaved."""

    def __init__(self, hops: int, weights: Weights, name: str, dilation: int, transposed: bool) -> None:
        super().__init__()
        self.hops, self.history = hops, 2 * dilation
        weight, bias = folded(weights, f"{name}.point_conv1", f"{name}.point_bn1", transposed)
        # Channels 3 c + tap of "with its neighbours".
        self.spread = FrequencyConv(weight.reshape(CHANNELS, _HALF, 3)[:, :, None], bias, padding=1)
        self.act1 = PRelu(float(weights[f"{name}.point_act.weight"][0]))
        # Depthwise: one weight a channel, whichever way it is stored; transposed, its taps are mirrored.
        weight, bias = folded(weights, f"{name}.depth_conv", f"{name}.depth_bn")
        if transposed:
            weight = weight[:, :, ::-1, ::-1]
        self.depth = constant_conv(weight, bias, padding=(0, 1), dilation=(dilation, 1), groups=CHANNELS)
        self.act2 = PRelu(float(weights[f"{name}.depth_act.weight"][0]))
        weight, bias = folded(weights, f"{name}.point_conv2", f"{name}.point_bn2", transposed)
        self.gather = constant_linear(weight[:, :, 0, 0], bias)
        self.attention = Attention(hops, weights, f"{name}.tra")

    def forward(self, x: Tensor, frames: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Args: x [1, hops, 33, 16], frames [1, 2 dilation, 33, 16], hidden [1, 16]. Returns: the same shapes."""
        h = self.act1(self.spread(x[..., :_HALF]))  # [1, hops, 33, 16]
        frames = torch.cat([frames, h], 1)  # [1, 2 dilation + hops, 33, 16]
        h = self.act2(self.depth(frames.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))  # [1, hops, 33, 16]
        h, hidden = self.attention(self.gather(h), hidden)  # [1, hops, 33, 8]
        both = torch.stack([h, x[..., _HALF:]], -1)  # [1, hops, 33, 8, 2]
        return both.reshape(1, self.hops, WIDTH, CHANNELS), frames[:, self.hops :], hidden


class FrameNorm(nn.Module):
    """Zero mean and unit variance over a whole frame, then a gain and an offset for each of its values."""

    gain: Tensor
    offset: Tensor

    def __init__(self, gain: Float64, offset: Float64) -> None:
        super().__init__()
        self.register_buffer("gain", constant_buffer(gain))
        self.register_buffer("offset", constant_buffer(offset))

    def forward(self, x: Tensor) -> Tensor:
        """Args: [hops, 33, 16]. Returns: the same shape."""
        centred = x - x.mean((1, 2), keepdim=True)
        scale = torch.rsqrt((centred * centred).mean((1, 2), keepdim=True) + LAYER_NORM_EPSILON)
        return centred * scale * self.gain + self.offset


class AlongFrequency(nn.Module):
    """The recurrence inside a frame: both directions and both groups in one cell of 16 units."""

    def __init__(self, hops: int, weights: Weights, name: str) -> None:
        super().__init__()
        self.hops = hops
        quarter = _HALF // 2
        # Units: forward of both groups, then backward of both; the backward ones read the mirrored copy.
        cells = [
            (gru_matrices(weights, f"{name}.intra_rnn.rnn{group + 1}", suffix), first + _HALF * group)
            for suffix, first in (("", 0), ("_reverse", CHANNELS))
            for group in (0, 1)
        ]
        gru = stacked(cells, 2 * CHANNELS)
        self.mirror = constant_linear(np.eye(WIDTH)[::-1])
        self.from_input = constant_linear(gru["weight_ih"], gru["bias_ih"])
        self.from_hidden = constant_linear(gru["weight_hh"], gru["bias_hh"])
        self.cell = GruCell(CHANNELS)
        # The layer behind the recurrence sees group 1 forward, group 1 backward, group 2 forward, group 2 backward.
        out = weights[f"{name}.intra_fc.weight"]
        forward = np.concatenate([out[:, :quarter], out[:, 2 * quarter : 3 * quarter]], 1)
        backward = np.concatenate([out[:, quarter : 2 * quarter], out[:, 3 * quarter :]], 1)
        zeros = np.zeros((CHANNELS, _HALF))
        self.out = constant_linear(
            np.block([[forward, zeros], [zeros, backward]]),
            np.concatenate([weights[f"{name}.intra_fc.bias"], np.zeros(CHANNELS)]),
        )

    def _mirrored(self, x: Tensor) -> Tensor:
        """Args: [hops, 33, c]. Returns: frequencies from top to bottom."""
        result: Tensor = self.mirror(x.transpose(1, 2))
        return result.transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Args: [hops, 33, 16]. Returns: the same shape."""
        x = torch.cat([x, self._mirrored(x)], 2).transpose(0, 1)  # [33, hops, 32]
        drive = self.from_input(x.reshape(WIDTH * self.hops, 2 * CHANNELS))  # [33 hops, 48]
        opening, offer = drive[:, : 2 * CHANNELS], drive[:, 2 * CHANNELS :]
        hidden = x.new_zeros(self.hops, CHANNELS)
        rows = []
        for step in range(0, WIDTH * self.hops, self.hops):
            at = slice(step, step + self.hops)
            hidden = self.cell(opening[at], offer[at], self.from_hidden(hidden), hidden)
            rows.append(hidden)
        steps = stack_rows(rows).reshape(WIDTH, self.hops, CHANNELS).transpose(0, 1)  # [hops, 33, 16]
        both = self.out(steps)  # [hops, 33, 32]
        result: Tensor = both[..., :CHANNELS] + self._mirrored(both[..., CHANNELS:])
        return result


class AlongTime(nn.Module):
    """The recurrence from frame to frame, for all frequencies at once: both groups in one cell of 16 units."""

    def __init__(self, hops: int, weights: Weights, name: str) -> None:
        super().__init__()
        self.hops = hops
        cells = [(gru_matrices(weights, f"{name}.inter_rnn.rnn{g + 1}"), g * _HALF) for g in (0, 1)]
        gru = stacked(cells, CHANNELS)
        self.from_input = constant_linear(gru["weight_ih"], gru["bias_ih"])
        self.from_hidden = constant_linear(gru["weight_hh"], gru["bias_hh"])
        self.cell = GruCell(CHANNELS)
        self.out = constant_linear(weights[f"{name}.inter_fc.weight"], weights[f"{name}.inter_fc.bias"])

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Args: x [hops, 33, 16], hidden [33, 16]. Returns: the same shapes."""
        drive = self.from_input(x)  # [hops, 33, 48]
        rows = []
        for hop in range(self.hops):
            opening, offer = drive[hop, :, : 2 * CHANNELS], drive[hop, :, 2 * CHANNELS :]
            hidden = self.cell(opening, offer, self.from_hidden(hidden), hidden)
            rows.append(hidden)
        out: Tensor = self.out(stack_rows(rows).reshape(self.hops, WIDTH, CHANNELS))
        return out, hidden


class DualPath(nn.Module):
    """A recurrence along frequency, then one along time."""

    def __init__(self, hops: int, weights: Weights, name: str) -> None:
        super().__init__()
        self.intra = AlongFrequency(hops, weights, name)
        self.intra_norm = FrameNorm(weights[f"{name}.intra_ln.weight"], weights[f"{name}.intra_ln.bias"])
        self.inter = AlongTime(hops, weights, name)
        self.inter_norm = FrameNorm(weights[f"{name}.inter_ln.weight"], weights[f"{name}.inter_ln.bias"])

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Args: x [hops, 33, 16], hidden [33, 16]. Returns: the same shapes."""
        x = x + self.intra_norm(self.intra(x))
        y, hidden = self.inter(x, hidden)
        return x + self.inter_norm(y), hidden
