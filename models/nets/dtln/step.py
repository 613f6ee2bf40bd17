"""DTLN as phones run it: the weights of models/nets/dtln/net.py, rewritten so that one call is few operations and few
weights.

What is rewritten, each an identity (tests compare the result with the offline net):

- The 512-point DFT is 16 times 32: a DFT over 16, twiddle factors, a DFT over 32. 56 k multiplications a hop with
  6 k constants instead of 263 k of each: the caches of a phone are kept for the LSTMs. Only half of the bins of real
  audio are computed, in an internal order: the columns of core 1 are put into that order.
- Nothing but linear maps lies between core 1's masked spectrum and core 2's features, so the inverse DFT and the
  encoder are one matrix. The phase is never computed: mask * real, mask * imaginary.
- Gain and offset of the normalisation are part of the LSTM behind it; gates stand as input, forget, output, cell,
  so that one sigmoid does three of them.
- With several hops per call, everything but the recurrences is one matrix product for all hops.

State is a value: nothing is mutated, and no output is an input passed through. The hops are numbers of the modules,
not read from a shape: a traced shape would become operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.common.arrays import Float64
from models.layers.constants import constant_buffer, constant_linear
from models.layers.dft_factors import roots
from models.layers.recurrent import Lstm
from models.layers.state import as_output
from models.nets.dtln.weights import BINS, FRAME_SAMPLES, NORM_EPSILON

HOP_SAMPLES = 128
_KEPT = FRAME_SAMPLES - HOP_SAMPLES
_PARTS = FRAME_SAMPLES // HOP_SAMPLES
_OUTER, _INNER = 16, 32
_HALF = _OUTER // 2 + 1

# Bin k1 + 16 k2, k1 = 0..8, k2 = 0..31, are 288 bins of which 31 mirror others: in this order of k2 the mirrors
# are the first 15 (k1 = 0) and the last 16 (k1 = 8), so one slice leaves each frequency once. A bin above 256
# stands for its mirror: its imaginary part has the other sign, which the matrix behind the mask knows.
# FREQUENCY: which of the 257 frequencies stands at each place.
_K2 = np.array([*range(17, 32), 16, *range(16)])
_FIRST = 15
_BIN_ORDER = (np.arange(_HALF)[:, None] + _OUTER * _K2).ravel()[_FIRST : _FIRST + BINS]
FREQUENCY = np.minimum(_BIN_ORDER, FRAME_SAMPLES - _BIN_ORDER)


class Framing(nn.Module):
    """Waveform to overlapping frames."""

    def __init__(self, hops: int) -> None:
        super().__init__()
        self.hops = hops

    def forward(self, audio: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Args: audio [1, 128 hops], samples [1, 384]. Returns: frames [hops, 512] and the new samples."""
        joined = torch.cat([samples, audio], 1)  # [1, 384 + 128 hops]
        blocks = joined.reshape(self.hops + _PARTS - 1, HOP_SAMPLES)
        frames = torch.cat([blocks[part : part + self.hops] for part in range(_PARTS)], 1) if self.hops > 1 else joined
        kept = joined[:, -_KEPT:]
        if self.hops * HOP_SAMPLES == _KEPT:
            kept = as_output(kept)  # the slice is `audio` itself here
        return frames, kept


