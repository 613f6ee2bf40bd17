"""The separator as phones run it: the weights of models/nets/unet/net.py, rewritten. Each rewriting is an identity.

- Everything stands channels last, [1, hops, frequencies, channels], as XNNPACK computes it; batch norms are part of the
  convolution before them; transposed convolutions are sub-pixel convolutions (models/layers/convolution.py).
- A causal convolution over time is one over frequency: the three frames it sees stand as channels beside each other.
  What it looks back at is a state.
- The transforms are factored, 2048 = 32 * 64 (models/layers/dft.py). The phase is never computed: mask * real,
  mask * imaginary.

State is a value: nothing is mutated, and no output is an input passed through. The hops are numbers of the modules,
not read from a shape: a traced shape would become operations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.common.arrays import Float64, Weights
from models.common.errors import UsageError
from models.layers.constants import constant_buffer
from models.layers.convolution import FrequencyConv, Up, folded
from models.layers.dft import InverseRealDft, RealDft
from models.layers.mel import hann
from models.layers.state import as_output
from models.nets.unet.weights import BINS, CHANNELS, DILATIONS, FRAMES, HOP_SAMPLES, SOURCES, TAPS, WINDOW_SAMPLES

_OUTER, _INNER = 32, 64
_PARTS = WINDOW_SAMPLES // HOP_SAMPLES
_KEPT = WINDOW_SAMPLES - HOP_SAMPLES
_OUTPUTS = len(SOURCES) * CHANNELS


class FrontEnd(nn.Module):
    """Waveform to spectrum and magnitude."""

    def __init__(self, hops: int, window: Float64) -> None:
        super().__init__()
        self.hops = hops
        self.dft = RealDft(CHANNELS * hops, window, _OUTER, _INNER)

    def forward(self, audio: Tensor, samples: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Args: audio [1, 2, 512 hops], samples [1, 2, 1536].

        Returns:
            real and imaginary part and magnitude, each [2 hops, 1025], left before right; the new samples.
        """
        joined = torch.cat([samples, audio], 2)
        blocks = joined.reshape(CHANNELS, self.hops + _PARTS - 1, HOP_SAMPLES)
        frames = torch.cat([blocks[:, part : part + self.hops] for part in range(_PARTS)], 2)  # [2, hops, 2048]
        real, imag = self.dft(frames.reshape(CHANNELS * self.hops, WINDOW_SAMPLES))
        kept = joined[:, :, -_KEPT:]
        if self.hops * HOP_SAMPLES == _KEPT:
            kept = as_output(kept)  # the slice is `audio` itself here
        return real, imag, torch.sqrt(real * real + imag * imag), kept


