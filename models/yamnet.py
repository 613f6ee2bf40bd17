"""YAMNet: audio events, 521 AudioSet classes, from a 0.975 s waveform.

Plakal & Ellis, "YAMNet", tensorflow/models research/audioset (2020): MobileNet v1 (Howard et al., arXiv:1704.04861)
on log-mel patches of AudioSet (Gemmeke et al., ICASSP 2017). Written anew for conversion:

- The front end is part of the graph, and its DFT is two matmuls. With E and O the transforms of the even and the odd
  samples (both at the full spectrum's angles), bin k is E + O and bin 256 - k the conjugate of E - O, so 128 bins of
  each give all 256 for half the multiplications of a direct matrix. It is made of slices, matmuls and sums only: a fold
  about the window's middle costs the same but needs a reversal, which splits the delegate's graph and which few
  accelerators have. Bin 0 is not computed: the mel matrix does not read it. Constants are a matmul's right operand.
- TensorFlow's SAME padding: a stride of 2 on an even size pads only right and below.
- Batch normalisation (no gamma, epsilon 1e-4) is folded into the convolutions when the net is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.catalog import YAMNET
from models.errors import AudioError, UsageError, WeightsError
from models.yamnet_weights import BLOCKS, CLASSES, STEM_CHANNELS, check_weights, conv_names, expected_shapes

SAMPLE_RATE_HZ = YAMNET.geometry.sample_rate_hz
WINDOW_SAMPLES = YAMNET.geometry.window_samples
HOP_SAMPLES = YAMNET.geometry.hop_samples

FRAMES = 96  # of a patch
FRAME_SAMPLES = 400  # 25 ms
FRAME_HOP_SAMPLES = 160  # 10 ms
DFT_POINTS = 512
MEL_BANDS = 64
MEL_LOW_HZ, MEL_HIGH_HZ = 125.0, 7500.0
LOG_OFFSET = 0.001
BN_EPSILON = 1e-4

_HALF = DFT_POINTS // 4  # bins that each parity's transform gives: 1 to 128
_BATCH_WINDOWS = 32  # windows that the offline form takes at once: bounds memory on long files


def mel_matrix() -> NDArray[np.float64]:
    """Triangles evenly spaced on the HTK mel scale, peak 1, from DFT magnitudes to bands: [257, 64].

    The triangles are linear in mel (not in Hz), and the bin at 0 Hz is left out, as YAMNet was trained.
    """

    def mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1127.0 * np.log1p(hz / 700.0))

    bins = mel(np.arange(DFT_POINTS // 2 + 1) * SAMPLE_RATE_HZ / DFT_POINTS)
    low, high = mel(np.array([MEL_LOW_HZ, MEL_HIGH_HZ]))
    edges = np.linspace(low, high, MEL_BANDS + 2)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    matrix: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    matrix[0] = 0.0
    return matrix


class LogMel(nn.Module):
    """Waveform to log-mel patch: 96 frames of 25 ms every 10 ms, 64 bands."""

    def __init__(self) -> None:
        super().__init__()
        bins = np.arange(1, _HALF + 1)
        mel = mel_matrix()
        # rows: bins 1 to 128, then 255 to 128; the second 128 gets no weight
        mirrored = np.where((bins < _HALF)[:, None], mel[2 * _HALF - bins], 0.0)
        self.even: Tensor
        self.odd: Tensor
        self.mel: Tensor
        self._constant("even", self._basis(bins, first=0))
        self._constant("odd", self._basis(bins, first=1))
        self._constant("mel", np.concatenate([mel[bins], mirrored]))

    def _constant(self, name: str, value: NDArray[np.float64]) -> None:
        self.register_buffer(name, torch.tensor(value, dtype=torch.float32), persistent=False)

    @staticmethod
    def _basis(bins: NDArray[np.int64], first: int) -> NDArray[np.float64]:
        """Windowed cosines, then sines, of every other sample from `first` on: [200, 256]."""
        samples = np.arange(first, FRAME_SAMPLES, 2)
        window = 0.5 - 0.5 * np.cos(2.0 * np.pi * samples / FRAME_SAMPLES)  # periodic Hann
        angles = 2.0 * np.pi / DFT_POINTS * np.outer(samples, bins)
        return np.asarray(window[:, None] * np.concatenate([np.cos(angles), np.sin(angles)], axis=1))

    @staticmethod
    def _frames(samples: Tensor) -> Tensor:
        """Every other sample [batch, 7800] cut into [batch, 96, 200], a new frame each 80."""
        hop = FRAME_HOP_SAMPLES // 2
        span = FRAMES * hop
        first = samples[:, :span].reshape(-1, FRAMES, hop)
        second = samples[:, hop : hop + span].reshape(-1, FRAMES, hop)
        half = samples[:, hop + hop // 2 :].reshape(-1, FRAMES, hop)[:, :, hop // 2 :]  # ends where the window ends
        return torch.cat([first, second, half], dim=2)

    def forward(self, audio: Tensor) -> Tensor:
        """Log-mel patches.

        Args:
            audio: [batch, 15600], 16 kHz, full scale 1.0.

        Returns:
            [batch, 96, 64], natural log of mel-weighted magnitudes + 0.001.
        """
        parity = audio.reshape(-1, WINDOW_SAMPLES // 2, 2).transpose(1, 2)  # [batch, 2, 7800]
        even = self._frames(parity[:, 0]) @ self.even  # [batch, 96, 256]
        odd = self._frames(parity[:, 1]) @ self.odd
        low, high = even + odd, even - odd
        low, high = low * low, high * high
        power = torch.cat([low[..., :_HALF] + low[..., _HALF:], high[..., :_HALF] + high[..., _HALF:]], dim=2)
        return torch.log(torch.sqrt(power) @ self.mel + LOG_OFFSET)  # [batch, 96, 64]


class Conv(nn.Module):
    """3x3 or 1x1 convolution with folded batch normalisation, SAME padding as in TensorFlow, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        padding = 1 if kernel == 3 and stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
        self.pad_end = stride == 2  # both axes are even wherever the stride is 2

    def set(self, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        """Take over a kernel [outputs, inputs / groups, rows, columns] and its bias [outputs]."""
        self.conv.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})

    def forward(self, x: Tensor) -> Tensor:
        if self.pad_end:
            x = functional.pad(x, (0, 1, 0, 1))
        return functional.relu(self.conv(x))


