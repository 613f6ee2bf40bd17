"""Figures of samples: spread, and how far two sets of runs differ, with an interval. numpy only, seeded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.common.errors import UsageError

RESAMPLES = 1000
CONFIDENCE = 0.95
_DIRECT = 2000  # up to so many values each resample is drawn value by value
_BLOCKS, _BINS = 1000, 2000  # beyond: at most so many blocks, of which histograms are added up


def digits(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


@dataclass(frozen=True)
class Spread:
    """Median and spread of repeated measurements, in the unit of the values."""

    median: float
    p25: float
    p75: float
    least: float
    most: float
    count: int


def spread(values: ArrayLike) -> Spread:
    """Median, quartiles and extremes.

    Raises:
        UsageError: no values.
    """
    array = np.asarray(values, np.float64).reshape(-1)
    if array.size == 0:
        raise UsageError("spread: expected at least one value, got none")
    p25, median, p75 = (float(v) for v in np.quantile(array, (0.25, 0.5, 0.75)))
    return Spread(median, p25, p75, float(array.min()), float(array.max()), int(array.size))


def poisson_upper(count: int, confidence: float = CONFIDENCE) -> float:
    """The largest mean under which `count` events or fewer are still seen with probability 1 - confidence.

    Exact, one-sided: 3.0 for none seen. So that "no false alarm in a minute" is not read as "none an hour".
    """
    low, high = 0.0, 10.0 + 4.0 * count
    for _ in range(80):
        middle = (low + high) / 2.0
        term = math.exp(-middle)
        total = term
        for k in range(1, count + 1):
            term *= middle / k
            total += term
        low, high = (middle, high) if total > 1.0 - confidence else (low, middle)
    return high


def wilson(hits: int, tries: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a fraction; (0, 1) where nothing was tried."""
    if tries == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    p, z2 = hits / tries, z * z
    centre = (p + z2 / (2 * tries)) / (1 + z2 / tries)
    half = z * math.sqrt(p * (1 - p) / tries + z2 / (4 * tries * tries)) / (1 + z2 / tries)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Difference:
    """How much b exceeds a in one quantile, with a bootstrap interval.

    Attributes:
        a, b: the quantile of each.
        difference: b - a (of pairs: the median of their differences).
        low, high: the interval of the difference at `CONFIDENCE`.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero out: the data show a difference."""
        return self.low > 0.0 or self.high < 0.0


def bootstrap_difference(
    a: Sequence[float] | NDArray[np.float64],
    b: Sequence[float] | NDArray[np.float64],
    quantile: float = 0.5,
    *,
    block: int = 1,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """The difference of a quantile, by percentile bootstrap.

    Args:
        a, b: independent measurements [n] and [m], each in the order of time.
        quantile: 0.5 for medians.
        block: values drawn together (moving blocks): call times follow each other's noise, and drawing them one by
            one would promise more than was measured.
        seed: same seed, same interval.
        resamples: of the bootstrap.

    Raises:
        UsageError: a or b is empty, or the quantile lies outside 0 to 1.
    """
    first, second = (np.asarray(v, np.float64).reshape(-1) for v in (a, b))
    if not first.size or not second.size:
        raise UsageError("bootstrap: expected at least one value on each side, got none")
    if not 0.0 <= quantile <= 1.0:
        raise UsageError(f"bootstrap: expected a quantile from 0 to 1, got {quantile:g}")
    generator = np.random.default_rng(seed)
    drawn = [_resampled_quantile(v, quantile, block, resamples, generator) for v in (first, second)]
    low, high = np.quantile(drawn[1] - drawn[0], ((1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0))
    qa, qb = (float(np.quantile(v, quantile)) for v in (first, second))
    return Difference(qa, qb, qb - qa, float(low), float(high))


def paired_difference(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Difference:
    """The median of b - a of measurements that were taken by turns, by percentile bootstrap over the pairs.

    What slowed a whole turn down is in both of a pair and falls out.

    Raises:
        UsageError: no pairs, or not as many a as b.
    """
    first, second = (np.asarray(v, np.float64).reshape(-1) for v in (a, b))
    if not first.size or first.size != second.size:
        raise UsageError(f"bootstrap: expected as many a as b, at least one, got {first.size} and {second.size}")
    apart = second - first
    generator = np.random.default_rng(seed)
    drawn = np.median(apart[generator.integers(0, apart.size, (RESAMPLES, apart.size))], axis=1)
    low, high = np.quantile(drawn, ((1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0))
    return Difference(
        float(np.median(first)), float(np.median(second)), float(np.median(apart)), float(low), float(high)
    )


def _resampled_quantile(
    values: NDArray[np.float64], quantile: float, block: int, resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    if values.size > _DIRECT:
        return _from_histograms(values, quantile, block, resamples, generator)
    size = max(1, min(block, values.size // 4 or 1))
    blocks = -(-values.size // size)
    starts = generator.integers(0, values.size - size + 1, (resamples, blocks, 1))
    index = (starts + np.arange(size)).reshape(resamples, -1)[:, : values.size]
    drawn: NDArray[np.float64] = np.quantile(values[index], quantile, axis=1)
    return drawn


def _from_histograms(
    values: NDArray[np.float64], quantile: float, block: int, resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """The same for long series: whole blocks are drawn, and a quantile is read off the sum of their histograms.

    Edges are the values' own quantiles, so that a read-off quantile is within 1 / `_BINS` of its rank.
    """
    size = max(block, -(-values.size // _BLOCKS))
    count = values.size // size
    kept = values[: count * size]
    edges = np.unique(np.quantile(kept, np.linspace(0.0, 1.0, _BINS + 1), method="inverted_cdf"))
    places = np.searchsorted(edges, kept).reshape(count, size) + len(edges) * np.arange(count)[:, None]
    histograms = np.bincount(places.reshape(-1), minlength=count * len(edges)).reshape(count, -1).astype(np.float32)
    times_drawn = generator.multinomial(count, np.full(count, 1.0 / count), resamples).astype(np.float32)
    below = np.cumsum(times_drawn @ histograms, axis=1)
    drawn: NDArray[np.float64] = edges[(below < quantile * kept.size).sum(axis=1).clip(max=len(edges) - 1)]
    return drawn
