"""GTCRN, the grouped temporal convolutional recurrent network: speech enhancement with 24 k parameters, 16 ms per hop.

Rong et al., "GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources", ICASSP 2024. Frames of 512
samples every 256 at 16 kHz, square root of Hann before and after. Magnitude, real and imaginary part of a spectrum
whose upper 192 bins are gathered in 64 ERB bands; an encoder that halves the frequency axis twice and looks back in
time by dilated convolutions; two dual-path recurrences (along frequency, then along time); a decoder that mirrors the
encoder; a complex mask.

The net here is the offline form, written to be read: it is the truth that every export is compared with. Its submodules
carry the names of the authors' checkpoints. The form for phones, the same weights rewritten, is
models/nets/gtcrn/step.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.common.arrays import Arrays
from models.common.errors import UsageError
from models.layers.offline import check_audio, float64_weights, overlap_add, with_weights
from models.nets.gtcrn.step import StepGraph
from models.nets.gtcrn.weights import (
    ATTENTION_UNITS,
    BANDS,
    BINS,
    CHANNELS,
    DILATIONS,
    HOP_SAMPLES,
    LAYER_NORM_EPSILON,
    LOW_BINS,
    WIDTH,
    WINDOW_SAMPLES,
    check,
)

DELAY_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES
_HALF = CHANNELS // 2
_MAGNITUDE_EPSILON = 1e-12


class Bands(nn.Module):
    """The upper bins in ERB bands, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.erb_fc = nn.Linear(BINS - LOW_BINS, BANDS, bias=False)
        self.ierb_fc = nn.Linear(BANDS, BINS - LOW_BINS, bias=False)

    def gather(self, x: Tensor) -> Tensor:
        """Args: [..., 257]. Returns: [..., 129]."""
        return torch.cat([x[..., :LOW_BINS], self.erb_fc(x[..., LOW_BINS:])], -1)

    def spread(self, x: Tensor) -> Tensor:
        """Args: [..., 129]. Returns: [..., 257]."""
        return torch.cat([x[..., :LOW_BINS], self.ierb_fc(x[..., LOW_BINS:])], -1)


def with_neighbours(x: Tensor) -> Tensor:
    """Each frequency with the one below and the one above as channels: [1, c, hops, f] to [1, 3 c, hops, f]."""
    padded = nn.functional.pad(x, (1, 1))
    width = x.shape[-1]
    rows = torch.stack([padded[..., step : step + width] for step in range(3)], 2)  # [1, c, 3, hops, f]
    return rows.flatten(1, 2)


class ConvBlock(nn.Module):
    """Convolution along frequency that halves, or doubles, the number of steps."""

    def __init__(
        self, inputs: int, outputs: int, groups: int = 1, transposed: bool = False, last: bool = False
    ) -> None:
        super().__init__()
        kind: Any = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.conv = kind(inputs, outputs, (1, 5), stride=(1, 2), padding=(0, 2), groups=groups)
        self.bn = nn.BatchNorm2d(outputs)
        self.act: nn.Module = nn.Tanh() if last else nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, inputs, hops, f]. Returns: [1, outputs, hops, (f + 1) / 2 or 2 f - 1]."""
        result: Tensor = self.act(self.bn(self.conv(x)))
        return result


class Attention(nn.Module):
    """Temporal recurrent attention: a gain for each channel, from the energies of the channels so far."""

    def __init__(self) -> None:
        super().__init__()
        self.att_gru = nn.GRU(_HALF, ATTENTION_UNITS, batch_first=True)
        self.att_fc = nn.Linear(ATTENTION_UNITS, _HALF)

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, 8, hops, 33]. Returns: the same shape."""
        energy = x.square().mean(-1).transpose(1, 2)  # [1, hops, 8]
        hidden, _ = self.att_gru(energy)  # [1, hops, 16]
        gain = torch.sigmoid(self.att_fc(hidden))  # [1, hops, 8]
        result: Tensor = x * gain.transpose(1, 2)[..., None]
        return result


class TemporalBlock(nn.Module):
    """Half of the channels through a dilated depthwise convolution over time; then both halves interleaved."""

    def __init__(self, dilation: int, transposed: bool) -> None:
        super().__init__()
        kind: Any = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.history = 2 * dilation
        self.point_conv1 = kind(3 * _HALF, CHANNELS, 1)
        self.point_bn1 = nn.BatchNorm2d(CHANNELS)
        self.point_act = nn.PReLU()
        # What a transposed convolution adds at both ends of time is cut off by its own padding.
        padding = (self.history if transposed else 0, 1)
        self.depth_conv = kind(CHANNELS, CHANNELS, 3, padding=padding, dilation=(dilation, 1), groups=CHANNELS)
        self.depth_bn = nn.BatchNorm2d(CHANNELS)
        self.depth_act = nn.PReLU()
        self.point_conv2 = kind(CHANNELS, _HALF, 1)
        self.point_bn2 = nn.BatchNorm2d(_HALF)
        self.tra = Attention()

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, 16, hops, 33]. Returns: the same shape."""
        worked, kept = x.chunk(2, 1)  # [1, 8, hops, 33] each
        h = self.point_act(self.point_bn1(self.point_conv1(with_neighbours(worked))))  # [1, 16, hops, 33]
        h = nn.functional.pad(h, (0, 0, self.history, 0))  # silence before the stream
        h = self.depth_act(self.depth_bn(self.depth_conv(h)))  # [1, 16, hops, 33]
        h = self.tra(self.point_bn2(self.point_conv2(h)))  # [1, 8, hops, 33]
        return torch.stack([h, kept], 2).flatten(1, 2)


class GroupedGru(nn.Module):
    """Two GRUs, each with half of the channels."""

    def __init__(self, units: int, bidirectional: bool) -> None:
        super().__init__()
        self.rnn1 = nn.GRU(_HALF, units, batch_first=True, bidirectional=bidirectional)
        self.rnn2 = nn.GRU(_HALF, units, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        """Args: [batch, steps, 16]. Returns: the same shape."""
        first, second = x.chunk(2, -1)
        return torch.cat([self.rnn1(first)[0], self.rnn2(second)[0]], -1)


class DualPath(nn.Module):
    """A recurrence along frequency inside each frame, then one along time for each frequency."""

    def __init__(self) -> None:
        super().__init__()
        self.intra_rnn = GroupedGru(_HALF // 2, bidirectional=True)
        self.intra_fc = nn.Linear(CHANNELS, CHANNELS)
        self.intra_ln = nn.LayerNorm((WIDTH, CHANNELS), eps=LAYER_NORM_EPSILON)
        self.inter_rnn = GroupedGru(_HALF, bidirectional=False)
        self.inter_fc = nn.Linear(CHANNELS, CHANNELS)
        self.inter_ln = nn.LayerNorm((WIDTH, CHANNELS), eps=LAYER_NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, 16, hops, 33]. Returns: the same shape."""
        rows = x[0].permute(1, 2, 0)  # [hops, 33, 16]
        rows = rows + self.intra_ln(self.intra_fc(self.intra_rnn(rows)))
        in_time = self.inter_fc(self.inter_rnn(rows.transpose(0, 1)))  # [33, hops, 16]
        rows = rows + self.inter_ln(in_time.transpose(0, 1))
        result: Tensor = rows.permute(2, 0, 1)[None]
        return result


