"""YAMNet: audio events, 521 AudioSet classes, from a 0.975 s waveform.

Plakal & Ellis, "YAMNet", tensorflow/models research/audioset (2020): MobileNet v1 (Howard et al., arXiv:1704.04861)
on log-mel patches of AudioSet (Gemmeke et al., ICASSP 2017). Written anew for conversion:

- The front end is part of the graph. Its windowed DFT is one matrix on frames that are cut by slices and reshapes, for
  the 235 bins of 257 that the mel matrix reads. Constants are a matmul's right operand. Folding the matrix halves its
  work (4 % of a call) and was measured and left: about the window's middle it needs a reversal, which XNNPACK does not
  take; by even and odd samples it cancels large numbers (a full-scale tone: 72 dB of log-mel against 89 dB direct).
- TensorFlow's SAME padding: a stride of 2 on an even size pads only right and below.
- Batch normalisation (no gamma, epsilon 1e-4) is folded into the convolutions when the net is built.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.common.arrays import Arrays
from models.common.errors import UsageError
from models.layers.convolution import batch_norm
from models.layers.mel import hann, triangles
from models.layers.offline import check_audio, over_windows
from models.nets.yamnet.entry import YAMNET
from models.nets.yamnet.weights import CLASSES, check, conv_names
from models.weights.tensors import MOBILENET_BLOCKS, MOBILENET_STEM

SAMPLE_RATE_HZ = YAMNET.geometry.sample_rate_hz

FRAMES = 96  # of a patch
FRAME_SAMPLES = 400  # 25 ms
FRAME_HOP_SAMPLES = 160  # 10 ms
DFT_POINTS = 512
MEL_BANDS = 64
MEL_LOW_HZ, MEL_HIGH_HZ = 125.0, 7500.0
LOG_OFFSET = 0.001
BN_EPSILON = 1e-4

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
    matrix = triangles(bins, edges)
    matrix[0] = 0.0
    return matrix


class LogMel(nn.Module):
    """Waveform to log-mel patch: 96 frames of 25 ms every 10 ms, 64 bands."""

    def __init__(self) -> None:
        super().__init__()
        mel = mel_matrix()
        bins = np.flatnonzero(mel.any(axis=1))
        window = hann(FRAME_SAMPLES)
        angles = 2.0 * np.pi / DFT_POINTS * np.outer(np.arange(FRAME_SAMPLES), bins)
        self.cosine: Tensor
        self.sine: Tensor
        self.mel: Tensor
        for name, value in (
            ("cosine", window[:, None] * np.cos(angles)),
            ("sine", window[:, None] * np.sin(angles)),
            ("mel", mel[bins]),
        ):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Log-mel patches.

        Args:
            audio: [batch, 15600], 16 kHz, full scale 1.0.

        Returns:
            [batch, 96, 64], natural log of mel-weighted magnitudes + 0.001.
        """
        hop, span = FRAME_HOP_SAMPLES, FRAMES * FRAME_HOP_SAMPLES
        first = audio[:, :span].reshape(-1, FRAMES, hop)
        second = audio[:, hop : hop + span].reshape(-1, FRAMES, hop)
        half = audio[:, hop + hop // 2 :].reshape(-1, FRAMES, hop)[:, :, hop // 2 :]  # ends where the window ends
        frames = torch.cat([first, second, half], dim=2)  # [batch, 96, 400]
        real, imaginary = frames @ self.cosine, frames @ self.sine  # [batch, 96, 235]
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        return torch.log(magnitude @ self.mel + LOG_OFFSET)  # [batch, 96, 64]


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
        layers = [Conv(1, MOBILENET_STEM, 3, stride=2)]
        inputs = MOBILENET_STEM
        for outputs, stride in MOBILENET_BLOCKS:
            layers += [Conv(inputs, inputs, 3, stride, groups=inputs), Conv(inputs, outputs, 1)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, CLASSES)
        self.sigmoid = nn.Sigmoid()  # a module, so that fp32_modules can name it: in half, scores below 6e-8 are 0

    def convolutions(self) -> list[Conv]:
        """In the order of `conv_names`."""
        return [layer for layer in self.layers if isinstance(layer, Conv)]

    def forward(self, log_mel: Tensor) -> Tensor:
        """[batch, 96, 64] to [batch, 521], each 0 to 1."""
        x = self.layers(log_mel.unsqueeze(1))  # [batch, 1024, 3, 2]
        scores: Tensor = self.sigmoid(self.classifier(x.mean(dim=(2, 3))))
        return scores


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
        """Scores of a window of 15,600 samples every 7,680 (`over_windows`).

        Args:
            audio: [1, n >= 1], 16 kHz, full scale 1.0.

        Returns:
            [1, windows, 521], each 0 to 1.

        Raises:
            AudioError: another shape.
        """
        check_audio("yamnet", audio)
        return over_windows(audio, YAMNET.geometry, _BATCH_WINDOWS, lambda windows: self.body(self.front_end(windows)))


def build(weights: Arrays) -> YAMNet:
    """The offline net, with weights by the names of `weights.expected_shapes`, batch normalisation folded in."""
    weights = check(weights)
    net = YAMNet()
    for name, layer in zip(conv_names(), net.body.convolutions(), strict=True):
        weight, bias, mean, variance = (
            weights[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias", "mean", "variance")
        )
        scale, shift = batch_norm(1.0, bias, mean, variance, BN_EPSILON)
        layer.set(weight * scale[:, None, None, None], shift)
    net.body.classifier.load_state_dict(
        {part: torch.tensor(weights[f"classifier.{part}"], dtype=torch.float32) for part in ("weight", "bias")}
    )
    net.requires_grad_(False)
    return net.eval()


def graph(net: nn.Module, hops_per_call: int = 1) -> WindowGraph:
    """The exported form: one window a call; the host keeps the overlap."""
    if hops_per_call != 1:
        raise UsageError(f"yamnet takes one window a call, got hops_per_call={hops_per_call}")
    if not isinstance(net, YAMNet):
        raise UsageError(f"expected a net of models.nets.yamnet.net.build, got {type(net).__name__}")
    return WindowGraph(net.front_end, net.body).eval()
