"""Streams that break models: very quiet, silent, square, clipped, constant. Pure functions of a clip.

Levels are RMS over the whole stream, relative to 1.0 (a full-scale square wave is 0 dBFS).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError, UsageError

Array = NDArray[np.float32]

SQUARE_HZ = 100.0
DC_LEVEL = 0.5
CLIPPED_GAIN = 10.0  # +20 dB over a peak of full scale


def at_rms_dbfs(samples: Array, level_dbfs: float) -> Array:
    """`samples` scaled to an RMS of `level_dbfs`, float32 [n]; AudioError if they are silent."""
    rms = math.sqrt(float(np.mean(np.square(samples, dtype=np.float64))))
    if not rms > 0.0:
        raise AudioError("stress streams need a clip that is not silent; give a recording with sound in it")
    gain: float = 10.0 ** (level_dbfs / 20.0) / rms
    return (samples.astype(np.float64) * gain).astype(np.float32)


def full_scale_square(sample_rate_hz: int, count: int) -> Array:
    """+1 and -1 by turns, at 100 Hz or the nearest rate whose half period is whole samples."""
    half = max(1, round(sample_rate_hz / (2.0 * SQUARE_HZ)))
    return np.where(np.arange(count) // half % 2 == 0, np.float32(1.0), np.float32(-1.0)).astype(np.float32)


def clipped(samples: Array) -> Array:
    """The clip with its peak 20 dB above full scale, cut off at +-1."""
    peak = float(np.max(np.abs(samples)))
    return np.clip(samples.astype(np.float64) * (CLIPPED_GAIN / peak), -1.0, 1.0).astype(np.float32)


def stress_streams(clip: Array, sample_rate_hz: int, seconds: float) -> dict[str, Array]:
    """Every stress stream, by name; the same clip gives the same bytes.

    Args:
        clip: float32 [n] at the model's rate, finite, not silent; repeated or cut to `seconds`.
        sample_rate_hz: its rate.
        seconds: length of each stream.

    Returns:
        float32 [round(seconds * sample_rate_hz)] each: "rms_-40_dbfs", "rms_-60_dbfs", "silence",
        "full_scale_square", "clipped", "dc".

    Raises:
        AudioError: the clip is empty, silent, or not finite.
        UsageError: the length is not positive.
    """
    if clip.ndim != 1 or len(clip) == 0 or not np.isfinite(clip).all():
        raise AudioError(f"stress streams need finite samples [n], n >= 1, got shape {list(clip.shape)}")
    if not math.isfinite(seconds) or round(seconds * sample_rate_hz) < 1:
        raise UsageError(f"stress streams need a length of at least a sample, got {seconds} s")
    count = round(seconds * sample_rate_hz)
    base: Array = np.resize(clip, count)
    return {
        "rms_-40_dbfs": at_rms_dbfs(base, -40.0),
        "rms_-60_dbfs": at_rms_dbfs(base, -60.0),
        "silence": np.zeros(count, np.float32),
        "full_scale_square": full_scale_square(sample_rate_hz, count),
        "clipped": clipped(base),
        "dc": np.full(count, DC_LEVEL, np.float32),
    }