class Encoder(nn.Module):
    """Five blocks; what each gives is needed again by the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.en_convs = nn.ModuleList(
            [
                ConvBlock(9, CHANNELS),
                ConvBlock(CHANNELS, CHANNELS, groups=2),
                *(TemporalBlock(dilation, transposed=False) for dilation in DILATIONS),
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Args: [1, 9, hops, 129]. Returns: [1, 16, hops, 65] and four of [1, 16, hops, 33]."""
        results = []
        for block in self.en_convs:
            x = block(x)
            results.append(x)
        return results


class Decoder(nn.Module):
    """The encoder's mirror, with its results added in."""

    def __init__(self) -> None:
        super().__init__()
        self.de_convs = nn.ModuleList(
            [
                *(TemporalBlock(dilation, transposed=True) for dilation in reversed(DILATIONS)),
                ConvBlock(CHANNELS, CHANNELS, groups=2, transposed=True),
                ConvBlock(CHANNELS, 2, transposed=True, last=True),
            ]
        )

    def forward(self, x: Tensor, encoded: list[Tensor]) -> Tensor:
        """Args: x [1, 16, hops, 33]. Returns: mask in bands [1, 2, hops, 129], -1 to 1."""
        for block, skipped in zip(self.de_convs, reversed(encoded), strict=True):
            x = block(x + skipped)
        return x


class GTCRN(nn.Module):
    """The net over a whole recording, from the zero state."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.erb = Bands()
        self.encoder = Encoder()
        self.dpgrnn1 = DualPath()
        self.dpgrnn2 = DualPath()
        self.decoder = Decoder()
        self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES).sqrt(), persistent=False)

    def enhance_spectrum(self, spectrum: Tensor) -> Tensor:
        """Args: complex [hops, 257]. Returns: the same shape, masked."""
        real, imag = spectrum.real, spectrum.imag
        magnitude = (real.square() + imag.square() + _MAGNITUDE_EPSILON).sqrt()
        features = torch.stack([magnitude, real, imag])[None]  # [1, 3, hops, 257]
        encoded = self.encoder(with_neighbours(self.erb.gather(features)))
        x = self.dpgrnn2(self.dpgrnn1(encoded[-1]))  # [1, 16, hops, 33]
        mask = self.erb.spread(self.decoder(x, encoded))[0]  # [2, hops, 257]
        enhanced: Tensor = spectrum * torch.complex(mask[0], mask[1])
        return enhanced

    def forward(self, audio: Tensor) -> Tensor:
        """Enhance a recording as the stream would.

        Args:
            audio: [1, n], 16 kHz, full scale 1.0; zeros are appended up to the next multiple of 256.

        Returns:
            enhanced [1, n rounded up to 256], DELAY_SAMPLES (256) behind `audio`, as the stream has it: to get
            the last of n samples, append 256 zeros.

        Raises:
            AudioError: no audio, or another shape.
        """
        check_audio("gtcrn", audio)
        tail = -audio.shape[1] % HOP_SAMPLES
        padded = nn.functional.pad(audio, (DELAY_SAMPLES, tail))  # [1, 256 + 256 hops]
        frames = padded[0].unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)  # [hops, 512]
        spectrum = self.enhance_spectrum(torch.fft.rfft(frames * self.window))  # [hops, 257]
        cleaned = torch.fft.irfft(spectrum, n=WINDOW_SAMPLES) * self.window  # [hops, 512]
        return overlap_add(cleaned, HOP_SAMPLES)[None]  # [1, 256 hops]


def build(weights: Arrays) -> GTCRN:
    """The offline net, with weights by the names of `weights.SHAPES`: the authors' checkpoints have them."""
    return with_weights(GTCRN(), check(weights), strict=False)


def graph(net: GTCRN, hops_per_call: int) -> StepGraph:
    """The form that is exported, state in and out: models/nets/gtcrn/step.py."""
    if hops_per_call < 1:
        raise UsageError(f"gtcrn: expected at least 1 hop per call, got {hops_per_call}")
    return StepGraph(float64_weights(net), hops_per_call).eval().requires_grad_(False)
