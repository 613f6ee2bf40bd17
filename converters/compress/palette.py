"""Palettes: the few values that stand for many, by k-means in one dimension. The same values give the same palette.

coremltools has k-means too, by scikit-learn: minutes for YAMNet at 8 bits. Sorted values and running sums do it in
seconds, because a cluster in one dimension is a stretch of the sorted values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDS = 60


def palette(values: NDArray[Any], bits: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """A palette of at most 2**bits values, and the nearest of them for every weight.

    Args:
        values: weights of any shape, finite.
        bits: 1 to 8.

    Returns:
        (table [2**bits] in the type of `values`, ascending; indices uint8 [n], flat).
    """
    flat = np.asarray(values, np.float64).reshape(-1)
    distinct, counts = np.unique(flat, return_counts=True)
    size = 2**bits
    if distinct.size <= size:
        table = np.concatenate([distinct, np.full(size - distinct.size, distinct[-1])])
    else:
        table = _lloyd(distinct, counts.astype(np.float64), size)
    table = table.astype(values.dtype)
    return table, nearest(flat, table.astype(np.float64))


def nearest(flat: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Index of the nearest value of an ascending table, for each of `flat`."""
    return np.searchsorted((table[1:] + table[:-1]) / 2.0, flat).astype(np.uint8)


def _lloyd(values: NDArray[np.float64], counts: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Lloyd's rounds from a start that spaces centres as the cube root of the density asks (Panter and Dite, 1951)."""
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * values)])
    centres = _start(values, counts, size)
    for _ in range(ROUNDS):
        edges = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2.0)
        cuts = np.concatenate([[0], edges, [values.size]])
        mass = np.diff(weight[cuts])
        means = np.divide(np.diff(moment[cuts]), mass, out=centres.copy(), where=mass > 0.0)
        if np.array_equal(means, centres):
            break
        centres = means
    return np.sort(centres)


def _start(values: NDArray[np.float64], counts: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    bins = np.linspace(values[0], values[-1], 8 * size + 1)
    density, _ = np.histogram(values, bins, weights=counts)
    share = np.concatenate([[0.0], np.cumsum(np.cbrt(density))])
    wanted = (np.arange(size) + 0.5) * share[-1] / size
    return np.asarray(np.interp(wanted, share, bins))
