"""DTLN, the dual-signal transformation LSTM network: speech enhancement in two stages, 8 ms per hop at 16 kHz.

Westhausen & Meyer, "Dual-Signal Transformation LSTM Network for Real-Time Noise Suppression", Interspeech 2020,
arXiv:2005.07551. Core 1 masks the magnitude of a 512-point spectrum and keeps the phase; core 2 masks a learned
256-feature basis of what core 1 leaves. Frames of 512 samples every 128, no window, plain overlap-add.

The net here is the offline form, written to be read: it is the truth that every export is compared with.
The form for phones, the same weights rewritten, is models/nets/dtln/step.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.common.arrays import Arrays
from models.common.errors import UsageError
from models.layers.offline import check_audio, float64_weights, overlap_add, with_weights
from models.nets.dtln.step import StepGraph
from models.nets.dtln.weights import BINS, FEATURES, FRAME_SAMPLES, NORM_EPSILON, UNITS, check

HOP_SAMPLES = 128
DELAY_SAMPLES = FRAME_SAMPLES - HOP_SAMPLES


class Core1(nn.Module):
    """Magnitude spectrum to a mask for it."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm1 = nn.LSTM(BINS, UNITS)
        self.lstm2 = nn.LSTM(UNITS, UNITS)
        self.mask = nn.Linear(UNITS, BINS)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Args: magnitude [hops, 257], not normalised. Returns: mask [hops, 257], 0 to 1."""
        x, _ = self.lstm1(magnitude)  # [hops, 128]
        x, _ = self.lstm2(x)  # [hops, 128]
        mask: Tensor = self.mask(x)
        return torch.sigmoid(mask)  # [hops, 257]


class Core2(nn.Module):
    """Frames to cleaner frames, masked in a learned basis."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(FRAME_SAMPLES, FEATURES, bias=False)
        self.norm = nn.LayerNorm(FEATURES, eps=NORM_EPSILON)  # the paper's instant layer normalisation
        self.lstm1 = nn.LSTM(FEATURES, UNITS)
        self.lstm2 = nn.LSTM(UNITS, UNITS)
        self.mask = nn.Linear(UNITS, FEATURES)
        self.decoder = nn.Linear(FEATURES, FRAME_SAMPLES, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Args: frames [hops, 512]. Returns: frames [hops, 512]."""
        features = self.encoder(frames)  # [hops, 256]
        x, _ = self.lstm1(self.norm(features))  # [hops, 128]
        x, _ = self.lstm2(x)  # [hops, 128]
        mask = torch.sigmoid(self.mask(x))  # [hops, 256]
        decoded: Tensor = self.decoder(features * mask)  # [hops, 512]
        return decoded


class DTLN(nn.Module):
    """The net over a whole recording, from the zero state."""

    def __init__(self) -> None:
        super().__init__()
        self.core1 = Core1()
        self.core2 = Core2()

    def forward(self, audio: Tensor) -> Tensor:
        """Enhance a recording as the stream would.

        Args:
            audio: [1, n], 16 kHz, full scale 1.0; zeros are appended up to the next multiple of 128.

        Returns:
            enhanced [1, n rounded up to 128], DELAY_SAMPLES (384) behind `audio`, as the stream has it: to get
            the last of n samples, append 384 zeros.

        Raises:
            AudioError: no audio, or another shape.
        """
        check_audio("dtln", audio)
        tail = -audio.shape[1] % HOP_SAMPLES
        padded = nn.functional.pad(audio, (DELAY_SAMPLES, tail))  # [1, 384 + 128 hops]
        frames = padded[0].unfold(0, FRAME_SAMPLES, HOP_SAMPLES)  # [hops, 512]
        spectrum = torch.fft.rfft(frames)  # [hops, 257]
        mask = self.core1(spectrum.abs())  # [hops, 257]
        estimate = torch.fft.irfft(spectrum * mask, n=FRAME_SAMPLES)  # [hops, 512]
        cleaned: Tensor = self.core2(estimate)  # [hops, 512]
        return overlap_add(cleaned, HOP_SAMPLES)[None]  # [1, 128 hops]


def build(weights: Arrays) -> DTLN:
    """The offline net, with weights by the names of `weights.SHAPES`, ready for inference."""
    return with_weights(DTLN(), check(weights))


def graph(net: DTLN, hops_per_call: int) -> StepGraph:
    """The form that is exported, state in and out: models/nets/dtln/step.py."""
    if hops_per_call < 1:
        raise UsageError(f"dtln: expected at least 1 hop per call, got {hops_per_call}")
    return StepGraph(float64_weights(net), hops_per_call).eval().requires_grad_(False)
