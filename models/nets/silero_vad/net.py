"""Silero VAD, version 6 at 16 kHz: the probability of speech in each 32 ms of a stream, with 0.31 M parameters.

Silero Team, github.com/snakers4/silero-vad (2020 to 2026), MIT. A chunk of 512 samples with the 64 before it and its
own last 64 mirrored behind it; magnitudes of four frames; four convolutions that bring them down to one vector; an
LSTM from chunk to chunk; one score.

`SileroVAD` is the offline form, written to be read. `StepGraph` is the form for phones: the convolutions are matrix
products on rows of neighbouring frames, the last one keeps only its middle tap (the others see padding), and the LSTM
is written out. Tests compare one with the other, and both with the authors' graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from models.common.arrays import Arrays, Float64
from models.common.errors import UsageError
from models.layers.constants import constant_linear
from models.layers.offline import check_audio, float64_weights, with_weights
from models.layers.recurrent import Lstm
from models.nets.silero_vad.weights import (
    BINS,
    CHUNK_SAMPLES,
    CONTEXT_SAMPLES,
    FRAMES,
    MIRRORED_SAMPLES,
    TRANSFORM_HOP,
    TRANSFORM_SAMPLES,
    UNITS,
    check,
)


class SileroVAD(nn.Module):
    """The net over a whole recording, from the zero state."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 2 * BINS, TRANSFORM_SAMPLES, stride=TRANSFORM_HOP, bias=False)
        self.conv1 = nn.Conv1d(BINS, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, UNITS, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(UNITS, UNITS)
        self.final_conv = nn.Conv1d(UNITS, 1, 1)

    def forward(self, audio: Tensor) -> Tensor:
        """Score a recording as the stream would.

        Args:
            audio: [1, n], 16 kHz, full scale 1.0; zeros are appended up to the next multiple of 512.

        Returns:
            probability of speech [1, chunks, 1].

        Raises:
            AudioError: no audio, or another shape.
        """
        check_audio("silero-vad", audio)
        padded = nn.functional.pad(audio, (CONTEXT_SAMPLES, -audio.shape[1] % CHUNK_SAMPLES))
        chunks = padded[0].unfold(0, CONTEXT_SAMPLES + CHUNK_SAMPLES, CHUNK_SAMPLES)  # [chunks, 576]
        chunks = nn.functional.pad(chunks[:, None], (0, MIRRORED_SAMPLES), mode="reflect")  # [chunks, 1, 640]
        real, imag = self.stft_conv(chunks).chunk(2, 1)  # [chunks, 129, 4] each
        x = (real.square() + imag.square()).sqrt()
        x = torch.relu(self.conv1(x))  # [chunks, 128, 4]
        x = torch.relu(self.conv2(x))  # [chunks, 64, 2]
        x = torch.relu(self.conv3(x))  # [chunks, 64, 1]
        x = torch.relu(self.conv4(x))[:, :, 0]  # [chunks, 128]
        hidden, cell = x.new_zeros(1, UNITS), x.new_zeros(1, UNITS)
        rows = []
        for chunk in range(x.shape[0]):
            hidden, cell = self.lstm_cell(x[chunk : chunk + 1], (hidden, cell))
            rows.append(hidden)
        scores = self.final_conv(torch.relu(torch.cat(rows))[:, :, None])  # [chunks, 1, 1]
        return torch.sigmoid(scores[:, :, 0])[None]


class FrontEnd(nn.Module):
    """A chunk to the magnitudes of its four frames."""

    def __init__(self, basis: Float64) -> None:
        """Args: basis [258, 256]: real parts, then imaginary parts."""
        super().__init__()
        self.mirror = constant_linear(np.eye(MIRRORED_SAMPLES)[::-1])
        self.basis = constant_linear(basis)

    def forward(self, audio: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Args: audio [1, 512], context [1, 64]. Returns: magnitudes [4, 129] and the new context."""
        joined = torch.cat([context, audio], 1)  # [1, 576]
        mirrored = self.mirror(joined[:, -MIRRORED_SAMPLES - 1 : -1])  # [1, 64]
        blocks = torch.cat([joined, mirrored], 1).reshape(FRAMES + 1, TRANSFORM_HOP)  # [5, 128]
        spectrum = self.basis(torch.cat([blocks[:-1], blocks[1:]], 1))  # [4, 258]
        real, imag = spectrum[:, :BINS], spectrum[:, BINS:]
        return torch.sqrt(real * real + imag * imag), audio[:, -CONTEXT_SAMPLES:]


class Encoder(nn.Module):
    """Four frames of magnitudes to one vector."""

    def __init__(self, weights: Mapping[str, Float64]) -> None:
        super().__init__()

        def layer(name: str, taps: slice) -> nn.Linear:
            weight = weights[f"{name}.weight"][:, :, taps]  # [outputs, inputs, taps]
            rows = weight.transpose(0, 2, 1).reshape(weight.shape[0], -1)  # neighbours side by side
            return constant_linear(rows, weights[f"{name}.bias"])

        self.conv1, self.conv2 = layer("conv1", slice(0, 3)), layer("conv2", slice(0, 3))
        self.conv3, self.conv4 = layer("conv3", slice(1, 3)), layer("conv4", slice(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Args: [4, 129]. Returns: [1, 128]."""
        x = nn.functional.pad(x, (0, 0, 1, 1))  # [6, 129]
        x = torch.relu(self.conv1(torch.cat([x[0:4], x[1:5], x[2:6]], 1)))  # [4, 128]
        x = nn.functional.pad(x, (0, 0, 1, 1))  # [6, 128]
        first = torch.cat([x[0:1], x[1:2], x[2:3]], 1)  # frames -1, 0, 1
        second = torch.cat([x[2:3], x[3:4], x[4:5]], 1)  # frames 1, 2, 3
        x = torch.relu(self.conv2(torch.cat([first, second])))  # [2, 64]
        x = torch.relu(self.conv3(x.reshape(1, 128)))  # [1, 64]
        return torch.relu(self.conv4(x))  # [1, 128]


class StepGraph(nn.Module):
    """One chunk of Silero VAD; catalogue entry "silero-vad" names its tensors."""

    def __init__(self, weights: Mapping[str, Float64]) -> None:
        """Args: weights: float64, names of `models.nets.silero_vad.weights.SHAPES`."""
        super().__init__()
        self.front_end = FrontEnd(weights["stft_conv.weight"][:, 0])
        self.encoder = Encoder(weights)
        bias = weights["lstm_cell.bias_ih"] + weights["lstm_cell.bias_hh"]
        self.lstm = Lstm(1, weights["lstm_cell.weight_ih"], weights["lstm_cell.weight_hh"], bias)
        self.score = constant_linear(weights["final_conv.weight"][:, :, 0], weights["final_conv.bias"])

    def forward(self, audio: Tensor, context: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
        """One call.

        Args:
            audio: [1, 512], full scale 1.0.
            context: [1, 64], the last samples before `audio`.
            hidden, cell: [1, 128], of the LSTM.

        Returns:
            scores [1, 1], and context, hidden and cell for the next call.
        """
        magnitudes, context = self.front_end(audio, context)
        x, hidden, cell = self.lstm(self.encoder(magnitudes), hidden, cell)
        return torch.sigmoid(self.score(torch.relu(x))), context, hidden, cell


def build(weights: Arrays) -> SileroVAD:
    """The offline net, with weights by the names of `weights.SHAPES`, ready for inference."""
    return with_weights(SileroVAD(), check(weights))


def graph(net: SileroVAD, hops_per_call: int = 1) -> StepGraph:
    """The form that is exported: one chunk a call, state in and out."""
    if hops_per_call != 1:
        raise UsageError(f"silero-vad: takes one chunk of 512 samples per call, got {hops_per_call}")
    return StepGraph(float64_weights(net)).eval().requires_grad_(False)
