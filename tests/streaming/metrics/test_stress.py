"""Stress streams have the levels and shapes they are named for."""

from __future__ import annotations

import numpy as np
import pytest

from models.common.errors import AudioError, UsageError
from streaming.metrics.stress import stress_streams

RATE = 16000


def clip(seconds: float = 1.5) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(round(seconds * RATE)) * 0.1).astype(np.float32)


def rms_dbfs(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_streams(seconds: float) -> None:
    streams = stress_streams(clip(), RATE, seconds)
    assert list(streams) == ["rms_-40_dbfs", "rms_-60_dbfs", "silence", "full_scale_square", "clipped", "dc"]
    for samples in streams.values():
        assert samples.dtype == np.float32
        assert samples.shape == (round(seconds * RATE),)
        assert np.max(np.abs(samples)) <= 1.0
    assert rms_dbfs(streams["rms_-40_dbfs"]) == pytest.approx(-40.0, abs=1e-4)
    assert rms_dbfs(streams["rms_-60_dbfs"]) == pytest.approx(-60.0, abs=1e-4)
    assert not streams["silence"].any()
    assert set(streams["full_scale_square"].tolist()) == {1.0, -1.0}
    assert np.flatnonzero(np.diff(streams["full_scale_square"])).tolist()[:3] == [79, 159, 239]  # 100 Hz
    assert 0.3 < np.mean(np.abs(streams["clipped"]) == 1.0) < 0.9
    assert np.unique(streams["dc"]).tolist() == [0.5]


def test_same_clip_same_bytes() -> None:
    one, two = stress_streams(clip(), RATE, 2.0), stress_streams(clip(), RATE, 2.0)
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in two.items()}


def test_bad_clips_are_refused() -> None:
    with pytest.raises(AudioError, match="silent"):
        stress_streams(np.zeros(100, np.float32), RATE, 1.0)
    for bad in (np.zeros(0, np.float32), np.array([np.nan], np.float32), np.zeros((2, 4), np.float32)):
        with pytest.raises(AudioError, match="finite"):
            stress_streams(bad, RATE, 1.0)
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="at least a sample"):
            stress_streams(clip(), RATE, seconds)
