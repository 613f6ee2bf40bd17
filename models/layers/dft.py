"""A real DFT and its inverse as small matrix products, for graphs that run on phones: no complex type, few constants.

A size N = outer * inner (Cooley and Tukey): a DFT over `outer`, twiddle factors, a DFT over `inner`. With
sample n = inner n1 + n2 and bin k = k1 + outer k2:

    X[k] = sum_n2 W_N^(n2 k1) W_inner^(n2 k2) sum_n1 W_outer^(n1 k1) x[n],   W_M = exp(-2 pi i / M)

For 512 = 16 * 32: 68 k multiplications and 4 k constants a frame, instead of 263 k of each. Bins come out in their
natural order. The inverse is the transpose of the same matrices: for real signals x = (A^T c) X / N, where A gives real
and imaginary parts, and c counts a bin twice unless it is its own mirror.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.common.arrays import Float64
from models.layers.constants import constant_buffer, constant_linear
from models.layers.dft_factors import factors


class RealDft(nn.Module):
    """Windowed frames to real and imaginary parts."""

    window: Tensor
    twiddle_straight: Tensor
    twiddle_turned: Tensor

    def __init__(self, frames: int, window: Float64, outer: int, inner: int) -> None:
        """Args: frames: how many; window: [outer * inner], anything linear may be in it; inner: even."""
        super().__init__()
        self.frames, self.outer, self.inner, self.steps = frames, outer, inner, inner // 2 + 1
        first, twiddle, second = factors(outer, inner)
        self.first = constant_linear(first)
        self.second = constant_linear(second)
        self.register_buffer("window", constant_buffer(window.reshape(outer, inner)))
        self.register_buffer("twiddle_straight", constant_buffer(np.tile(twiddle.real, 2)))
        self.register_buffer("twiddle_turned", constant_buffer(np.tile(twiddle.imag, 2)))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Args: frames [frames, N]. Returns: real and imaginary part, each [frames, N / 2 + 1]."""
        n, outer, inner, steps = self.frames, self.outer, self.inner, self.steps
        x = frames.reshape(n, outer, inner) * self.window
        x = self.first(x.transpose(1, 2))  # [n, inner, 4 outer]
        x = x[..., : 2 * outer] * self.twiddle_straight + x[..., 2 * outer :] * self.twiddle_turned
        x = x.reshape(n, inner, 2, outer).permute(0, 3, 2, 1).reshape(n, outer, 2 * inner)
        x = self.second(x).transpose(1, 2)  # [n, 2 steps, outer]
        bins = outer * inner // 2 + 1
        real = x[:, :steps].reshape(n, steps * outer)[:, :bins]
        imag = x[:, steps:].reshape(n, steps * outer)[:, :bins]
        return real, imag


class InverseRealDft(nn.Module):
    """Real and imaginary parts to windowed frames."""

    window: Tensor
    twiddle_straight: Tensor
    twiddle_turned: Tensor
    counted: Tensor

    def __init__(self, frames: int, window: Float64, outer: int, inner: int) -> None:
        """Args: frames: how many; window: [outer * inner], anything linear may be in it; inner: even."""
        super().__init__()
        self.frames, self.outer, self.inner, self.steps = frames, outer, inner, inner // 2 + 1
        size = outer * inner
        first, twiddle, second = factors(outer, inner)
        self.second = constant_linear(second.T)
        self.first = constant_linear(first.T)
        self.register_buffer("window", constant_buffer(window.reshape(outer, inner)))
        self.register_buffer("twiddle_straight", constant_buffer(np.tile(twiddle.real, 2)))
        self.register_buffer("twiddle_turned", constant_buffer(np.tile(twiddle.imag, 2)))
        counted = np.full(size // 2 + 1, 2.0 / size)
        counted[[0, -1]] = 1.0 / size
        self.register_buffer("counted", constant_buffer(counted))

    def forward(self, real: Tensor, imag: Tensor) -> Tensor:
        """Args: each [frames, N / 2 + 1]. Returns: frames [frames, N]."""
        return self._join([self._rows(part * self.counted) for part in (real, imag)])

    def _rows(self, counted: Tensor) -> Tensor:
        """A part [frames, N / 2 + 1] as [frames, steps, outer]."""
        missing = self.steps * self.outer - (self.outer * self.inner // 2 + 1)
        return nn.functional.pad(counted, (0, missing)).reshape(self.frames, self.steps, self.outer)

    def _join(self, rows: list[Tensor]) -> Tensor:
        """Both parts to frames [frames, N]."""
        n, outer, inner = self.frames, self.outer, self.inner
        x = self.second(torch.cat(rows, 1).transpose(1, 2))  # [n, outer, 2 inner]
        x = x.reshape(n, outer, 2, inner).permute(0, 3, 2, 1).reshape(n, inner, 2 * outer)
        x = self.first(torch.cat([x * self.twiddle_straight, x * self.twiddle_turned], -1))  # [n, inner, outer]
        result: Tensor = (x.transpose(1, 2) * self.window).reshape(n, outer * inner)
        return result