class MobileNet(nn.Module):
    """Log-mel patch to scores."""

    def __init__(self) -> None:
        super().__init__()
        layers = [Conv(1, STEM_CHANNELS, 3, stride=2)]
        inputs = STEM_CHANNELS
        for outputs, stride in BLOCKS:
            layers += [Conv(inputs, inputs, 3, stride, groups=inputs), Conv(inputs, outputs, 1)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, CLASSES)

    def convolutions(self) -> list[Conv]:
        """In the order of `conv_names`."""
        return [layer for layer in self.layers if isinstance(layer, Conv)]

    def forward(self, log_mel: Tensor) -> Tensor:
        """[batch, 96, 64] to [batch, 521], each 0 to 1."""
        x = self.layers(log_mel.unsqueeze(1))  # [batch, 1024, 3, 2]
        return torch.sigmoid(self.classifier(x.mean(dim=(2, 3))))


class WindowGraph(nn.Module):
    """What is exported: one window in, its scores out."""

    def __init__(self, front_end: LogMel, body: MobileNet) -> None:
        super().__init__()
        self.front_end = front_end
        self.body = body

    def forward(self, audio: Tensor) -> tuple[Tensor]:
        """[1, 15600] to ([1, 521],)."""
        return (self.body(self.front_end(audio)),)


class YAMNet(nn.Module):
    """The offline form: all windows of a recording."""

    def __init__(self) -> None:
        super().__init__()
        self.front_end = LogMel()
        self.body = MobileNet()

    def forward(self, audio: Tensor) -> Tensor:
        """Scores of a window of 15,600 samples every 7,680.

        Samples behind the last whole window make one more, filled up with zeros; a recording that ends with a
        window has none. So n samples give max(0, ceil((n - 15600) / 7680)) + 1 windows, as a stream with a flush.

        Args:
            audio: [1, n >= 1], 16 kHz, full scale 1.0.

        Returns:
            [1, windows, 521], each 0 to 1.

        Raises:
            AudioError: another shape.
        """
        if audio.dim() != 2 or audio.shape[0] != 1 or audio.shape[1] < 1:
            raise AudioError(f"YAMNet takes audio [1, n] with at least 1 sample, got {list(audio.shape)}")
        windows = max(0, math.ceil((audio.shape[1] - WINDOW_SAMPLES) / HOP_SAMPLES)) + 1
        padded = functional.pad(audio, (0, WINDOW_SAMPLES + (windows - 1) * HOP_SAMPLES - audio.shape[1]))
        cut = padded[0].unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)  # [windows, 15600], a view
        scores = [self.body(self.front_end(batch)) for batch in torch.split(cut, _BATCH_WINDOWS)]
        return torch.cat(scores).unsqueeze(0)


def build(weights: Mapping[str, NDArray[np.float32]]) -> YAMNet:
    """The offline net, batch normalisation folded in, in eval mode.

    Args:
        weights: names and shapes of `expected_shapes`, as `models.weights.load("yamnet")` gives them.

    Raises:
        WeightsError: tensors are missing, unknown, of another shape, or not finite.
    """
    check_weights("yamnet", weights, expected_shapes())
    net = YAMNet()
    for name, layer in zip(conv_names(), net.body.convolutions(), strict=True):
        weight, bias, mean, variance = (
            weights[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias", "mean", "variance")
        )
        if (variance < 0).any():
            raise WeightsError(f"yamnet: {name}.variance has negative values; the weights are corrupt")
        scale = 1.0 / np.sqrt(variance + BN_EPSILON)
        layer.set(weight * scale[:, None, None, None], bias - mean * scale)
    net.body.classifier.load_state_dict(
        {part: torch.tensor(weights[f"classifier.{part}"], dtype=torch.float32) for part in ("weight", "bias")}
    )
    net.requires_grad_(False)
    return net.eval()


def graph(net: nn.Module, hops_per_call: int = 1) -> WindowGraph:
    """The exported form: one window a call; the host keeps the overlap.

    Raises:
        UsageError: `hops_per_call` is not 1, or `net` is not a YAMNet.
    """
    if hops_per_call != 1:
        raise UsageError(f"yamnet takes one window a call, got hops_per_call={hops_per_call}")
    if not isinstance(net, YAMNet):
        raise UsageError(f"expected a net of models.yamnet.build, got {type(net).__name__}")
    return WindowGraph(net.front_end, net.body).eval()
