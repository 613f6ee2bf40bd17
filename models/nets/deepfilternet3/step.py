"""DeepFilterNet3 as phones run it: the weights of models/nets/deepfilternet3/net.py, a hop per call, state in and out.

What is rewritten, each an identity (tests compare the result with the offline net):

- Everything stands channels last, [1, frames, frequencies, channels]: 1x1 convolutions are matrix products on the rows.
- The transposed depthwise convolutions that double the frequency axis are sub-pixels: the even steps see one tap, the
  odd ones the other two. Nothing is left that is transposed.
- The convolution over five frames on the low path keeps no frames: what a frame will add to the four to come is kept
  instead, ten values a bin instead of four times 64.
- Gains reach the upper bins only, which the deep filter does not overwrite; only those are kept for two frames.
- The running means begin with values that are not zero: the state `means` holds, behind them, whether the stream has
  begun, so that a reset is zeros as everywhere.

State is a value: nothing is mutated, and no output is an input passed through.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from models.common.arrays import Float64, Weights
from models.layers.constants import constant_buffer, constant_conv, constant_linear
from models.layers.dft import InverseRealDft, RealDft
from models.layers.recurrent import GruCell
from models.layers.state import as_output
from models.nets.deepfilternet3.weights import (
    BANDS,
    BINS,
    CHANNELS,
    EMBEDDING,
    FILTERED,
    HOP_SAMPLES,
    LOOKAHEAD,
    MEMORY,
    ORDER,
    SPECTRUM_SCALE,
    UNITS,
    band_matrix,
    first_means,
    vorbis_window,
)

_OUTER, _INNER = 30, 32
_HIGH = BINS - FILTERED
_COEFFICIENTS = 2 * ORDER
_SMALLEST_MEAN = 1e-12


def _conv(weight: Float64, bias: Float64 | None, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Weight [outputs, inputs / groups, frames, taps], same number of frequencies, as many frames as it has."""
    return constant_conv(weight, bias, (1, stride), (0, weight.shape[3] // 2), groups=groups)


class FrequencyConv(nn.Module):
    """A convolution along frequency, and over the frames there are, channels last."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, frames, f, inputs]. Returns: [1, 1, f / stride, outputs]."""
        result: Tensor = self.conv(x.permute(0, 3, 1, 2))
        return result.permute(0, 2, 3, 1)


class GroupedLinear(nn.Module):
    """Each group of inputs has outputs of its own."""

    weight: Tensor

    def __init__(self, weight: Float64) -> None:
        """Args: weight [groups, inputs, outputs]."""
        super().__init__()
        self.groups, self.inputs, self.outputs = weight.shape
        self.register_buffer("weight", constant_buffer(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, groups * inputs]. Returns: [1, groups * outputs]."""
        rows = torch.matmul(x.reshape(self.groups, 1, self.inputs), self.weight)  # [groups, 1, outputs]
        return rows.reshape(1, self.groups * self.outputs)


class Gru(nn.Module):
    """A GRU layer, one step."""

    def __init__(self, weights: Weights, name: str, layer: int = 0) -> None:
        super().__init__()
        self.from_input = constant_linear(weights[f"{name}.weight_ih_l{layer}"], weights[f"{name}.bias_ih_l{layer}"])
        self.from_hidden = constant_linear(weights[f"{name}.weight_hh_l{layer}"], weights[f"{name}.bias_hh_l{layer}"])
        self.cell = GruCell(UNITS)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Args: x and hidden [1, 256]. Returns: the new hidden."""
        drive = self.from_input(x)  # [1, 768]
        new: Tensor = self.cell(drive[:, : 2 * UNITS], drive[:, 2 * UNITS :], self.from_hidden(hidden), hidden)
        return new


class Separable(nn.Module):
    """A convolution of each channel along frequency, then a matrix."""

    def __init__(self, weights: Weights, name: str, stride: int = 1) -> None:
        super().__init__()
        self.depth = FrequencyConv(_conv(weights[f"{name}.depth.weight"], None, stride, CHANNELS))
        self.point = constant_linear(weights[f"{name}.point.weight"][:, :, 0, 0], weights[f"{name}.point.bias"])

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, 1, f, 64]. Returns: [1, 1, f / stride, 64]."""
        return torch.relu(self.point(self.depth(x)))


class Up(nn.Module):
    """Twice as many frequencies: step 2m sees tap 1 at m; step 2m + 1 sees tap 2 at m and tap 0 at m + 1."""

    taps: Tensor

    def __init__(self, weights: Weights, name: str, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("taps", constant_buffer(weights[f"{name}.depth.weight"][:, 0, 0].T))  # [3, 64]
        self.point = constant_linear(weights[f"{name}.point.weight"][:, :, 0, 0], weights[f"{name}.point.bias"])

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, 1, f, 64]. Returns: [1, 1, 2 f, 64]."""
        above = nn.functional.pad(x[:, :, 1:], (0, 0, 0, 1))
        odd = x * self.taps[2] + above * self.taps[0]
        both = torch.cat([x * self.taps[1], odd], 3).reshape(1, 1, 2 * self.steps, CHANNELS)
        return torch.relu(self.point(both))


class FrontEnd(nn.Module):
    """Waveform to spectrum and features; the running means go on."""

    levels: Tensor
    magnitudes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.dft = RealDft(1, vorbis_window() * SPECTRUM_SCALE, _OUTER, _INNER)
        bands = band_matrix()
        self.to_bands = constant_linear(bands / bands.sum(1, keepdims=True))
        levels, magnitudes = first_means()
        self.register_buffer("levels", constant_buffer(levels[None]))
        self.register_buffer("magnitudes", constant_buffer(magnitudes[None]))

    def forward(self, audio: Tensor, samples: Tensor, means: Tensor) -> tuple[Tensor, ...]:
        """Take in a hop.

        Args:
            audio: [1, 480].
            samples: [1, 480], the hop before.
            means: [1, 129]: 32 levels in dB, 96 magnitudes, and 1 once the stream has begun.

        Returns:
            real and imaginary part [1, 481] each; levels [1, 32]; low spectrum [1, 192], real then imaginary;
            the new samples and means.
        """
        real, imag = self.dft(torch.cat([samples, audio], 1))
        power = real * real + imag * imag  # [1, 481]
        decibels = torch.log(self.to_bands(power) + 1e-10) * (10.0 / math.log(10.0))  # [1, 32]
        fresh = 1.0 - means[:, BANDS + FILTERED :]  # [1, 1]
        level = means[:, :BANDS] + fresh * self.levels
        level = MEMORY * level + (1.0 - MEMORY) * decibels
        magnitude = means[:, BANDS : BANDS + FILTERED] + fresh * self.magnitudes
        magnitude = MEMORY * magnitude + (1.0 - MEMORY) * torch.sqrt(power[:, :FILTERED])
        magnitude = torch.clamp(magnitude, min=_SMALLEST_MEAN)
        scale = torch.rsqrt(magnitude)
        low = torch.cat([real[:, :FILTERED] * scale, imag[:, :FILTERED] * scale], 1)
        begun = torch.clamp(means[:, BANDS + FILTERED :] + 1.0, max=1.0)
        means = torch.cat([level, magnitude, begun], 1)
        return real, imag, (decibels - level) * (1.0 / 40.0), low, as_output(audio), means


class Encoder(nn.Module):
    """Levels and low spectrum of three frames to an embedding."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.erb0 = FrequencyConv(_conv(weights["encoder.erb0.weight"], weights["encoder.erb0.bias"]))
        self.erb1 = Separable(weights, "encoder.erb1", 2)
        self.erb2 = Separable(weights, "encoder.erb2", 2)
        self.erb3 = Separable(weights, "encoder.erb3")
        # A convolution of the real and one of the imaginary parts, then a matrix: together one convolution.
        depth, point = weights["encoder.df0.depth.weight"], weights["encoder.df0.point.weight"][:, :, 0, 0]
        halves = [np.tensordot(point[:, part], depth[part, 0], 1) for part in (slice(0, 32), slice(32, 64))]
        self.df0 = FrequencyConv(_conv(np.stack(halves, 1), weights["encoder.df0.point.bias"]))
        self.df1 = Separable(weights, "encoder.df1", 2)
        self.df_in = GroupedLinear(weights["encoder.df_in.weight"])
        self.squeeze = GroupedLinear(weights["encoder.squeeze.weight"])
        self.gru = Gru(weights, "encoder.gru")
        self.widen = GroupedLinear(weights["encoder.widen.weight"])

    def forward(self, levels: Tensor, low: Tensor, hidden: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Args: levels [1, 3, 32, 1], low [1, 3, 96, 2], hidden [1, 256].

        Returns:
            four of [1, 1, 32 | 16 | 8 | 8, 64], the low path [1, 1, 96, 64], the embedding [1, 512], the new hidden.
        """
        e0 = torch.relu(self.erb0(levels))
        e1 = self.erb1(e0)
        e2 = self.erb2(e1)
        e3 = self.erb3(e2)
        path = torch.relu(self.df0(low))
        rows = torch.relu(self.df_in(self.df1(path).reshape(1, FILTERED // 2 * CHANNELS)))  # [1, 512]
        joined = e3.reshape(1, EMBEDDING) + rows
        hidden = self.gru(torch.relu(self.squeeze(joined)), hidden)
        return [e0, e1, e2, e3], path, torch.relu(self.widen(hidden)), hidden


class ErbDecoder(nn.Module):
    """Embedding to gains of the upper bins."""

    skips: Tensor
    skip_offsets: Tensor

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.squeeze = GroupedLinear(weights["erb_decoder.squeeze.weight"])
        self.gru0, self.gru1 = (Gru(weights, "erb_decoder.gru", layer) for layer in range(2))
        self.widen = GroupedLinear(weights["erb_decoder.widen.weight"])
        skips = [weights[f"erb_decoder.skip{i}.weight"].reshape(CHANNELS) for i in range(4)]
        self.register_buffer("skips", constant_buffer(np.stack(skips)))
        self.register_buffer(
            "skip_offsets", constant_buffer(np.stack([weights[f"erb_decoder.skip{i}.bias"] for i in range(4)]))
        )
        self.up3 = Separable(weights, "erb_decoder.up3")
        self.up2, self.up1 = Up(weights, "erb_decoder.up2", 8), Up(weights, "erb_decoder.up1", 16)
        self.out = FrequencyConv(_conv(weights["erb_decoder.out.weight"], weights["erb_decoder.out.bias"]))
        self.to_bins = constant_linear(band_matrix()[:, FILTERED:].T)

    def _skip(self, index: int, x: Tensor) -> Tensor:
        return torch.relu(x * self.skips[index] + self.skip_offsets[index])

    def forward(
        self, embedding: Tensor, steps: list[Tensor], hidden0: Tensor, hidden1: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Args: embedding [1, 512], the encoder's steps, two of [1, 256]. Returns: gains [1, 385], new hiddens."""
        hidden0 = self.gru0(torch.relu(self.squeeze(embedding)), hidden0)
        hidden1 = self.gru1(hidden0, hidden1)
        x = torch.relu(self.widen(hidden1)).reshape(1, 1, EMBEDDING // CHANNELS, CHANNELS)
        x = self.up3(self._skip(3, steps[3]) + x)
        x = self.up2(self._skip(2, steps[2]) + x)
        x = self.up1(self._skip(1, steps[1]) + x)
        bands = torch.sigmoid(self.out(self._skip(0, steps[0]) + x)).reshape(1, BANDS)
        return self.to_bins(bands), hidden0, hidden1


class DfDecoder(nn.Module):
    """Embedding to the coefficients of the deep filter."""

    offset: Tensor

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.squeeze = GroupedLinear(weights["df_decoder.squeeze.weight"])
        self.gru0, self.gru1 = (Gru(weights, "df_decoder.gru", layer) for layer in range(2))
        self.skip = GroupedLinear(weights["df_decoder.skip.weight"])
        self.out = GroupedLinear(weights["df_decoder.out.weight"])
        depth, half = weights["df_decoder.path.depth.weight"][..., 0], CHANNELS // 2  # [10, 32, 5]
        dense = np.zeros((_COEFFICIENTS, CHANNELS, ORDER))
        dense[:ORDER, :half], dense[ORDER:, half:] = depth[:ORDER], depth[ORDER:]
        taps = np.tensordot(weights["df_decoder.path.point.weight"][:, :, 0, 0], dense, 1)  # [10, 64, 5]
        # The last tap is for this frame, the one before it for the next, and so on.
        self.path = constant_linear(np.concatenate([taps[:, :, tap] for tap in reversed(range(ORDER))]))
        self.register_buffer("offset", constant_buffer(weights["df_decoder.path.point.bias"]))

    def forward(
        self, embedding: Tensor, path: Tensor, to_come: Tensor, hidden0: Tensor, hidden1: Tensor
    ) -> tuple[Tensor, ...]:
        """Args: embedding [1, 512], path [1, 1, 96, 64], to_come [1, 96, 40], two of [1, 256].

        Returns:
            coefficients [96, 10], and the new to_come and hiddens.
        """
        hidden0 = self.gru0(torch.relu(self.squeeze(embedding)), hidden0)
        hidden1 = self.gru1(hidden0, hidden1)
        c = torch.tanh(self.out(hidden1 + self.skip(embedding))).reshape(FILTERED, _COEFFICIENTS)
        added = self.path(path.reshape(1, FILTERED, CHANNELS)) + nn.functional.pad(to_come, (0, _COEFFICIENTS))
        now = torch.relu(added[..., :_COEFFICIENTS] + self.offset).reshape(FILTERED, _COEFFICIENTS)
        return c + now, added[..., _COEFFICIENTS:], hidden0, hidden1


class Filter(nn.Module):
    """A complex filter of five frames on each low bin."""

    def forward(self, frames: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Args: frames [1, 5, 192], real then imaginary, oldest first; coefficients [96, 10]: real and imaginary
        part of each frame's. Returns: real and imaginary part, each [1, 96]."""
        real, imag = frames[0, :, :FILTERED], frames[0, :, FILTERED:]  # [5, 96]
        pairs = coefficients.transpose(0, 1).reshape(ORDER, 2, FILTERED)
        a, b = pairs[:, 0], pairs[:, 1]  # [5, 96]
        return (real * a - imag * b).sum(0, keepdim=True), (real * b + imag * a).sum(0, keepdim=True)


class Mask(nn.Module):
    """Gains on the upper bins."""

    def forward(self, high: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
        """Args: high [1, 770], real then imaginary; gains [1, 385]. Returns: real and imaginary part [1, 385]."""
        return high[:, :_HIGH] * gains, high[:, _HIGH:] * gains


class BackEnd(nn.Module):
    """Spectrum to waveform."""

    def __init__(self) -> None:
        super().__init__()
        self.dft = InverseRealDft(1, vorbis_window() / SPECTRUM_SCALE, _OUTER, _INNER)

    def forward(self, real: Tensor, imag: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """Args: real and imag [1, 481], overlap [1, 480]. Returns: audio [1, 480] and the new overlap."""
        frame = self.dft(real, imag)
        return frame[:, :HOP_SAMPLES] + overlap, frame[:, HOP_SAMPLES:]


class StepGraph(nn.Module):
    """One hop of DeepFilterNet3; catalogue entry "deepfilternet3" names its tensors."""

    def __init__(self, weights: Weights) -> None:
        """Args: weights: float64, names of `models.nets.deepfilternet3.weights.SHAPES`."""
        super().__init__()
        self.front_end = FrontEnd()
        self.encoder = Encoder(weights)
        self.erb_decoder = ErbDecoder(weights)
        self.df_decoder = DfDecoder(weights)
        self.filter = Filter()
        self.mask = Mask()
        self.back_end = BackEnd()

    def forward(
        self,
        audio: Tensor,
        samples: Tensor,
        overlap: Tensor,
        means: Tensor,
        level_frames: Tensor,
        feature_frames: Tensor,
        low_frames: Tensor,
        high_frames: Tensor,
        to_come: Tensor,
        hidden: Tensor,
    ) -> tuple[Tensor, ...]:
        """One call.

        Args:
            audio: [1, 480], full scale 1.0.
            samples: [1, 480], the hop before.
            overlap: [1, 480], what the last frame adds to the output to come.
            means: [1, 129], running means and whether the stream has begun.
            level_frames: [1, 2, 32], band levels of the two frames before.
            feature_frames: [1, 2, 192], normalised low spectrum of the two frames before.
            low_frames: [1, 4, 192], low spectrum of the four frames before.
            high_frames: [1, 2, 770], upper spectrum of the two frames before.
            to_come: [1, 96, 40], what earlier frames add to the filter's coefficients to come.
            hidden: [1, 1280], of the five GRU layers.

        Returns:
            enhanced [1, 480], and the nine states for the next call.
        """
        h = hidden.chunk(5, 1)
        real, imag, levels, low, samples, means = self.front_end(audio, samples, means)
        level_rows = torch.cat([level_frames, levels[:, None]], 1)  # [1, 3, 32]
        feature_rows = torch.cat([feature_frames, low[:, None]], 1)  # [1, 3, 192]
        pairs = feature_rows.reshape(1, 3, 2, FILTERED).transpose(2, 3)  # [1, 3, 96, 2]
        steps, path, embedding, h0 = self.encoder(level_rows[..., None], pairs, h[0])
        gains, h1, h2 = self.erb_decoder(embedding, steps, h[1], h[2])
        coefficients, to_come, h3, h4 = self.df_decoder(embedding, path, to_come, h[3], h[4])
        low_now = torch.cat([real[:, :FILTERED], imag[:, :FILTERED]], 1)[:, None]
        low_rows = torch.cat([low_frames, low_now], 1)  # [1, 5, 192]
        high_now = torch.cat([real[:, FILTERED:], imag[:, FILTERED:]], 1)[:, None]
        high_rows = torch.cat([high_frames, high_now], 1)  # [1, 3, 770]
        low_real, low_imag = self.filter(low_rows, coefficients)
        high_real, high_imag = self.mask(high_rows[:, 0], gains)  # two frames ago, as the gains are
        real, imag = torch.cat([low_real, high_real], 1), torch.cat([low_imag, high_imag], 1)
        enhanced, overlap = self.back_end(real, imag, overlap)
        new_hidden = torch.cat([torch.cat([h0, h1, h2], 1), torch.cat([h3, h4], 1)], 1)
        return (
            enhanced,
            samples,
            overlap,
            means,
            level_rows[:, 1:],
            feature_rows[:, 1:],
            low_rows[:, 1:],
            high_rows[:, LOOKAHEAD - 1 :],
            to_come,
            new_hidden,
        )
