"""PANNs: audio events, 527 AudioSet classes, from windows of 2 s at 32 kHz. Cnn14 and MobileNetV1.

Kong et al., "PANNs", IEEE/ACM TASLP 28 (2020), arXiv:1912.10211; MobileNet after Howard et al., arXiv:1704.04861.
Trained on clips of 10 s; both pool over time, so that a shorter window works, less sure of what lasts long. The
published mean average precisions (0.431 and 0.389) are of 10 s and were not measured here, for want of the weights.

- The waveform is folded to [rows, 320] at the input: no axis inside is longer than 2,048, as the Neural Engine wants.
  A frame of 1,024 samples is put together from the ends of four rows; the reflected edges are folded likewise.
- Batch normalisation is folded into the convolutions, and an average pooling that follows a convolution with nothing
  between them (MobileNetV1's strides) into its kernel: 4x4 with stride 2, the same sum.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.common.arrays import Arrays
from models.common.errors import UsageError
from models.layers.convolution import NORM_PARTS, batch_norm
from models.layers.mel import hann, windowed_dft
from models.layers.offline import check_audio, over_windows
from models.nets.panns.entry import PANNS_CNN14
from models.nets.panns.weights import (
    CLASSES,
    CNN14_CHANNELS,
    DFT_POINTS,
    MEL_NAME,
    Kind,
    check,
)
from models.weights.tensors import MOBILENET_BLOCKS

ROW_SAMPLES = 320  # 10 ms, also the hop of the frames
POWER_FLOOR = 1e-10
DECIBELS = 10.0 / math.log(10.0)

_BATCH_WINDOWS = 8  # windows that the offline form takes at once: bounds memory on long files


class LogMel(nn.Module):
    """Waveform to normalised log-mel: frames of 32 ms every 10 ms, reflected at the window's edges, 64 bands in dB.

    Args:
        weights: a checked state_dict.
    """

    def __init__(self, weights: Arrays) -> None:
        super().__init__()
        mel = weights[MEL_NAME]
        bins = np.flatnonzero(mel.any(axis=1))  # 50 to 14,000 Hz: 447 of 513
        real, imaginary = windowed_dft(hann(DFT_POINTS), DFT_POINTS)
        scale, shift = _affine(weights, "bn0")
        self.real: Tensor
        self.imaginary: Tensor
        self.mel: Tensor
        self.scale: Tensor
        self.shift: Tensor
        for name, value in (
            ("real", real[:, bins]),
            ("imaginary", imaginary[:, bins]),
            ("mel", mel[bins]),
            ("scale", scale * DECIBELS),
            ("shift", shift),
        ):
            # In C order: litert-torch 0.10 may take one constant for another when they are not.
            values = torch.tensor(np.ascontiguousarray(value, np.float32))
            self.register_buffer(name, values, persistent=False)

    def frames(self, audio: Tensor) -> Tensor:
        """Frames about every 320th sample, the first about sample 0.

        Args:
            audio: [batch, samples], a multiple of 320.

        Returns:
            [batch, samples / 320 + 1, 1024].
        """
        row, half = ROW_SAMPLES, DFT_POINTS // 2
        rows = audio.reshape(audio.shape[0], -1, row)  # [batch, n, 320]
        count = rows.shape[1] + 1
        free = 2 * row - half  # of two rows, what the reflected half frame leaves empty
        before = rows[:, :2].reshape(-1, 2 * row)[:, 1 : half + 1].flip(1)  # sample -1 is sample 1
        after = rows[:, -2:].reshape(-1, 2 * row)[:, free - 1 : -1].flip(1)  # sample n is sample n - 2
        padded = torch.cat(
            [
                functional.pad(before, (free, 0)).reshape(-1, 2, row),
                rows,
                functional.pad(after, (0, free)).reshape(-1, 2, row),
            ],
            dim=1,
        )  # [batch, n + 4, 320]
        parts = [padded[:, :count, free:], padded[:, 1 : count + 1], padded[:, 2 : count + 2]]
        return torch.cat([*parts, padded[:, 3 : count + 3, : row - free]], dim=2)

    def forward(self, audio: Tensor) -> Tensor:
        """[batch, 64000], 32 kHz, full scale 1.0, to [batch, 201, 64]."""
        frames = self.frames(audio)  # [batch, 201, 1024]
        real, imaginary = frames @ self.real, frames @ self.imaginary  # [batch, 201, 447]
        power = (real * real + imaginary * imaginary) @ self.mel  # [batch, 201, 64]
        return torch.log(torch.clamp_min(power, POWER_FLOOR)) * self.scale + self.shift


def _affine(weights: Arrays, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A batch normalisation as scale and shift, float64."""
    gain, offset, mean, variance = (weights[f"{name}.{part}"].astype(np.float64) for part in NORM_PARTS)
    return batch_norm(gain, offset, mean, variance)


