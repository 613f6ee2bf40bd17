"""Calibration: paced and back-to-back calls of the real artefacts, written as the simulator reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.common.errors import ArtefactError, UsageError
from runtimes.bundle import Bundle
from streaming.measure.calibrate import LEAST_CALLS, POINTS, _points, calibrate, hop_samples, measure_calls
from streaming.measure.calibration import parse_calibration, read_calibration


def test_calls_are_measured_both_ways_and_read_back(exported: dict[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(exported["dtln"])
    calibration, (times,) = calibrate([bundle], seconds=0.4)
    assert len(times.paced_us) == len(times.back_to_back_us) == len(times.late_us) == 50  # 0.4 s in hops of 8 ms
    assert times.hop_ms == 8.0
    file = tmp_path / "calibration.json"
    file.write_text(calibration.dump())
    read = read_calibration(file)
    assert read == calibration
    entry = read.entry("litert-fp32", "litert-interpreter", 128)
    assert entry.interval_ns == 8_000_000
    assert entry.artefact_sha256 == bundle.artefact("litert-fp32").files[0].sha256
    assert entry.paced_ns == sorted(round(v * 1000) for v in times.paced_us)
    assert (entry.paced_count, entry.back_to_back_count) == (50, 50)


def test_artefacts_and_engines_can_be_chosen(exported: dict[str, Path]) -> None:
    bundle = Bundle.open(exported["dtln"])
    calibration, _ = calibrate([bundle], ("litert-fp32", "litert-fp16"), "litert-compiled", seconds=0.1)
    assert [(e.artefact, e.engine) for e in calibration.entries] == [
        ("litert-fp32", "litert-compiled"),
        ("litert-fp16", "litert-compiled"),
    ]
    assert calibration.entries[0].paced_count == LEAST_CALLS


def test_the_interval_of_a_windowed_net_is_its_window_hop(exported: dict[str, Path]) -> None:
    assert hop_samples(Bundle.open(exported["yamnet"]).manifest) == 7680
    assert hop_samples(Bundle.open(exported["dtln"]).manifest) == 128


def test_long_measurements_are_kept_as_quantiles() -> None:
    values = np.random.default_rng(0).gamma(2.0, 100.0, 3 * POINTS)
    points = _points(values)
    assert len(points) == POINTS
    assert points[0] == round(values.min() * 1000)
    assert points[-1] == round(values.max() * 1000)
    assert points[POINTS // 2] == pytest.approx(np.median(values) * 1000, rel=0.01)


def test_what_cannot_be_measured_is_one_line(exported: dict[str, Path]) -> None:
    bundle = Bundle.open(exported["dtln"])
    with pytest.raises(UsageError, match="more than 0 and at most 3600"):
        measure_calls(bundle, seconds=0.0)
    with pytest.raises(UsageError, match="at least one bundle"):
        calibrate([])
    with pytest.raises(UsageError, match="cannot run artefact"):
        measure_calls(bundle, engine="coreml", seconds=0.1)
    with pytest.raises(ArtefactError, match="at least 1 thread"):
        measure_calls(bundle, threads=0, seconds=0.1)
    with pytest.raises(UsageError, match="expected a calibration with schema"):
        parse_calibration({"schema": "hearpack-run/1"}, "a run")
