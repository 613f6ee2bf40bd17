"""The one policy of overload and recovery, and drift, on every profile with playout, in the virtual clock."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from runtimes.bundle import Bundle
from streaming.simulator.delay_check import KeptLedger, ProbeRuntime
from streaming.simulator.device.faults import Fault
from streaming.simulator.device.profile import load_profile, profile_names
from streaming.simulator.pipeline.pipeline import Pipeline
from streaming.simulator.run import run_scenario
from streaming.simulator.scenario import Scenario, Settings, silence
from tests.streaming.simulator.scenarios import MS

HOUR_S = 3600.0


class Run:
    """A run of DTLN's probe, nothing random lost; `ms` and `at` are the delays of its blocks and when they came."""

    def __init__(
        self, folder: Path, profile_name: str, seconds: float, ppm: float | None = None, faults: tuple[Fault, ...] = ()
    ) -> None:
        bundle, profile = Bundle.open(folder), load_profile(profile_name)
        calm = dataclasses.replace(profile, late_per_minute=0.0, dropouts_per_hour=0.0, rate_changes=())
        if ppm is not None:
            calm = dataclasses.replace(calm, output_clock_ppm=ppm)
        scenario = Scenario(bundle, silence(seconds), calm, Settings(compute_ns=MS, check=False, faults=faults))
        ledger = KeptLedger()
        recorders = dataclasses.replace(scenario.recorders(), ledger=ledger)
        self.pipeline: Pipeline = scenario.pipeline(ProbeRuntime(bundle.manifest), recorders)
        scenario.run_virtual(self.pipeline)
        captured, total = np.array(ledger.kept["block"]).T
        self.at, self.ms = (captured + total) / 1e9, total / 1e6
        counts, playout = self.pipeline.counts, self.pipeline.playout_record
        assert playout is not None
        self.playout = playout
        assert counts.written == counts.read + counts.held + counts.dropped
        assert playout.offered == playout.written + playout.dropped
        assert playout.written == playout.consumed + playout.held

    def between(self, begin: float, end: float) -> np.ndarray:
        return self.ms[(self.at >= begin) & (self.at < end)]


def drifts(folder: Path, name: str, ppm: float, seconds: float) -> None:
    run = Run(folder, name, seconds, ppm)
    usual = np.median(run.between(2.0, 3.0))
    assert (run.playout.underruns, run.playout.trimmed, run.playout.dropped) == (0, 0, 0)
    assert np.abs(run.between(2.0, seconds - 1.0) - usual).max() <= 10.0


@pytest.mark.parametrize("ppm", [-500.0, 500.0])
@pytest.mark.parametrize("name", profile_names())
def test_two_clocks_500_ppm_apart(exported: dict[str, Path], name: str, ppm: float) -> None:
    drifts(exported["dtln"], name, ppm, 45.0)


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-500.0, 500.0])
@pytest.mark.parametrize("name", profile_names())
def test_two_clocks_500_ppm_apart_for_an_hour(exported: dict[str, Path], name: str, ppm: float) -> None:
    drifts(exported["dtln"], name, ppm, HOUR_S)


def stalled(folder: Path, name: str, seconds: float, kind: str, seed: int) -> None:
    """Stalls of 50 ms to 5 s at random: each time the delay is back within a buffer of the usual in five seconds."""
    random, faults, at = np.random.default_rng(seed), [], 8.0
    while at < seconds - 14.0:
        length = float(np.exp(random.uniform(np.log(0.05), np.log(5.0))))
        faults.append(Fault(kind, at, 1000.0 * length))  # type: ignore[arg-type]
        at += length + 6.0 + float(random.uniform(0.0, 8.0))
    run = Run(folder, name, seconds, None, tuple(faults))
    usual = np.median(run.between(4.0, 8.0))
    ends = [f.at_s + f.amount / 1000.0 for f in faults]
    for end, until in zip(ends, [*(f.at_s for f in faults[1:]), seconds - 1.0], strict=True):
        assert np.abs(run.between(end + 5.0, until) - usual).max(initial=0.0) <= 8.0 + 0.02, end


@pytest.mark.parametrize(("name", "kind"), [("android-burst-192", "stall"), ("iphone-tap", "capture_stall")])
def test_the_delay_is_back_after_every_stall(exported: dict[str, Path], name: str, kind: str) -> None:
    stalled(exported["dtln"], name, 90.0, kind, 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stall", "capture_stall"])
@pytest.mark.parametrize("name", profile_names())
def test_the_delay_is_back_after_every_stall_of_an_hour(exported: dict[str, Path], name: str, kind: str) -> None:
    stalled(exported["dtln"], name, HOUR_S, kind, 1)


@pytest.mark.parametrize("policy", ["drop_oldest", "skip_hop", "grow_delay"])
def test_the_record_says_what_a_stall_cost(exported: dict[str, Path], policy: str) -> None:
    bundle = Bundle.open(exported["dtln"])
    faults = (Fault("stall", 3.0, 200.0), Fault("dropout", 9.0, 50.0))
    settings = Settings(compute_ns=MS, check=False, faults=faults, policy=policy)  # type: ignore[arg-type]
    scenario = Scenario(bundle, silence(12.0), load_profile("iphone-sink"), settings)
    record = run_scenario(scenario, runtime=ProbeRuntime(bundle.manifest))
    stall, dropout = record.hiccups
    assert (stall.kind, stall.time_ns, stall.back, dropout.kind) == ("stall", 3_000 * MS, True, "dropout")
    assert 0 < stall.late_ns <= 5_200 * MS
    assert stall.usual_ns + 100 * MS < stall.worst_ns
    assert abs(stall.last_ns - stall.usual_ns) <= 8 * MS
    assert dropout.lost_ns == pytest.approx(34 * MS, abs=20 * MS)


def test_a_slow_first_call_is_over_and_forgotten(exported: dict[str, Path]) -> None:
    bundle = Bundle.open(exported["dtln"])

    def median_ms(first_call_ns: int | None) -> tuple[int, int]:
        settings = Settings(compute_ns=MS, check=False, first_call_ns=first_call_ns)
        scenario = Scenario(bundle, silence(10.0), load_profile("android-burst-192"), settings)
        record = run_scenario(scenario, runtime=ProbeRuntime(bundle.manifest))
        return record.compute[0].quantiles.max, record.ledger[0].total.p50

    slowest, spiked = median_ms(120 * MS)
    assert slowest == 120 * MS
    assert spiked == pytest.approx(median_ms(None)[1], abs=8 * MS)