class FrontEnd(nn.Module):
    """Frames to real part, imaginary part and magnitude of 257 bins, in the order of `_BIN_ORDER`."""

    twiddle_real: Tensor
    twiddle_imag: Tensor

    def __init__(self, hops: int) -> None:
        super().__init__()
        self.hops = hops
        outer = roots(np.arange(_HALF), np.arange(_OUTER), _OUTER)
        twiddle = roots(np.arange(_INNER), np.arange(_HALF), FRAME_SAMPLES)
        inner = roots(_K2, np.arange(_INNER), _INNER)
        self.outer = constant_linear(np.concatenate([outer.real, outer.imag]))
        self.outer_turned = constant_linear(
            np.concatenate([-outer.imag, outer.real])
        )  # times i, for the twiddle's imaginary part
        self.register_buffer("twiddle_real", constant_buffer(np.tile(twiddle.real, 2)))
        self.register_buffer("twiddle_imag", constant_buffer(np.tile(twiddle.imag, 2)))
        self.inner_real = constant_linear(np.concatenate([inner.real, -inner.imag], 1))
        self.inner_imag = constant_linear(np.concatenate([inner.imag, inner.real], 1))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Args: frames [hops, 512]. Returns: real, imaginary, magnitude, each [hops, 257]."""
        hops = self.hops
        columns = frames.reshape(hops, _OUTER, _INNER).transpose(1, 2)  # [hops, 32, 16]
        columns = columns.reshape(hops * _INNER, _OUTER)  # [hops * 32, 16]
        straight = self.outer(columns).reshape(hops, _INNER, 2 * _HALF)  # [hops, 32, 18]: 9 real, 9 imaginary
        turned = self.outer_turned(columns).reshape(hops, _INNER, 2 * _HALF)
        x = straight * self.twiddle_real + turned * self.twiddle_imag  # [hops, 32, 18]
        x = x.reshape(hops, _INNER, 2, _HALF).permute(0, 3, 2, 1)  # [hops, 9, 2, 32]
        x = x.reshape(hops * _HALF, 2 * _INNER)  # [hops * 9, 64]
        real = self.inner_real(x).reshape(hops, _HALF * _INNER)[:, _FIRST : _FIRST + BINS]  # [hops, 257]
        imag = self.inner_imag(x).reshape(hops, _HALF * _INNER)[:, _FIRST : _FIRST + BINS]  # [hops, 257]
        return real, imag, torch.sqrt(real * real + imag * imag)


class Core(nn.Module):
    """Two LSTM layers and a mask."""

    def __init__(self, lstm1: Lstm, lstm2: Lstm, mask: nn.Linear) -> None:
        super().__init__()
        self.lstm1, self.lstm2, self.mask = lstm1, lstm2, mask

    def forward(
        self, x: Tensor, hidden: Sequence[Tensor], cell: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Args: x [hops, inputs], two states each. Returns: mask [hops, outputs], 0 to 1, and the new states."""
        x, hidden1, cell1 = self.lstm1(x, hidden[0], cell[0])
        x, hidden2, cell2 = self.lstm2(x, hidden[1], cell[1])
        return torch.sigmoid(self.mask(x)), [hidden1, hidden2], [cell1, cell2]


