"""Quantiles of a stream of times in constant memory.

A histogram whose bins grow by 0.2 %: a quantile is within 0.1 % of the true one, whatever the count. Count, sum, least
and largest are exact. Times of zero or less share one bin (its quantile is then 0, or the least time if that is all).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError

_GAMMA = 1.002
_LOG_GAMMA = math.log(_GAMMA)
_BINS = 18_500  # reaches 9e15 ns


class QuantileSketch:
    """Quantiles of any number of values in a fixed memory: a count a bin, bins 0.2 % wide.

    Args:
        bins: where to count, int32 zeros; None: in an array of its own.
    """

    def __init__(self, bins: NDArray[np.int32] | None = None) -> None:
        self._bins = _no_bins(1)[0] if bins is None else bins
        self.count = self.total = 0
        self.min = self.max = 0

    def add(self, values: NDArray[np.int64]) -> None:
        """Take in int64 [n], ns."""
        if len(values) == 0:
            return
        distinct, counts = np.unique(values, return_counts=True)
        low, high = int(distinct[0]), int(distinct[-1])
        self.min = low if self.count == 0 else min(self.min, low)
        self.max = high if self.count == 0 else max(self.max, high)
        self.count += len(values)
        self.total += int(values.sum())
        logs = np.log(np.maximum(distinct, 1).astype(np.float64)) / _LOG_GAMMA
        places = np.where(distinct > 0, np.minimum(np.ceil(logs).astype(np.int64) + 1, _BINS - 1), 0)
        np.add.at(self._bins, places, counts.astype(np.int32))

    def quantile(self, q: float) -> int:
        """The q-quantile (nearest rank), 0 <= q <= 1, ns.

        Raises:
            UsageError: nothing was taken in.
        """
        if self.count == 0:
            raise UsageError("quantiles: nothing was measured")
        rank = max(1, math.ceil(q * self.count))
        place = int(np.searchsorted(np.cumsum(self._bins), rank))
        middle = 0 if place == 0 else round(2.0 * _GAMMA ** (place - 1) / (1.0 + _GAMMA))
        return max(self.min, min(self.max, middle))

    def summary(self) -> Quantiles:
        """Count, extremes, mean and the quantiles of reports; UsageError if nothing was taken in."""
        p50, p95, p99 = (self.quantile(q) for q in (0.5, 0.95, 0.99))
        return Quantiles(self.count, self.min, p50, p95, p99, self.max, self.total / self.count)


def sketches(count: int) -> list[QuantileSketch]:
    """So many sketches, at the price of one."""
    return [QuantileSketch(bins) for bins in _no_bins(count)]


def _no_bins(count: int) -> NDArray[np.int32]:
    # np.full touches its pages now: memory is to stay as it is from the first minute on.
    return np.full((count, _BINS), 0, np.int32)


def summarise(values: NDArray[np.int64]) -> Quantiles:
    """Exact quantiles (nearest rank) of int64 [n], n >= 1."""
    ordered = np.sort(values)
    count = len(ordered)

    def at(q: float) -> int:
        return int(ordered[max(1, math.ceil(q * count)) - 1])

    return Quantiles(count, at(0.0), at(0.5), at(0.95), at(0.99), at(1.0), float(ordered.mean()))


@dataclass(frozen=True)
class Quantiles:
    """A distribution in ns (relative error of the sketch at most 0.1 %; min, max, mean and count exact)."""

    count: int
    min: int
    p50: int
    p95: int
    p99: int
    max: int
    mean: float
