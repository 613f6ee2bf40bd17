"""Calibration: paced and back-to-back calls of the real artefacts, written as the simulator reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from models.common.errors import ArtefactError, AudioError, UsageError
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime
from streaming.core.loop import make_loop
from streaming.measure.calibrate import LEAST_CALLS, POINTS, _points, calibrate, measure_calls
from streaming.measure.calibration import read_calibration
from streaming.measure.cold_start import coldstart
from streaming.simulator.device.profile import load_profile
from streaming.simulator.run import run_scenario
from streaming.simulator.scenario import Scenario, Settings, clip_sound


def test_calls_are_measured_both_ways_and_read_back(exported: dict[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(exported["dtln"])
    calibration, (times,) = calibrate(bundle, seconds=0.4)
    assert len(times.paced_us) == len(times.back_to_back_us) == len(times.late_us) == 50  # 0.4 s in hops of 8 ms
    assert times.hop_ms == 8.0
    file = tmp_path / "calibration.json"
    file.write_text(calibration.dump())
    read = read_calibration(file)
    assert read == calibration
    entry = read.entry("litert-fp32", "litert-compiled", 128)
    assert entry.interval_ns == 8_000_000
    assert entry.artefact_sha256 == bundle.artefact("litert-fp32").files[0].sha256
    assert entry.paced_ns == sorted(round(v * 1000) for v in times.paced_us)
    assert (entry.paced_count, entry.back_to_back_count) == (50, 50)


def test_artefacts_and_engines_can_be_chosen(exported: dict[str, Path]) -> None:
    bundle = Bundle.open(exported["dtln"])
    calibration, _ = calibrate(bundle, artefacts=("litert-fp32", "litert-fp16"), engine="litert-compiled", seconds=0.1)
    assert [(e.artefact, e.engine) for e in calibration.entries] == [
        ("litert-fp32", "litert-compiled"),
        ("litert-fp16", "litert-compiled"),
    ]
    assert calibration.entries[0].paced_count == LEAST_CALLS


def test_everybody_moves_a_stream_by_the_same_hop(copy_of: Callable[[str], Path]) -> None:
    """A windowed net without decisions, of which each of them once had its own idea."""
    folder = copy_of("yamnet")
    data = json.loads((folder / "manifest.json").read_text())
    del data["decisions"]
    data.update(task="enhancer", geometry=data["geometry"] | {"hop_samples": 12000})
    (folder / "manifest.json").write_text(json.dumps(data))
    bundle = Bundle.open(folder)
    assert bundle.manifest.hop_samples == 12000
    with closing(open_runtime(bundle, choose(bundle))) as runtime:
        assert make_loop(bundle.manifest, runtime).hop == 12000
    assert measure_calls(bundle, seconds=0.01).hop_ms == 750.0
    assert coldstart(bundle, runs=1).hop_samples == 12000
    short = clip_sound(np.zeros(11999, np.float32), 16000, "short.wav")
    scenario = Scenario(bundle, short, load_profile("android-burst-96"), Settings(compute_ns=1))
    assert (scenario.hop_samples, scenario.ring_samples) == (12000, 15600 + 4 * 12000)
    with pytest.raises(AudioError, match=r"750\.0 ms"):
        run_scenario(scenario)


def test_the_hop_of_a_stream_is_the_buffer_of_a_step_net_and_the_decisions_of_a_windowed_one(
    exported: dict[str, Path],
) -> None:
    step, window = (Bundle.open(exported[name]).manifest for name in ("dtln", "yamnet"))
    assert step.hop_samples == step.buffer.samples == 128
    assert window.decisions is not None
    tuned = window.model_copy(update={"decisions": window.decisions.model_copy(update={"window_hop_samples": 3840})})
    assert (window.hop_samples, tuned.hop_samples) == (7680, 3840)


def test_long_measurements_are_kept_as_quantiles() -> None:
    values = np.random.default_rng(0).gamma(2.0, 100.0, 3 * POINTS)
    points = _points(values)
    assert len(points) == POINTS
    assert points[0] == round(values.min() * 1000)
    assert points[-1] == round(values.max() * 1000)
    assert points[POINTS // 2] == pytest.approx(np.median(values) * 1000, rel=0.01)


def test_what_cannot_be_measured_is_one_line(exported: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    run.write_text('{"schema": "hearpack-run/1"}')
    bundle = Bundle.open(exported["dtln"])
    with pytest.raises(UsageError, match="more than 0 and at most 3600"):
        measure_calls(bundle, seconds=0.0)
    with pytest.raises(UsageError, match="at least one bundle"):
        calibrate()
    with pytest.raises(UsageError, match="cannot run artefact"):
        measure_calls(bundle, engine="coreml", seconds=0.1)
    with pytest.raises(ArtefactError, match="at least 1 thread"):
        measure_calls(bundle, threads=0, seconds=0.1)
    with pytest.raises(UsageError, match="expected a calibration with schema"):
        read_calibration(run)
