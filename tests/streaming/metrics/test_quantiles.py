"""Sketched quantiles against exact ones, spools against what went in, indices against times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import UsageError
from streaming.measure.calibration import TimeDraw, read_calibration
from streaming.metrics.quantiles import QuantileSketch, summarise
from streaming.simulator.device.timeline import ContentClock, IndexMap
from streaming.simulator.pipeline.writers import InputRecorder, Occupancy, WavWriter


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300), st.integers(1, 50))
def test_quantiles_are_within_a_thousandth(values: list[int], parts: int) -> None:
    sketch = QuantileSketch()
    for part in np.array_split(np.array(values, np.int64), parts):
        sketch.add(part)
    exact, found = summarise(np.array(values, np.int64)), sketch.summary()
    assert (found.count, found.min, found.max) == (exact.count, exact.min, exact.max)
    assert found.mean == pytest.approx(exact.mean)
    for a, b in ((exact.p50, found.p50), (exact.p95, found.p95), (exact.p99, found.p99)):
        assert abs(a - b) <= 0.00101 * a + 1


def test_nothing_has_no_quantiles() -> None:
    with pytest.raises(UsageError):
        QuantileSketch().summary()


def test_spooled_wav_is_what_went_in(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    for subtype in ("FLOAT", "PCM_16"):
        spool = WavWriter(tmp_path / "x.wav", 16000, subtype)  # type: ignore[arg-type]
        for part in np.array_split(samples, 7):
            spool.add(part)
        spool.close()
        read, rate = soundfile.read(tmp_path / "x.wav", dtype="float32")
        assert rate == 16000
        limit = 0.0 if subtype == "FLOAT" else 0.6 / 32768
        assert np.abs(read - samples).max() <= limit


def test_envelope_has_every_extreme() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    heard = InputRecorder(len(samples), None, points=100)
    for part in np.array_split(samples, 333):
        heard.add(part)
    heard.close()
    assert len(heard.envelope) == 100
    lows = samples.reshape(100, 1000).min(axis=1)
    assert [p.low for p in heard.envelope] == [round(float(v), 6) for v in lows]


def test_occupancy_keeps_extremes_and_stays_small() -> None:
    occupancy = Occupancy(1000, points=10)
    levels = np.random.default_rng(0).integers(1, 100, 100_000).tolist()
    levels[77_777] = 5000
    for time_ns, level in enumerate(levels):
        occupancy.add(time_ns, level)
    assert len(occupancy.points) <= 20
    assert max(p[2] for p in occupancy.points) == 5000
    assert min(p[1] for p in occupancy.points) == 1


def test_content_clock_through_losses() -> None:
    clock = ContentClock(16000)
    clock.begin(24, 0)
    assert (clock.at(24), clock.at(24 + 16000), clock.at(8)) == (0, 1_000_000_000, -1_000_000)
    clock.begin(16024, 1_500_000_000)
    assert (clock.at(16023), clock.at(16024)) == (999_937_500, 1_500_000_000)


def test_index_map_skips_what_was_dropped() -> None:
    index = IndexMap()
    index.begin(0, 0)
    index.begin(100, 100)
    index.begin(200, 250)
    assert [index.at(i) for i in (0, 199, 200, 300)] == [0, 199, 250, 350]


def test_drawn_times_follow_the_distribution_and_the_seed() -> None:
    points = [10, 20, 40, 1000]
    draws = TimeDraw(points, 1)
    values = np.array([draws.draw() for _ in range(30_000)])
    again = TimeDraw(points, 1)
    assert values[:5000].tolist() == [again.draw() for _ in range(5000)]
    assert values.min() >= 10
    assert values.max() <= 1000
    assert abs(np.mean(values <= 20) - 1 / 3) < 0.02
    assert abs(np.mean(values <= 40) - 2 / 3) < 0.02
    with pytest.raises(UsageError):
        TimeDraw([], 0)


GOOD = {
    "schema": "hearpack-calibration/1",
    "machine": "a machine",
    "hearpack": "0",
    "entries": [
        {
            "bundle": "x.hearpack",
            "artefact": "litert-fp32",
            "artefact_sha256": "0",
            "engine": "litert-interpreter",
            "engine_version": "1",
            "threads": 1,
            "buffer_samples": 128,
            "interval_ns": 8_000_000,
            "paced_ns": [1, 2],
            "back_to_back_ns": [],
            "paced_count": 2,
            "back_to_back_count": 0,
        }
    ],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "x"}, "schema"),
        ({"entries": []}, "no entry"),
        ({"entries": [{**GOOD["entries"][0], "paced_ns": [2, 1]}]}, "not sorted"),  # type: ignore[dict-item,index]
        ({"entries": [{**GOOD["entries"][0], "paced_ns": []}]}, "no times"),  # type: ignore[dict-item,index]
        ({"entries": [{**GOOD["entries"][0], "paced_ns": [0, 1]}]}, "1 ns to"),  # type: ignore[dict-item,index]
        ({"machine": 3}, "machine"),
    ],
)
def test_wrong_calibrations(change: dict[str, object], message: str, tmp_path: Path) -> None:
    good, wrong = tmp_path / "good.json", tmp_path / "wrong.json"
    good.write_text(json.dumps(GOOD))
    wrong.write_text(json.dumps({**GOOD, **change}))
    assert read_calibration(good).entry("litert-fp32", "litert-interpreter", 128).paced_count == 2
    with pytest.raises(UsageError, match=message):
        read_calibration(wrong)
    with pytest.raises(UsageError, match="it has: litert-fp32 on litert-interpreter, 128 samples"):
        read_calibration(good).entry("litert-fp16", "litert-interpreter", 128)
