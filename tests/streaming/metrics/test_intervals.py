"""Spread and bootstrap: known answers, honest intervals, same seed same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from models.common.errors import UsageError
from streaming.metrics.intervals import bootstrap_difference, digits, paired_difference, spread


def test_spread_of_known_values() -> None:
    found = spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.least, found.p25, found.median, found.p75, found.most, found.count) == (1.0, 2.0, 3.0, 4.0, 5.0, 5)
    with pytest.raises(UsageError, match="at least one value"):
        spread([])


def test_a_real_difference_is_shown_and_none_is_not() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.normal(10.0, 1.0, 400), generator.normal(11.0, 1.0, 300)
    found = bootstrap_difference(a, b)
    assert found.shown
    assert found.low < found.difference < found.high
    assert found.low < 1.0 < found.high
    assert not bootstrap_difference(a[:200], a[200:]).shown


def test_same_seed_same_interval_other_seed_another() -> None:
    values = np.random.default_rng(0).gamma(2.0, 1.0, (2, 100))
    first = bootstrap_difference(values[0], values[1], 0.95, seed=5)
    assert first == bootstrap_difference(values[0], values[1], 0.95, seed=5)
    assert first != bootstrap_difference(values[0], values[1], 0.95, seed=6)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    covered = 0
    for seed in range(120):
        a, b = generator.normal(0.0, 1.0, 60), generator.normal(0.5, 1.0, 60)
        found = bootstrap_difference(a, b, seed=seed, resamples=400)
        covered += found.low <= 0.5 <= found.high
    assert 105 <= covered <= 120


def test_blocks_widen_the_interval_of_values_that_follow_each_other() -> None:
    generator = np.random.default_rng(2)
    slow = np.repeat(generator.normal(0.0, 1.0, 40), 25)  # noise that lasts 25 calls
    other = np.repeat(generator.normal(0.0, 1.0, 40), 25)
    alone, together = (bootstrap_difference(slow, other, block=b) for b in (1, 50))
    assert together.high - together.low > 2.0 * (alone.high - alone.low)


def test_pairs_see_a_difference_that_drift_hides() -> None:
    generator = np.random.default_rng(8)
    drift = generator.gamma(2.0, 100.0, 12)  # a busy machine, the same for both of a turn
    a = drift + generator.normal(0.0, 0.5, 12)
    b = drift + 5.0 + generator.normal(0.0, 0.5, 12)
    found = paired_difference(a.tolist(), b.tolist())
    assert found.shown
    assert found.low < 5.0 < found.high
    assert not bootstrap_difference(a, b).shown
    with pytest.raises(UsageError, match="as many a as b"):
        paired_difference([1.0], [1.0, 2.0])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one value on each side"):
        bootstrap_difference([1.0], [])
    with pytest.raises(UsageError, match="quantile from 0 to 1"):
        bootstrap_difference([1.0], [2.0], 95.0)


def test_long_series_are_resampled_as_short_ones_are() -> None:
    generator = np.random.default_rng(4)
    for quantile in (0.5, 0.95, 0.99):
        a, b = generator.gamma(4.0, 1.0, 30_000), generator.gamma(4.0, 1.02, 30_000)
        found = bootstrap_difference(a, b, quantile, block=50)
        assert found.low < found.difference < found.high
        # The width of an interval shrinks with the root of the count: a tenth of the values is 3.2 times as wide.
        fewer = bootstrap_difference(a[:2000], b[:2000], quantile, block=50)
        ratio = (fewer.high - fewer.low) / (found.high - found.low)
        assert 2.0 < ratio < 7.0
    constant = bootstrap_difference(np.full(5000, 2.0), np.full(5000, 3.0), 0.99)
    assert (constant.low, constant.high) == (1.0, 1.0)


def test_figures_have_three_digits_and_no_exponent() -> None:
    assert [digits(v) for v in (0.0, 0.000123456, 0.0507, 1.234, 12.34, 123.4, 1234.5)] == [
        "0",
        "0.000123",
        "0.0507",
        "1.23",
        "12.3",
        "123",
        "1,234",
    ]