class Encoder(nn.Module):
    """Masked spectrum to core 2's features: inverse DFT and learned encoder in one matrix."""

    def __init__(self, encoder: Float64) -> None:
        super().__init__()
        # A real frame's bins count twice, but for those that are their own mirror.
        counted = np.where(FREQUENCY % (FRAME_SAMPLES // 2) == 0, 1.0, 2.0) / FRAME_SAMPLES
        basis = roots(np.arange(FRAME_SAMPLES), _BIN_ORDER, FRAME_SAMPLES) * counted  # conj(inverse DFT), [512, 257]
        self.matrix = constant_linear(np.concatenate([encoder @ basis.real, encoder @ basis.imag], 1))

    def forward(self, real: Tensor, imag: Tensor, mask: Tensor) -> Tensor:
        """Args: each [hops, 257]. Returns: features [hops, 256]."""
        features: Tensor = self.matrix(torch.cat([real * mask, imag * mask], 1))
        return features


class Norm(nn.Module):
    """Zero mean and unit variance over the features of a hop."""

    def forward(self, features: Tensor) -> Tensor:
        """Args: features [hops, 256]. Returns: the same shape."""
        centred = features - features.mean(1, keepdim=True)
        return centred * torch.rsqrt((centred * centred).mean(1, keepdim=True) + NORM_EPSILON)


class Decoder(nn.Module):
    """Core 2's mask and features to frames."""

    def __init__(self, decoder: Float64) -> None:
        super().__init__()
        self.matrix = constant_linear(decoder)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Args: each [hops, 256]. Returns: frames [hops, 512]."""
        frames: Tensor = self.matrix(features * mask)
        return frames


class OverlapAdd(nn.Module):
    """Frames to waveform, hop by hop."""

    def __init__(self, hops: int) -> None:
        super().__init__()
        self.hops = hops

    def forward(self, frames: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """Args: frames [hops, 512], overlap [1, 384]. Returns: [1, 128 hops] and the new overlap."""
        hops = self.hops
        carried = overlap.reshape(_PARTS - 1, HOP_SAMPLES)
        summed = nn.functional.pad(carried, (0, 0, 0, hops))  # [3 + hops, 128]
        if hops == 1:
            summed = summed + frames.reshape(_PARTS, HOP_SAMPLES)
        else:
            for part in range(_PARTS):
                column = frames[:, part * HOP_SAMPLES : (part + 1) * HOP_SAMPLES]  # [hops, 128]
                summed = summed + nn.functional.pad(column, (0, 0, part, _PARTS - 1 - part))
        return summed[:hops].reshape(1, hops * HOP_SAMPLES), summed[hops:].reshape(1, _KEPT)


class StepGraph(nn.Module):
    """`hops` hops of DTLN; catalogue entry "dtln" names its tensors."""

    def __init__(self, weights: Mapping[str, Float64], hops: int) -> None:
        """Args: weights: float64, names of `models.nets.dtln.weights.SHAPES`; hops: hops per call, at least 1."""
        super().__init__()
        self.hops = hops

        def lstm(
            name: str,
            columns: NDArray[np.int64] | None = None,
            gain: Float64 | None = None,
            offset: Float64 | None = None,
        ) -> Lstm:
            weight = weights[f"{name}.weight_ih_l0"]
            bias = weights[f"{name}.bias_ih_l0"] + weights[f"{name}.bias_hh_l0"]
            if offset is not None:
                bias = bias + weight @ offset
            if gain is not None:
                weight = weight * gain
            return Lstm(hops, weight if columns is None else weight[:, columns], weights[f"{name}.weight_hh_l0"], bias)

        self.framing = Framing(hops)
        self.front_end = FrontEnd(hops)
        self.core1 = Core(
            lstm("core1.lstm1", columns=FREQUENCY),
            lstm("core1.lstm2"),
            constant_linear(weights["core1.mask.weight"][FREQUENCY], weights["core1.mask.bias"][FREQUENCY]),
        )
        self.encoder = Encoder(weights["core2.encoder.weight"])
        self.norm = Norm()
        self.core2 = Core(
            lstm("core2.lstm1", gain=weights["core2.norm.weight"], offset=weights["core2.norm.bias"]),
            lstm("core2.lstm2"),
            constant_linear(weights["core2.mask.weight"], weights["core2.mask.bias"]),
        )
        self.decoder = Decoder(weights["core2.decoder.weight"])
        self.overlap_add = OverlapAdd(hops)

    def forward(
        self, audio: Tensor, samples: Tensor, overlap: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One call.

        Args:
            audio: [1, 128 hops], full scale 1.0.
            samples: [1, 384], the last samples before `audio`.
            overlap: [1, 384], what earlier frames add to the output to come.
            hidden, cell: [1, 512], those of the four LSTM layers in a row.

        Returns:
            enhanced [1, 128 hops], and samples, overlap, hidden and cell for the next call.
        """
        h, c = hidden.chunk(4, 1), cell.chunk(4, 1)  # four of [1, 128]
        frames, samples = self.framing(audio, samples)  # [hops, 512]
        real, imag, magnitude = self.front_end(frames)  # [hops, 257]
        mask1, h1, c1 = self.core1(magnitude, h[:2], c[:2])  # [hops, 257]
        features = self.encoder(real, imag, mask1)  # [hops, 256]
        mask2, h2, c2 = self.core2(self.norm(features), h[2:], c[2:])  # [hops, 256]
        enhanced, overlap = self.overlap_add(self.decoder(features, mask2), overlap)
        return enhanced, samples, overlap, torch.cat([*h1, *h2], 1), torch.cat([*c1, *c2], 1)
