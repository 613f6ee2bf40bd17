"""Matrices of a front end, in float64: windowed DFT, mel triangles, DCT. Light: numpy only.

The formulas are librosa's (McFee et al., "librosa", SciPy 2015) and Kaldi's (Povey et al., ASRU 2011); tests compare
each with librosa or torchaudio.
"""

from __future__ import annotations

import base64

import numpy as np

from models.common.arrays import Float64
from models.layers.front_end_spec import FrontEndSpec


def hann(samples: int) -> Float64:
    """The periodic Hann window: [samples]."""
    return np.asarray(0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(samples) / samples))


def window_shape(name: str, samples: int, periodic: bool = True) -> Float64:
    """A window by its name (front_end_spec.WINDOWS): [samples]."""
    turn = 2.0 * np.pi * np.arange(samples) / max(1, samples if periodic else samples - 1)
    raised = 0.5 - 0.5 * np.cos(turn)
    shapes = {
        "hann": raised,
        "hamming": 0.54 - 0.46 * np.cos(turn),
        "blackman": 0.42 - 0.5 * np.cos(turn) + 0.08 * np.cos(2.0 * turn),
        "povey": raised**0.85,
        "rectangular": np.ones(samples),
    }
    return np.asarray(shapes[name])


def analysis_window(spec: FrontEndSpec) -> Float64:
    """The window among the samples of the DFT, scaled as the audio is to be: [n_fft]."""
    window = spec.scale * window_shape(spec.window, spec.window_samples, spec.periodic)
    before = (spec.cut_samples - spec.window_samples) // 2
    return np.pad(window, (before, spec.n_fft - spec.window_samples - before))


def windowed_dft(window: Float64, points: int) -> tuple[Float64, Float64]:
    """Windowed DFT from a frame to real and imaginary parts: two of [len(window), points / 2 + 1]."""
    # The product is reduced first: cos(1e6) loses digits that cos(small) keeps.
    angles = 2.0 * np.pi * (np.outer(np.arange(len(window)), np.arange(points // 2 + 1)) % points) / points
    return window[:, None] * np.cos(angles), -window[:, None] * np.sin(angles)


def _to_mel(hz: Float64, scale: str) -> Float64:
    if scale == "kaldi":
        return np.asarray(1127.0 * np.log(1.0 + hz / 700.0))
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
    """From DFT bins to mel bands: [n_fft / 2 + 1, bands]. Triangles are linear in Hz, Kaldi's in mel."""
    if spec.mel_data:
        return np.frombuffer(base64.b64decode(spec.mel_data), "<f8").reshape(-1, spec.bands)
    low, high = _to_mel(np.array([spec.low_hz, spec.high_hz]), spec.mel_scale)
    mels = np.linspace(low, high, spec.bands + 2)
    bins = np.arange(spec.n_fft // 2 + 1) * spec.sample_rate_hz / spec.n_fft
    if spec.mel_scale == "kaldi":
        matrix = triangles(_to_mel(bins, "kaldi"), mels)
        matrix[-1] = 0.0  # it has no bin at half the sample rate
        return matrix
    edges = _to_hz(mels, spec.mel_scale)
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
