"""A short-time Fourier transform and its inverse to train with, which stream as they stand.

Causal: frame t ends with hop t, the n_fft samples that it covers reach back from there, zeros stand in front of the
recording. Frames are cut by reshapes and slices, the DFT is factored (models/layers/dft.py), frames are put together
hop by hop. Neither has parameters, nor anything in a state_dict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.common.arrays import Float64
from models.common.errors import UsageError
from models.layers.dft import InverseRealDft, RealDft
from models.layers.dft_factors import sizes
from models.layers.front_end_spec import WINDOWS
from models.layers.mel import window_shape

Window = str | Sequence[float] | Tensor
_LEAST_OVERLAP = 1e-6  # of the largest: below, a synthesis window would amplify rounding


def _analysis(n_fft: int, hop: int, window: Any) -> Float64:
    """The window as [n_fft], all arguments checked."""
    if not isinstance(n_fft, int) or n_fft < 2 or n_fft % 2:
        raise UsageError(f"n_fft: expected an even number of at least 2, got {n_fft!r}")
    if not isinstance(hop, int) or not 1 <= hop <= n_fft:
        raise UsageError(f"hop: expected 1 to n_fft = {n_fft} samples, got {hop!r}")
    if isinstance(window, str):
        if window.removeprefix("sqrt_") not in WINDOWS:
            raise UsageError(f"window: expected one of {', '.join(WINDOWS)}, or sqrt_ and one of them, got {window!r}")
        shape = window_shape(window.removeprefix("sqrt_"), n_fft)
        return np.sqrt(shape.clip(0.0)) if window.startswith("sqrt_") else shape
    values = window.detach().cpu().numpy() if isinstance(window, Tensor) else window
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as exc:
        raise UsageError(f"window: expected a name or {n_fft} numbers, got {window!r:.60}") from exc
    if array.shape != (n_fft,) or not np.isfinite(array).all():
        raise UsageError(f"window: expected {n_fft} finite numbers, one a point of n_fft, got {list(array.shape)}")
    return array


def _synthesis(window: Float64, hop: int) -> Float64:
    """The window behind the inverse: with it, frames a hop apart add up to the signal."""
    padded = np.pad(window, (0, -len(window) % hop)).reshape(-1, hop)
    overlap = (padded * padded).sum(0)  # of the squares, at each sample of a hop
    if overlap.min() <= _LEAST_OVERLAP * overlap.max():
        raise UsageError(
            f"a hop of {hop} leaves samples that no window covers: no inverse; shorten hop, or take another window"
        )
    return np.asarray((padded / overlap).reshape(-1)[: len(window)])


def _constant(module: nn.Module) -> nn.Module:
    """The same, its tensors neither parameters nor in a state_dict."""
    for part in module.modules():
        for name, value in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            delattr(part, name)
            part.register_buffer(name, value.detach(), persistent=False)
    return module


class _Inverse(InverseRealDft):
    """With one use of each constant: what torch.fx makes of two, Core ML's converter refuses."""

    def forward(self, real: Tensor, imag: Tensor) -> Tensor:
        """Args: each [frames, N / 2 + 1]. Returns: frames [frames, N]."""
        both = torch.stack([real, imag]) * self.counted
        return self._join([self._rows(both[0]), self._rows(both[1])])


class STFT(nn.Module):
    """Audio to the real and imaginary parts of its spectrum, a frame each hop.

    Args:
        n_fft: points of the DFT, samples of a frame; even.
        hop: samples between frames, 1 to n_fft.
        window: a name ("hann", "hamming", "blackman", "povey", "rectangular", all periodic; with "sqrt_" in front its
            square root), or n_fft numbers.

    Raises:
        UsageError: an argument is none of these.

    Frame t is what `torch.stft(..., center=False)` gives for the samples (t + 1) hop - n_fft to (t + 1) hop.
    """

    def __init__(self, n_fft: int, hop: int, window: Window = "hann") -> None:
        super().__init__()
        shape = _analysis(n_fft, hop, window)
        self.n_fft, self.hop, self.bins, self.parts = n_fft, hop, n_fft // 2 + 1, math.ceil(n_fft / hop)
        self.dft = _constant(RealDft(-1, shape, *sizes(n_fft)))

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """audio [batch, n] to real and imaginary parts, each [batch, n // hop, n_fft / 2 + 1]."""
        hop, parts = self.hop, self.parts
        rows = audio[:, : audio.shape[1] // hop * hop].reshape(audio.shape[0], -1, hop)
        if parts > 1:
            rows = functional.pad(rows, (0, 0, parts - 1, 0))  # in front of the recording
            columns = [rows[:, part : part - parts + 1 or None] for part in range(parts)]
            rows = torch.cat(columns, 2)  # [batch, frames, parts hop]
        frames = rows[:, :, parts * hop - self.n_fft :].reshape(-1, self.n_fft)
        real, imaginary = self.dft(frames)
        return (
            real.reshape(audio.shape[0], -1, self.bins),
            imaginary.reshape(audio.shape[0], -1, self.bins),
        )


class ISTFT(nn.Module):
    """Real and imaginary parts, as STFT gives them, to audio, n_fft - hop samples later.

    Args:
        n_fft, hop, window: those of the STFT. The window behind the inverse is the one with which both together change
            nothing: w[n] / sum over k of w[n + k hop] ** 2.

    Raises:
        UsageError: an argument is none of these, or the windows leave samples uncovered.
    """

    def __init__(self, n_fft: int, hop: int, window: Window = "hann") -> None:
        super().__init__()
        shape = _synthesis(_analysis(n_fft, hop, window), hop)
        self.n_fft, self.hop, self.bins, self.parts = n_fft, hop, n_fft // 2 + 1, math.ceil(n_fft / hop)
        self.dft = _constant(_Inverse(-1, shape, *sizes(n_fft)))

    @property
    def delay_samples(self) -> int:
        """How far the output lags behind what went into the STFT: n_fft - hop."""
        return self.n_fft - self.hop

    def forward(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Parts [batch, frames, n_fft / 2 + 1] to audio [batch, frames hop]."""
        hop, parts, batch = self.hop, self.parts, real.shape[0]
        frames = self.dft(real.reshape(-1, self.bins), imaginary.reshape(-1, self.bins))
        if parts * hop > self.n_fft:
            frames = functional.pad(frames, (0, parts * hop - self.n_fft))
        frames = frames.reshape(batch, -1, parts * hop)
        total = frames[:, :, (parts - 1) * hop :]  # [batch, frames, hop]
        for part in reversed(range(parts - 1)):  # a hop later, the part before is added
            total = functional.pad(total, (0, 0, 1, 0))[:, :-1] + frames[:, :, part * hop : (part + 1) * hop]
        audio: Tensor = total.reshape(batch, -1)
        return audio
