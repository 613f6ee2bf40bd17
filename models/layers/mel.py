"""Matrices of a front end, in float64: windowed DFT, mel triangles, DCT. Light: numpy only.

The formulas are librosa's (McFee et al., "librosa", SciPy 2015); tests compare each with it.
"""

from __future__ import annotations

import numpy as np

from models.common.arrays import Float64
from models.layers.front_end_spec import FrontEndSpec


def hann(samples: int) -> Float64:
    """The periodic Hann window: [samples]."""
    return np.asarray(0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(samples) / samples))


def analysis_window(spec: FrontEndSpec) -> Float64:
    """The window inside its frame: [frame_samples]."""
    turn = 2.0 * np.pi * np.arange(spec.window_samples) / spec.window_samples  # periodic
    shapes = {
        "hann": hann(spec.window_samples),
        "hamming": 0.54 - 0.46 * np.cos(turn),
        "rectangular": np.ones(spec.window_samples),
    }
    before = (spec.frame_samples - spec.window_samples) // 2
    return np.pad(shapes[spec.window], (before, spec.frame_samples - spec.window_samples - before))


def dft(spec: FrontEndSpec) -> tuple[Float64, Float64]:
    """Windowed DFT from a frame to real and imaginary parts: two of [frame_samples, n_fft / 2 + 1]."""
    return windowed_dft(analysis_window(spec), spec.n_fft)


def windowed_dft(window: Float64, points: int) -> tuple[Float64, Float64]:
    """As `dft`: two of [len(window), points / 2 + 1]."""
    # The product is reduced first: cos(1e6) loses digits that cos(small) keeps.
    angles = 2.0 * np.pi * (np.outer(np.arange(len(window)), np.arange(points // 2 + 1)) % points) / points
    return window[:, None] * np.cos(angles), -window[:, None] * np.sin(angles)


def _to_mel(hz: Float64, scale: str) -> Float64:
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    linear = hz * 3.0 / 200.0  # Slaney's: linear up to 1 kHz, 27 logarithmic steps to 6.4 kHz
    return np.where(hz < 1000.0, linear, 15.0 + np.log(np.maximum(hz, 1e-3) / 1000.0) * 27.0 / np.log(6.4))


def _to_hz(mel: Float64, scale: str) -> Float64:
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0))


def triangles(points: Float64, edges: Float64) -> Float64:
    """Triangles of height 1 over three neighbouring edges each, at these points: [points, edges - 2]."""
    rising = (points[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - points[:, None]) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))


def mel_matrix(spec: FrontEndSpec) -> Float64:
    """Triangles from DFT bins to mel bands: [n_fft / 2 + 1, bands], linear in Hz."""
    low, high = _to_mel(np.array([spec.low_hz, spec.high_hz]), spec.mel_scale)
    edges = _to_hz(np.linspace(low, high, spec.bands + 2), spec.mel_scale)
    bins = np.arange(spec.n_fft // 2 + 1) * spec.sample_rate_hz / spec.n_fft
    matrix = triangles(bins, edges)
    if spec.mel_norm == "slaney":
        matrix = matrix * (2.0 / (edges[2:] - edges[:-2]))
    return np.asarray(matrix)


def dct_matrix(bands: int, coefficients: int) -> Float64:
    """Orthonormal DCT-II from log-mel bands to cepstral coefficients: [bands, coefficients]."""
    angles = np.pi / bands * np.outer(np.arange(bands) + 0.5, np.arange(coefficients))
    matrix = np.cos(angles) * np.sqrt(2.0 / bands)
    matrix[:, 0] = np.sqrt(1.0 / bands)
    return np.asarray(matrix)
