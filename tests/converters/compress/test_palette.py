"""converters.compress.palette: k-means in one dimension, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from converters.compress.palette import nearest, palette


def error(values: np.ndarray, bits: int) -> float:
    table, indices = palette(values, bits)
    return float(np.square(table[indices] - values.reshape(-1)).mean())


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_every_weight_takes_the_nearest_value_and_each_value_is_the_mean_of_its_weights(bits: int) -> None:
    values = np.random.default_rng(bits).standard_normal((64, 48)).astype(np.float32)
    table, indices = palette(values, bits)
    assert (table.shape, table.dtype, indices.dtype) == ((2**bits,), np.float32, np.uint8)
    flat = values.reshape(-1)
    assert np.array_equal(np.abs(flat - table[indices]), np.abs(flat[:, None] - table).min(1))
    if bits <= 4:  # converged
        means = [flat[indices == i].mean() for i in range(2**bits)]
        np.testing.assert_allclose(table, means, atol=0.02)


def test_it_loses_less_than_equal_steps_and_less_with_each_bit() -> None:
    values = np.random.default_rng(0).laplace(size=10_000).astype(np.float32)
    losses = [error(values, bits) for bits in (2, 4, 6, 8)]
    assert losses == sorted(losses, reverse=True)
    grid = np.linspace(values.min(), values.max(), 16)
    uniform = float(np.square(grid[nearest(values.astype(np.float64), grid)] - values).mean())
    assert losses[1] < 0.5 * uniform


def test_few_values_are_kept_exactly_and_the_same_weights_give_the_same_palette() -> None:
    values = np.tile(np.float32([-1.0, 0.0, 0.25]), 100)
    table, indices = palette(values, 4)
    assert np.array_equal(table[indices], values)
    noise = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    one, two = palette(noise, 6), palette(noise.copy(), 6)
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
