"""Runs in real time: threads share the rings, and every sample is accounted for."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from hearpack.commands.live import live_line
from runtimes.bundle import Bundle
from runtimes.protocol import Outputs, State
from streaming.runs.record import read_run
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.profile import load_profile
from streaming.simulator.pipeline.pipeline import Observer, Pipeline
from streaming.simulator.run import run_scenario
from tests.streaming.simulator.scenarios import conserved, probed, scenario_of


@pytest.mark.parametrize("kind", ["dtln", "yamnet"])
def test_a_run_in_real_time_accounts_for_every_sample(exported: dict[str, Path], tmp_path: Path, kind: str) -> None:
    bundle = Bundle.open(exported[kind])
    profile = dataclasses.replace(load_profile("android-burst-192"), slowdown=1.0)
    lines = []

    def tick(pipeline: Pipeline, now_ns: int, total_ns: int) -> None:
        lines.append(live_line(pipeline.status, now_ns, total_ns))

    scenario = scenario_of(bundle, 2.5, profile, clock="realtime", calibration=None)
    record = run_scenario(scenario, observer=Observer(on_tick=tick), output=tmp_path / "x.run")
    assert record.ended == "finished"
    assert record.counts.captured + record.counts.lost == round(2.5 * 48_000)
    # A busy machine may drop samples; the net was called for all that was read, its delay and the last hop included.
    read, hop = record.counts.read, record.hop_samples
    if kind == "dtln":
        assert record.counts.calls == -(-(read + bundle.manifest.geometry.delay_samples) // hop)
    else:
        assert record.counts.calls == 1 + -(-(read - 15_600) // hop)
    assert record.compute[0].provenance == "measured"
    assert any("dBFS" in line for line in lines)
    assert read_run(tmp_path / "x.run") == record
    conserved(record)


def test_a_run_in_real_time_survives_stalls_and_failures(dtln: Bundle) -> None:
    faults = ("stall@0.5:300ms", "raise@1", "nan@1.2")
    record = probed(scenario_of(dtln, 2.0, faults=faults, clock="realtime"))
    assert record.ended == "finished"
    assert record.counts.failed_calls == 1
    assert record.counts.nan_samples == 8
    assert record.counts.captured == 2 * 48_000
    conserved(record)


def test_capture_goes_on_while_the_net_computes(dtln: Bundle) -> None:
    """The third call does not return before twenty more callbacks have come: capture that waited for it would hang."""
    seen: list[Pipeline] = []
    waited: list[bool] = []

    class Slow(ProbeRuntime):
        calls = 0

        def step(self, block: np.ndarray, state: State) -> tuple[Outputs, State]:
            self.calls += 1
            if self.calls == 3:
                deadline = time.monotonic() + 20.0
                while not seen and time.monotonic() < deadline:
                    time.sleep(0.01)
                wanted = seen[0].counts.callbacks + 20
                while seen[0].counts.callbacks < wanted and time.monotonic() < deadline:
                    time.sleep(0.01)
                waited.append(seen[0].counts.callbacks >= wanted)
            return super().step(block, state)

    record = run_scenario(
        scenario_of(dtln, 2.0, clock="realtime"),
        runtime=Slow(dtln.manifest),
        observer=Observer(on_tick=lambda pipeline, now, total: seen.append(pipeline)),
    )
    assert waited == [True]
    assert record.counts.misses > 0
    conserved(record)
