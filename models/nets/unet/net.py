"""A separator: vocals, drums, bass and other from stereo music at 44.1 kHz, by masks on the mix's magnitude.

An encoder-decoder with skip connections along frequency, after Jansson et al., "Singing Voice Separation with Deep
U-Net Convolutional Networks", ISMIR 2017, made causal: the encoder looks back in time (20 frames, 0.23 s), and nothing
looks ahead. Frames of 2048 samples every 512, Hann before and after; a source is its mask times the mix's spectrum,
whose phase it keeps. Spectra are scaled at both ends as in Open-Unmix (models/nets/unet/weights.py).

No pretrained weights exist. The net here is the offline form, written to be read: it is the truth that every export is
compared with. The form for phones, the same weights rewritten, is models/nets/unet/step.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.common.arrays import Arrays
from models.common.errors import UsageError
from models.layers.offline import check_audio, float64_weights, overlap_add, with_weights
from models.nets.unet.step import StepGraph
from models.nets.unet.weights import (
    BINS,
    CHANNELS,
    DILATIONS,
    FRAMES,
    HOP_SAMPLES,
    SOURCES,
    TAPS,
    WINDOW_SAMPLES,
    check,
    decoder_channels,
    encoder_channels,
    width_of,
)

DELAY_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES


class Down(nn.Module):
    """Half as many frequencies; sees the frames now, one dilation ago and two."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.history = (FRAMES - 1) * dilation
        self.conv = nn.Conv2d(inputs, outputs, (FRAMES, TAPS), (1, 2), (0, TAPS // 2), (dilation, 1))
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, inputs, hops, f]. Returns: [1, outputs, hops, (f + 1) / 2]."""
        return torch.relu(self.bn(self.conv(nn.functional.pad(x, (0, 0, self.history, 0)))))


class Up(nn.Module):
    """Twice as many frequencies, less one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, (1, TAPS), (1, 2), (0, TAPS // 2))
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, inputs, hops, f]. Returns: [1, outputs, hops, 2 f - 1]."""
        result: Tensor = self.bn(self.conv(x))
        return result


class Scale(nn.Module):
    """What the decoder gives for a source to its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.output_mean, self.output_scale = nn.Parameter(torch.ones(BINS)), nn.Parameter(torch.ones(BINS))

    def forward(self, x: Tensor) -> Tensor:
        """Args and Returns: [1, 2, hops, 1025]; 0 and more."""
        return torch.relu(x * self.output_scale + self.output_mean)


class UNet(nn.Module):
    """The net over a whole recording, from the zero state.

    Args:
        width: channels of the first layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = encoder_channels(width)
        self.input_mean, self.input_scale = nn.Parameter(torch.zeros(BINS)), nn.Parameter(torch.ones(BINS))
        self.encoder = nn.ModuleList(map(Down, channels[:-1], channels[1:], DILATIONS))
        self.decoder = nn.ModuleList(Up(*pair) for pair in decoder_channels(width))
        self.target_models = nn.ModuleDict({source: Scale() for source in SOURCES})

    def masks(self, magnitude: Tensor) -> Tensor:
        """Args: [1, 2, hops, 1025]. Returns: [sources, 2, hops, 1025]."""
        x, skipped = (magnitude + self.input_mean) * self.input_scale, []
        for down in self.encoder:
            x = down(x)
            skipped.append(x)
        x = skipped.pop()
        for level, up in enumerate(self.decoder):
            x = up(x if level == 0 else torch.cat([torch.relu(x), skipped.pop()], 1))
        parts = zip(self.target_models.values(), x.chunk(len(SOURCES), 1), strict=True)
        return torch.cat([scale(part) for scale, part in parts])

    def forward(self, audio: Tensor) -> Tensor:
        """Separate a recording as the stream would.

        Args:
            audio: [1, 2, n], 44.1 kHz, full scale 1.0; zeros are appended up to the next multiple of 512.

        Returns:
            [1, sources, 2, n rounded up], DELAY_SAMPLES (1536) behind `audio`, in the order of SOURCES.

        Raises:
            AudioError: no audio, or another shape.
        """
        check_audio("unet-separator", audio, CHANNELS)
        padded = nn.functional.pad(audio[0], (DELAY_SAMPLES, -audio.shape[2] % HOP_SAMPLES))
        frames = padded.unfold(1, WINDOW_SAMPLES, HOP_SAMPLES)  # [2, hops, 2048]
        window = torch.hann_window(WINDOW_SAMPLES, dtype=audio.dtype)
        spectrum = torch.fft.rfft(frames * window)  # [2, hops, 1025]
        masked = spectrum * self.masks(spectrum.abs()[None])  # [sources, 2, hops, 1025]
        # Four squared windows overlap, which add up to 1.5 everywhere.
        rows = torch.fft.irfft(masked, n=WINDOW_SAMPLES) * (window / 1.5)
        return overlap_add(rows, HOP_SAMPLES)[None]


def build(weights: Arrays) -> UNet:
    """The offline net, with weights by the names of `weights.expected_shapes`; its width is theirs."""
    kept = check(weights)
    return with_weights(UNet(width_of(kept)), kept, strict=False)


def graph(net: UNet, hops_per_call: int) -> StepGraph:
    """The form that is exported, state in and out: models/nets/unet/step.py."""
    if hops_per_call < 1:
        raise UsageError(f"unet-separator: expected at least 1 hop per call, got {hops_per_call}")
    return StepGraph(float64_weights(net), hops_per_call).eval().requires_grad_(False)