class CausalDown(nn.Module):
    """Half as many frequencies; sees the frames now, one dilation ago and two."""

    def __init__(self, hops: int, weights: Weights, name: str, dilation: int) -> None:
        super().__init__()
        self.hops, self.dilation = hops, dilation
        weight, bias = folded(weights, f"{name}.conv", f"{name}.bn")
        stacked = weight.swapaxes(1, 2).reshape(len(bias), -1, 1, TAPS)  # frame by frame
        self.conv = FrequencyConv(stacked, bias, stride=2, padding=TAPS // 2)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Args: x [1, hops, f, inputs], context [1, 2 dilation, f, inputs].

        Returns:
            [1, hops, (f + 1) / 2, outputs] and the new context.
        """
        joined = torch.cat([context, x], 1)
        starts = [frame * self.dilation for frame in range(FRAMES)]
        seen = torch.cat([joined[:, start : start + self.hops] for start in starts], 3)
        return torch.relu(self.conv(seen)), joined[:, self.hops :]


class BackEnd(nn.Module):
    """Masked spectra to waveforms."""

    mean: Tensor
    scale: Tensor

    def __init__(self, hops: int, window: Float64, mean: Float64, scale: Float64) -> None:
        """Args: mean and scale [sources, 1025], of the masks."""
        super().__init__()
        self.hops = hops
        self.dft = InverseRealDft(_OUTPUTS * hops, window, _OUTER, _INNER)
        for name, value in (("mean", mean), ("scale", scale)):
            self.register_buffer(name, constant_buffer(value.reshape(len(SOURCES), 1, 1, BINS)))

    def forward(self, x: Tensor, real: Tensor, imag: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """Args: x [1, hops, 1025, 8] from the decoder, real and imag [2 hops, 1025], overlap [4, 2, 1536].

        Returns:
            [4, 2, 512 hops] and the new overlap.
        """
        hops = self.hops
        x = x.permute(0, 3, 1, 2).reshape(len(SOURCES), CHANNELS, hops, BINS)
        mask = torch.relu(x * self.scale + self.mean)
        parts = [(mask * part.reshape(1, CHANNELS, hops, BINS)).reshape(_OUTPUTS * hops, BINS) for part in (real, imag)]
        frames = self.dft(*parts).reshape(_OUTPUTS, hops, WINDOW_SAMPLES)
        summed = nn.functional.pad(overlap.reshape(_OUTPUTS, _PARTS - 1, HOP_SAMPLES), (0, 0, 0, hops))
        for part in range(_PARTS):
            column = frames[:, :, part * HOP_SAMPLES : (part + 1) * HOP_SAMPLES]  # [8, hops, 512]
            summed = summed + nn.functional.pad(column, (0, 0, part, _PARTS - 1 - part))
        out = summed[:, :hops].reshape(len(SOURCES), CHANNELS, hops * HOP_SAMPLES)
        return out, summed[:, hops:].reshape(len(SOURCES), CHANNELS, _KEPT)


class StepGraph(nn.Module):
    """`hops` hops of the separator; catalogue entry "unet-separator" names its tensors."""

    input_mean: Tensor
    input_scale: Tensor

    def __init__(self, weights: Weights, hops: int) -> None:
        """Args: weights: float64, names of `weights.expected_shapes`; hops: hops per call, at least 1."""
        super().__init__()
        self.hops, self.width = hops, weights["encoder.0.conv.bias"].shape[0]
        window = hann(WINDOW_SAMPLES)
        self.front_end = FrontEnd(hops, window)
        for name in ("input_mean", "input_scale"):
            self.register_buffer(name, constant_buffer(weights[name][:, None]))
        self.encoder = nn.ModuleList(
            CausalDown(hops, weights, f"encoder.{level}", dilation) for level, dilation in enumerate(DILATIONS)
        )
        self.decoder = nn.ModuleList()
        for level in range(len(DILATIONS)):
            steps = (BINS - 1) // 2 ** (len(DILATIONS) - level) + 1
            name = f"decoder.{level}"
            self.decoder.append(Up(hops, steps, *folded(weights, f"{name}.conv", f"{name}.bn", transposed=True)))
        # Four squared windows overlap, which add up to 1.5 everywhere.
        ends = [np.stack([weights[f"target_models.{s}.output_{p}"] for s in SOURCES]) for p in ("mean", "scale")]
        self.back_end = BackEnd(hops, window / 1.5, *ends)

    def forward(self, audio: Tensor, samples: Tensor, overlap: Tensor, *contexts: Tensor) -> tuple[Tensor, ...]:
        """One call.

        Args:
            audio: [1, 2, 512 hops], full scale 1.0.
            samples: [1, 2, 1536], the last samples before `audio`.
            overlap: [4, 2, 1536], what earlier frames add to the outputs to come.
            contexts: five, [1, 2 dilation, f, channels], what the encoder's convolutions look back at.

        Returns:
            four of [1, 2, 512 hops], in the order of SOURCES, and the seven states for the next call.

        Raises:
            UsageError: contexts of a net of another width.
        """
        if contexts[1].shape[-1] != self.width:
            raise UsageError(
                f"unet-separator: the weights have {self.width} channels in their first layer, the catalogue's states "
                f"are for {contexts[1].shape[-1]}; export with models.catalog.unet_separator({self.width})"
            )
        real, imag, magnitude, samples = self.front_end(audio, samples)
        x = magnitude.reshape(CHANNELS, self.hops, BINS).permute(1, 2, 0).reshape(1, self.hops, BINS, CHANNELS)
        x = (x + self.input_mean) * self.input_scale
        skipped: list[Tensor] = []
        kept: list[Tensor] = []
        for down, context in zip(self.encoder, contexts, strict=True):
            x, context = down(x, context)
            skipped.append(x)
            kept.append(context)
        x = skipped.pop()
        for level, up in enumerate(self.decoder):
            x = up(x if level == 0 else torch.cat([torch.relu(x), skipped.pop()], 3))
        out, overlap = self.back_end(x, real, imag, overlap)
        return (*(out[source : source + 1] for source in range(len(SOURCES))), samples, overlap, *kept)