class Conv(nn.Module):
    """A convolution with its batch normalisation, then ReLU; pooled by 2 before that where the net does.

    Args:
        weights: a checked state_dict.
        conv: name of the convolution.
        norm: name of its batch normalisation.
        pooled: whether an average of 2x2 lies between the two.
    """

    def __init__(self, weights: Arrays, conv: str, norm: str, pooled: bool = False) -> None:
        super().__init__()
        scale, shift = _affine(weights, norm)
        kernel = weights[f"{conv}.weight"].astype(np.float64) * scale[:, None, None, None]
        outputs, inputs, size = kernel.shape[:3]
        groups = outputs if inputs == 1 and size == 3 and conv.startswith("features") and conv != "features.0.0" else 1
        if pooled:
            # The mean of four neighbouring sums is one sum over 4x4 samples.
            sums = (np.pad(kernel, ((0, 0), (0, 0), (y, 1 - y), (x, 1 - x))) for y in (0, 1) for x in (0, 1))
            kernel = sum(sums, np.zeros((outputs, inputs, 4, 4))) / 4.0
        self.conv = nn.Conv2d(
            inputs * groups, outputs, kernel.shape[2:], 2 if pooled else 1, 1 if size == 3 else 0, groups=groups
        )
        self.conv.load_state_dict({"weight": torch.from_numpy(kernel), "bias": torch.from_numpy(shift)})

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x))


class Cnn14(nn.Module):
    """Six blocks of two convolutions; all but the last halve time and frequency."""

    def __init__(self, weights: Arrays) -> None:
        super().__init__()
        blocks = [f"conv_block{number}" for number in range(1, len(CNN14_CHANNELS) + 1)]
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Conv(weights, f"{b}.conv{n}", f"{b}.bn{n}") for n in (1, 2))) for b in blocks
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 1, 201, 64] to [batch, 2048, 6, 2]."""
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index < len(self.blocks) - 1:
                x = functional.avg_pool2d(x, 2)
        return x


class MobileNetV1(nn.Module):
    """A stem and 13 depthwise-separable blocks."""

    def __init__(self, weights: Arrays) -> None:
        super().__init__()
        layers = [Conv(weights, "features.0.0", "features.0.2", pooled=True)]
        for number, (_, stride) in enumerate(MOBILENET_BLOCKS, 1):
            block = f"features.{number}"
            layers += [Conv(weights, f"{block}.0", f"{block}.2", pooled=stride == 2)]
            layers += [Conv(weights, f"{block}.4", f"{block}.5")]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 1, 201, 64] to [batch, 1024, 6, 2]."""
        features: Tensor = self.layers(x)
        return features


class WindowGraph(nn.Module):
    """What is exported: one window in, its scores out."""

    def __init__(self, kind: Kind, weights: Arrays) -> None:
        super().__init__()
        self.front_end = LogMel(weights)
        self.body = Cnn14(weights) if kind == "cnn14" else MobileNetV1(weights)
        hidden, features = weights["fc1.weight"].shape
        self.hidden, self.classifier = nn.Linear(features, hidden), nn.Linear(hidden, CLASSES)
        for layer, name in ((self.hidden, "fc1"), (self.classifier, "fc_audioset")):
            parts = {part: torch.tensor(weights[f"{name}.{part}"], dtype=torch.float32) for part in ("weight", "bias")}
            layer.load_state_dict(parts)
        self.sigmoid = nn.Sigmoid()  # a module, so that fp32_modules can name it

    def forward(self, audio: Tensor) -> tuple[Tensor]:
        """[batch, 64000] to ([batch, 527],), each 0 to 1."""
        x = self.body(self.front_end(audio).unsqueeze(1))  # [batch, channels, 6, 2]
        x = x.mean(dim=3)  # over frequency
        x = x.amax(dim=2) + x.mean(dim=2)  # over time: the loudest moment and the whole
        x = functional.relu(self.hidden(x))
        return (self.sigmoid(self.classifier(x)),)


class PANNs(nn.Module):
    """The offline form: all windows of a recording."""

    def __init__(self, kind: Kind, weights: Arrays) -> None:
        super().__init__()
        self.window = WindowGraph(kind, weights)

    def forward(self, audio: Tensor) -> Tensor:
        """Scores of a window of 64,000 samples every 32,000; the last one filled up with zeros, as a flushed stream.

        Args:
            audio: [1, n >= 1], 32 kHz, full scale 1.0.

        Returns:
            [1, windows, 527], each 0 to 1.

        Raises:
            AudioError: another shape.
        """
        check_audio("panns", audio)
        return over_windows(audio, PANNS_CNN14.geometry, _BATCH_WINDOWS, lambda windows: self.window(windows)[0])


def _build(kind: Kind, weights: Arrays) -> PANNs:
    return PANNs(kind, check(kind, weights)).requires_grad_(False).eval()


def build_cnn14(weights: Arrays) -> PANNs:
    """The offline net, with a state_dict in the authors' layout."""
    return _build("cnn14", weights)


def build_mobilenetv1(weights: Arrays) -> PANNs:
    """As `build_cnn14`, for MobileNetV1."""
    return _build("mobilenetv1", weights)


def graph(net: nn.Module, hops_per_call: int = 1) -> WindowGraph:
    """The exported form: one window a call; the host keeps the overlap."""
    if hops_per_call != 1:
        raise UsageError(f"PANNs take one window a call, got hops_per_call={hops_per_call}")
    if not isinstance(net, PANNs):
        raise UsageError(f"expected a net of models.nets.panns.net, got {type(net).__name__}")
    return net.window.eval()
