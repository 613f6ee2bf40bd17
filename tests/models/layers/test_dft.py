"""models.dft_graph: the factored transforms against numpy's, and each other's inverse."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="nets need the extra export")

from models.layers.dft import InverseRealDft, RealDft  # noqa: E402

SIZES = [(16, 32), (30, 32), (4, 6), (3, 4)]


@pytest.mark.parametrize(("outer", "inner"), SIZES)
@pytest.mark.parametrize("frames", [1, 3])
def test_is_numpys_transform_and_its_inverse(outer: int, inner: int, frames: int) -> None:
    size = outer * inner
    generator = np.random.default_rng(size)
    x, window = generator.standard_normal((frames, size)), generator.standard_normal(size)
    expected = np.fft.rfft(x * window)
    real, imag = RealDft(frames, window, outer, inner)(torch.from_numpy(x).float())
    assert real.shape == imag.shape == (frames, size // 2 + 1)
    scale = np.abs(expected).max()
    assert np.abs(real.numpy() + 1j * imag.numpy() - expected).max() < 2e-6 * scale
    back = InverseRealDft(frames, window, outer, inner)(real, imag)
    assert np.abs(back.numpy() - x * window * window).max() < 1e-5 * np.abs(x * window * window).max()
