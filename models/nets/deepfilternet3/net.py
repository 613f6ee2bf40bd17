"""DeepFilterNet3: speech enhancement at 48 kHz with 2.1 M parameters, 10 ms per hop, 30 ms behind.

Schröter et al., "DeepFilterNet: Perceptually Motivated Real-Time Speech Enhancement", Interspeech 2023,
arXiv:2305.08227. Two stages on one spectrum (960 samples every 480): gains in 32 ERB bands for what lies above 4.8 kHz,
and a complex filter of five frames for each of the 96 bins below. An encoder sees band levels and the low spectrum,
each against its running mean; the decoders see two frames more than the one they are for.

The net here is the offline form, written to be read: it is the truth that every export is compared with. The form for
phones, the same weights rewritten, is models/nets/deepfilternet3/step.py. The authors' own runtime besides stops
computing after six frames below -70 dBFS and gives zeros; the net does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.common.arrays import Arrays
from models.common.errors import UsageError
from models.layers.offline import check_audio, float64_weights, overlap_add, with_weights
from models.nets.deepfilternet3.step import StepGraph
from models.nets.deepfilternet3.weights import (
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
    WINDOW_SAMPLES,
    band_matrix,
    check,
    first_means,
    vorbis_window,
)

DELAY_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES + LOOKAHEAD * HOP_SAMPLES
SMALLEST_MEAN = 1e-12


class GroupedLinear(nn.Module):
    """Each group of inputs has outputs of its own."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.groups, self.inputs = groups, inputs
        self.weight = nn.Parameter(torch.zeros(groups, inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Args: [hops, groups * inputs]. Returns: [hops, groups * outputs]."""
        return torch.einsum("tgi,gio->tgo", x.reshape(-1, self.groups, self.inputs), self.weight).flatten(1)


class Separable(nn.Module):
    """A convolution of each channel, or of each half of the channels, then a 1x1; [1, c, hops, f]."""

    def __init__(self, depth: nn.Module, channels: int = CHANNELS) -> None:
        super().__init__()
        self.depth = depth
        self.point = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.point(self.depth(x)))


def _along(stride: int) -> nn.Module:
    return nn.Conv2d(CHANNELS, CHANNELS, (1, 3), (1, stride), (0, 1), groups=CHANNELS, bias=False)


def _up() -> nn.Module:
    return nn.ConvTranspose2d(CHANNELS, CHANNELS, (1, 3), (1, 2), (0, 1), (0, 1), groups=CHANNELS, bias=False)


def _before(x: Tensor, frames: int) -> Tensor:
    """Zeros before the stream, on the axis of hops of [1, c, hops, f]."""
    return nn.functional.pad(x, (0, 0, frames, 0))


class Encoder(nn.Module):
    """Band levels and low spectrum to an embedding; what the convolutions gave is needed again."""

    def __init__(self) -> None:
        super().__init__()
        self.erb0 = nn.Conv2d(1, CHANNELS, 3, padding=(0, 1))
        self.erb1, self.erb2, self.erb3 = (Separable(_along(stride)) for stride in (2, 2, 1))
        self.df0 = Separable(nn.Conv2d(2, CHANNELS, 3, padding=(0, 1), groups=2, bias=False))
        self.df1 = Separable(_along(2))
        self.df_in = GroupedLinear(32, 96, 16)
        self.squeeze, self.widen = GroupedLinear(16, 32, 16), GroupedLinear(16, 16, 32)
        self.gru = nn.GRU(UNITS, UNITS)

    def forward(self, levels: Tensor, low: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Args: levels [1, 1, hops, 32], low [1, 2, hops, 96].

        Returns:
            four of [1, 64, hops, 32 | 16 | 8 | 8], the low path [1, 64, hops, 96], the embedding [hops, 512].
        """
        steps = [torch.relu(self.erb0(_before(levels, 2)))]
        for layer in (self.erb1, self.erb2, self.erb3):
            steps.append(layer(steps[-1]))
        path = self.df0(_before(low, 2))  # [1, 64, hops, 96]
        rows = self.df1(path)[0].permute(1, 2, 0).flatten(1)  # [hops, 48 * 64]
        joined = steps[-1][0].permute(1, 2, 0).flatten(1) + torch.relu(self.df_in(rows))  # [hops, 512]
        hidden, _ = self.gru(torch.relu(self.squeeze(joined)))
        return steps, path, torch.relu(self.widen(hidden))


class ErbDecoder(nn.Module):
    """Embedding to gains of the bands."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.widen = GroupedLinear(16, 32, 16), GroupedLinear(16, 16, 32)
        self.gru = nn.GRU(UNITS, UNITS, num_layers=2)
        self.skip0, self.skip1, self.skip2, self.skip3 = (
            nn.Conv2d(CHANNELS, CHANNELS, 1, groups=CHANNELS) for _ in range(4)
        )
        self.up3, self.up2, self.up1 = Separable(_along(1)), Separable(_up()), Separable(_up())
        self.out = nn.Conv2d(CHANNELS, 1, (1, 3), padding=(0, 1))

    def forward(self, embedding: Tensor, steps: list[Tensor]) -> Tensor:
        """Args: embedding [hops, 512] and the encoder's steps. Returns: gains [hops, 32], 0 to 1."""
        hidden, _ = self.gru(torch.relu(self.squeeze(embedding)))
        wide = torch.relu(self.widen(hidden)).reshape(-1, EMBEDDING // CHANNELS, CHANNELS)  # [hops, 8, 64]
        x = wide.permute(2, 0, 1)[None]  # [1, 64, hops, 8]
        x = self.up3(torch.relu(self.skip3(steps[3])) + x)
        x = self.up2(torch.relu(self.skip2(steps[2])) + x)  # [1, 64, hops, 16]
        x = self.up1(torch.relu(self.skip1(steps[1])) + x)  # [1, 64, hops, 32]
        return torch.sigmoid(self.out(torch.relu(self.skip0(steps[0])) + x))[0, 0]


class Path(nn.Module):
    """The low path of the encoder over five frames, for the filter's coefficients."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Conv2d(CHANNELS, 2 * ORDER, (5, 1), groups=2, bias=False)
        self.point = nn.Conv2d(2 * ORDER, 2 * ORDER, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, 64, hops, 96]. Returns: [hops, 96, 10]."""
        return torch.relu(self.point(self.depth(_before(x, 4))))[0].permute(1, 2, 0)


class DfDecoder(nn.Module):
    """Embedding to the coefficients of the deep filter."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.skip = GroupedLinear(8, 64, 32), GroupedLinear(16, 32, 16)
        self.gru = nn.GRU(UNITS, UNITS, num_layers=2)
        self.out = GroupedLinear(16, 16, 60)
        self.path = Path()

    def forward(self, embedding: Tensor, path: Tensor) -> Tensor:
        """Args: embedding [hops, 512], path [1, 64, hops, 96]. Returns: complex [hops, 96, 5], oldest frame first."""
        hidden, _ = self.gru(torch.relu(self.squeeze(embedding)))
        c = torch.tanh(self.out(hidden + self.skip(embedding))).reshape(-1, FILTERED, 2 * ORDER)
        pairs = (c + self.path(path)).reshape(-1, FILTERED, ORDER, 2)
        return torch.complex(pairs[..., 0], pairs[..., 1])


class DeepFilterNet3(nn.Module):
    """The net over a whole recording, from the first state."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.erb_decoder, self.df_decoder = Encoder(), ErbDecoder(), DfDecoder()
        window, bands = torch.from_numpy(vorbis_window()).float(), torch.from_numpy(band_matrix()).float()
        levels, magnitudes = (torch.from_numpy(value).float() for value in first_means())
        for name, value in (("window", window), ("bands", bands), ("levels", levels), ("magnitudes", magnitudes)):
            self.register_buffer(name, value, persistent=False)

    window: Tensor
    bands: Tensor
    levels: Tensor
    magnitudes: Tensor

    def features(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """Args: complex [hops, 481]. Returns: levels [1, 1, hops, 32] and the low spectrum [1, 2, hops, 96]."""
        power = spectrum.real.square() + spectrum.imag.square()
        decibels = 10.0 * torch.log10(power @ (self.bands / self.bands.sum(1, keepdim=True)).T + 1e-10)
        magnitudes = power[:, :FILTERED].sqrt()
        level, magnitude = self.levels, self.magnitudes
        levels, means = [], []
        for hop in range(spectrum.shape[0]):
            level = MEMORY * level + (1.0 - MEMORY) * decibels[hop]
            magnitude = torch.clamp(MEMORY * magnitude + (1.0 - MEMORY) * magnitudes[hop], min=SMALLEST_MEAN)
            levels.append(level)
            means.append(magnitude)
        low = spectrum[:, :FILTERED] / torch.stack(means).sqrt()
        return ((decibels - torch.stack(levels)) / 40.0)[None, None], torch.stack([low.real, low.imag])[None]

    def forward(self, audio: Tensor) -> Tensor:
        """Enhance a recording as the stream would.

        Args:
            audio: [1, n], 48 kHz, full scale 1.0; zeros are appended up to the next multiple of 480.

        Returns:
            enhanced [1, n rounded up to 480], DELAY_SAMPLES (1440) behind `audio`, as the stream has it: to get
            the last of n samples, append 1440 zeros.

        Raises:
            AudioError: no audio, or another shape.
        """
        check_audio("deepfilternet3", audio)
        padded = nn.functional.pad(audio, (HOP_SAMPLES, -audio.shape[1] % HOP_SAMPLES))
        frames = padded[0].unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)  # [hops, 960]
        spectrum = torch.fft.rfft(frames * self.window) * SPECTRUM_SCALE  # [hops, 481]
        steps, path, embedding = self.encoder(*self.features(spectrum))
        gains = self.erb_decoder(embedding, steps) @ self.bands  # [hops, 481]
        filters = self.df_decoder(embedding, path)  # [hops, 96, 5]
        hops = spectrum.shape[0]
        earlier = torch.cat([spectrum.new_zeros(ORDER - 1, BINS), spectrum])  # [4 + hops, 481]
        high = earlier[ORDER - 1 - LOOKAHEAD : ORDER - 1 - LOOKAHEAD + hops, FILTERED:] * gains[:, FILTERED:]
        low = torch.stack([earlier[n : n + hops, :FILTERED] for n in range(ORDER)], 2)  # [hops, 96, 5]
        enhanced = torch.cat([(low * filters).sum(2), high], 1) / SPECTRUM_SCALE
        cleaned = torch.fft.irfft(enhanced, n=WINDOW_SAMPLES) * self.window  # [hops, 960]
        return overlap_add(cleaned, HOP_SAMPLES)[None]


def build(weights: Arrays) -> DeepFilterNet3:
    """The offline net, with weights by the names of `weights.SHAPES`, ready for inference."""
    return with_weights(DeepFilterNet3(), check(weights))


def graph(net: DeepFilterNet3, hops_per_call: int) -> StepGraph:
    """The form that is exported, state in and out: models/nets/deepfilternet3/step.py."""
    if hops_per_call != 1:
        raise UsageError(f"deepfilternet3: takes one hop of 480 samples per call, got {hops_per_call}")
    return StepGraph(float64_weights(net)).eval().requires_grad_(False)
