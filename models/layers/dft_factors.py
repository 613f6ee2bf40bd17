"""Constants of models/layers/dft.py, in float64. Light: numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.common.arrays import Float64


def roots(rows: NDArray[np.int64], columns: NDArray[np.int64], size: int) -> NDArray[np.complex128]:
    """exp(-2 pi i row column / size), [rows, columns]."""
    return np.asarray(np.exp(-2j * np.pi * (np.outer(rows, columns) % size) / size))


def sizes(points: int) -> tuple[int, int]:
    """`outer` and an even `inner`, with points = outer * inner, that need the fewest multiplications.

    Raises:
        ValueError: `points` is odd.
    """
    if points % 2:
        raise ValueError(f"expected an even number of points, got {points}")
    outers = [n for n in range(1, points // 2 + 1) if points % (2 * n) == 0]
    outer = min(outers, key=lambda n: 2 * n + points // n)  # 2 N (2 outer + inner) and what all sizes need
    return outer, points // outer


def constants(outer: int, inner: int) -> int:
    """How many a `RealDft` of these sizes has."""
    return 4 * outer * outer + 2 * inner * (inner + 2) + 5 * outer * inner


def factors(outer: int, inner: int) -> tuple[Float64, NDArray[np.complex128], Float64]:
    """The DFT over `outer`, the twiddle factors, and half of the DFT over `inner`."""
    first = roots(np.arange(outer), np.arange(outer), outer)
    twiddle = roots(np.arange(inner), np.arange(outer), outer * inner)
    second = roots(np.arange(inner // 2 + 1), np.arange(inner), inner)
    # Real, imaginary, and the same times i: real, imaginary; the second one is of [real | imaginary].
    stacked = np.concatenate([first.real, first.imag, -first.imag, first.real])
    return stacked, twiddle, np.block([[second.real, -second.imag], [second.imag, second.real]])
