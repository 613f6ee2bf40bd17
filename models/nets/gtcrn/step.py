"""GTCRN as phones run it: the weights of models/nets/gtcrn/net.py, rewritten so that one call is few and small
operations.

What is rewritten, each an identity (tests compare the result with the offline net):

- Everything stands channels last, [1, hops, frequencies, channels], as XNNPACK computes it: 1x1 convolutions and
  recurrences are matrix products on the rows. Batch norms are part of the convolution before them.
- "With its neighbours, then 1x1" is one convolution over three frequencies. A transposed depthwise convolution is an
  ordinary one with its kernel mirrored. The transposed convolutions that double the frequency axis are sub-pixel
  convolutions: three taps, even and odd steps as channels, then a reshape. Nothing is left that is transposed.
- The recurrence along frequency runs both directions and both groups as one cell of 16 units with a block-diagonal
  matrix: 33 steps instead of 4 times 33. The backward half reads a mirrored copy of the rows.
- The transforms are factored (models/layers/dft.py).
- Spectra stand halved between the transforms, so that the squares of a full-scale constant stay below the largest half;
  the encoder's first matrix and the last window undo it.

State is a value: nothing is mutated, and no output is an input passed through. The hops are numbers of the modules,
not read from a shape: a traced shape would become operations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.common.arrays import Float64, Weights
from models.layers.constants import constant_linear
from models.layers.convolution import FrequencyConv, Up, dense, folded
from models.layers.dft import InverseRealDft, RealDft
from models.layers.mel import hann
from models.layers.state import as_output
from models.nets.gtcrn.layers import DualPath, PRelu, TemporalBlock
from models.nets.gtcrn.weights import (
    CHANNELS,
    DECODER,
    DILATIONS,
    ENCODER,
    HOP_SAMPLES,
    LOW_BINS,
    WIDTH,
    WINDOW_SAMPLES,
)

_OUTER, _INNER = 16, 32
_SCALE = 0.5
_MAGNITUDE_EPSILON = 1e-12 * _SCALE**2
_HISTORY = [2 * dilation for dilation in DILATIONS]


class FrontEnd(nn.Module):
    """Waveform to spectrum and to the encoder's features."""

    def __init__(self, hops: int, window: Float64) -> None:
        super().__init__()
        self.hops = hops
        self.dft = RealDft(hops, window * _SCALE, _OUTER, _INNER)

    def forward(self, audio: Tensor, samples: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Args: audio [1, 256 hops], samples [1, 256].

        Returns:
            real and imaginary part, magnitude, each [hops, 257] and halved; the new samples.
        """
        joined = torch.cat([samples, audio], 1)  # [1, 256 + 256 hops]
        blocks = joined.reshape(self.hops + 1, HOP_SAMPLES)
        frames = torch.cat([blocks[:-1], blocks[1:]], 1) if self.hops > 1 else joined
        real, imag = self.dft(frames)
        magnitude = torch.sqrt(real * real + imag * imag + _MAGNITUDE_EPSILON)
        kept = joined[:, -HOP_SAMPLES:]
        if self.hops == 1:
            kept = as_output(kept)  # the slice is `audio` itself here
        return real, imag, magnitude, kept


class BackEnd(nn.Module):
    """Masked spectrum to waveform."""

    def __init__(self, hops: int, window: Float64) -> None:
        super().__init__()
        self.hops = hops
        self.dft = InverseRealDft(hops, window / _SCALE, _OUTER, _INNER)

    def forward(self, real: Tensor, imag: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """Args: real and imag [hops, 257], overlap [1, 256]. Returns: audio [1, 256 hops] and the new overlap."""
        frames = self.dft(real, imag)  # [hops, 512]
        first, second = frames[:, :HOP_SAMPLES], frames[:, HOP_SAMPLES:]
        carried = torch.cat([overlap, second[:-1]]) if self.hops > 1 else overlap
        return (first + carried).reshape(1, self.hops * HOP_SAMPLES), second[self.hops - 1 :]


class Mask(nn.Module):
    """A complex mask on a complex spectrum."""

    def forward(self, real: Tensor, imag: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Args: real and imag [hops, 257], mask [hops, 2, 257]. Returns: real and imaginary part."""
        a, b = mask[:, 0], mask[:, 1]
        return real * a - imag * b, imag * a + real * b


class StepGraph(nn.Module):
    """`hops` hops of GTCRN; catalogue entry "gtcrn" names its tensors."""

    def __init__(self, weights: Weights, hops: int) -> None:
        """Args: weights: float64, names of `models.nets.gtcrn.weights.SHAPES`; hops: hops per call, at least 1."""
        super().__init__()
        self.hops = hops
        window = np.sqrt(hann(WINDOW_SAMPLES))
        self.front_end = FrontEnd(hops, window)
        self.to_bands = constant_linear(weights["erb.erb_fc.weight"])
        first, bias = folded(weights, f"{ENCODER[0]}.conv", f"{ENCODER[0]}.bn")
        # Channels 3 c + tap of "with its neighbours" stand as 3 tap + c here, which needs no interleaving.
        first = first.reshape(CHANNELS, 3, 3, 1, 5).swapaxes(1, 2).reshape(CHANNELS, 9, 1, 5)
        self.down1 = FrequencyConv(first / _SCALE, bias, stride=2, padding=2)
        self.act1 = PRelu(float(weights[f"{ENCODER[0]}.act.weight"][0]))
        second, bias = folded(weights, f"{ENCODER[1]}.conv", f"{ENCODER[1]}.bn")
        self.down2 = FrequencyConv(dense(second, 2), bias, stride=2, padding=2)
        self.act2 = PRelu(float(weights[f"{ENCODER[1]}.act.weight"][0]))
        # Attributes, no ModuleList: its children lose their path in a trace, and could not be kept in float32 by name.
        blocks = [TemporalBlock(hops, weights, n, d, False) for n, d in zip(ENCODER[2:], DILATIONS, strict=True)]
        self.encoder1, self.encoder2, self.encoder3 = blocks
        blocks = [TemporalBlock(hops, weights, n, d, True) for n, d in zip(DECODER[:3], DILATIONS[::-1], strict=True)]
        self.decoder1, self.decoder2, self.decoder3 = blocks
        self.dual1 = DualPath(hops, weights, "dpgrnn1")
        self.dual2 = DualPath(hops, weights, "dpgrnn2")
        third = folded(weights, f"{DECODER[3]}.conv", f"{DECODER[3]}.bn", transposed=True)
        self.up2 = Up(hops, WIDTH, *third)
        self.act3 = PRelu(float(weights[f"{DECODER[3]}.act.weight"][0]))
        last = folded(weights, f"{DECODER[4]}.conv", f"{DECODER[4]}.bn", transposed=True)
        self.up1 = Up(hops, 2 * WIDTH - 1, *last)
        self.from_bands = constant_linear(weights["erb.ierb_fc.weight"])
        self.mask = Mask()
        self.back_end = BackEnd(hops, window)

    def forward(
        self,
        audio: Tensor,
        samples: Tensor,
        overlap: Tensor,
        encoder_frames: Tensor,
        decoder_frames: Tensor,
        attention: Tensor,
        recurrent: Tensor,
    ) -> tuple[Tensor, ...]:
        """One call.

        Args:
            audio: [1, 256 hops], full scale 1.0.
            samples: [1, 256], the last samples before `audio`.
            overlap: [1, 256], what the last frame adds to the output to come.
            encoder_frames, decoder_frames: [1, 16, 33, 16], what the dilated convolutions look back at: 2, 4 and 10
                frames of the encoder's blocks, 10, 4 and 2 of the decoder's.
            attention: [1, 96], hidden values of the six attentions.
            recurrent: [2, 33, 16], hidden values of the two recurrences along time.

        Returns:
            enhanced [1, 256 hops], and the six states for the next call.
        """
        hidden = attention.chunk(6, 1)
        histories = [*torch.split(encoder_frames, _HISTORY, 1), *torch.split(decoder_frames, _HISTORY[::-1], 1)]
        real, imag, magnitude, samples = self.front_end(audio, samples)
        x, skipped = self._encode(magnitude, real, imag)
        new_frames: list[Tensor] = []
        new_hidden: list[Tensor] = []
        for index, block in enumerate((self.encoder1, self.encoder2, self.encoder3)):
            x, frames, h = block(x, histories[index], hidden[index])
            skipped.append(x)
            new_frames.append(frames)
            new_hidden.append(h)
        rows, first = self.dual1(x.reshape(self.hops, WIDTH, CHANNELS), recurrent[0])
        rows, second = self.dual2(rows, recurrent[1])
        x = rows.reshape(1, self.hops, WIDTH, CHANNELS)
        for index, block in enumerate((self.decoder1, self.decoder2, self.decoder3), 3):
            x, frames, h = block(x + skipped.pop(), histories[index], hidden[index])
            new_frames.append(frames)
            new_hidden.append(h)
        x = self.act3(self.up2(x + skipped.pop()))  # [1, hops, 65, 16]
        x = torch.tanh(self.up1(x + skipped.pop()))  # [1, hops, 129, 2]
        real, imag = self.mask(real, imag, self._spread(x))
        enhanced, overlap = self.back_end(real, imag, overlap)
        return (
            enhanced,
            samples,
            overlap,
            torch.cat(new_frames[:3], 1),
            torch.cat(new_frames[3:], 1),
            torch.cat([torch.cat(new_hidden[:3], 1), torch.cat(new_hidden[3:], 1)], 1),
            torch.stack([first, second]),
        )

    def _encode(self, magnitude: Tensor, real: Tensor, imag: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Args: each [hops, 257]. Returns: [1, hops, 33, 16], and the results of both blocks for the decoder."""
        x = torch.stack([magnitude, real, imag], 1)  # [hops, 3, 257]
        x = torch.cat([x[..., :LOW_BINS], self.to_bands(x[..., LOW_BINS:])], 2)  # [hops, 3, 129]
        x = nn.functional.pad(x, (1, 1)).transpose(1, 2)  # [hops, 131, 3]
        width = WIDTH * 4 - 3
        x = torch.cat([x[:, step : step + width] for step in range(3)], 2)  # [hops, 129, 9]
        down1 = self.act1(self.down1(x.reshape(1, self.hops, width, 9)))  # [1, hops, 65, 16]
        down2 = self.act2(self.down2(down1))  # [1, hops, 33, 16]
        return down2, [down1, down2]

    def _spread(self, x: Tensor) -> Tensor:
        """Args: mask in bands [1, hops, 129, 2]. Returns: [hops, 2, 257]."""
        rows = x.reshape(self.hops, WIDTH * 4 - 3, 2).transpose(1, 2)  # [hops, 2, 129]
        return torch.cat([rows[..., :LOW_BINS], self.from_bands(rows[..., LOW_BINS:])], 2)
