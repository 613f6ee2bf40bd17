"""The one policy of overload and recovery, and drift, on every profile with playout, in the virtual clock."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile

from models.common.errors import UsageError
from runtimes.bundle import Bundle
from runtimes.engines import choose
from streaming.measure.cold_start import ColdRun, ColdStart, Condition
from streaming.runs.verdict import late_callbacks
from streaming.simulator.delay_check import KeptLedger, ProbeRuntime
from streaming.simulator.device.faults import Fault
from streaming.simulator.device.profile import load_profile, profile_names
from streaming.simulator.modes import Simulate
from streaming.simulator.pipeline.pipeline import Pipeline
from streaming.simulator.run import run_scenario
from streaming.simulator.scenario import Scenario, Settings, silence
from streaming.simulator.simulate import simulate
from tests.streaming.simulator.scenarios import MS

HOUR_S = 3600.0
OTHER = "litert-interpreter"  # than the usual engine
LATE = ["android-a53", "android-low-end", "hfp-headset"]  # callbacks come late three or four times a minute


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


def test_the_default_prefill_is_the_sum_that_the_apps_hold(exported: dict[str, Path]) -> None:
    bundle = Bundle.open(exported["dtln"])

    def prefill(name: str) -> int:
        return Scenario(bundle, silence(1.0), load_profile(name), Settings()).prefill_samples

    assert prefill("android-burst-192") == 128 * 3 + 192 + 192 + 72  # jitter of 250 us
    assert prefill("iphone-sink") == 128 * 3 + 256 + 1024 + 72  # of 150 us: 250 are taken
    assert prefill("hfp-headset") == 64 + 160 + 160 + 192  # of 4 ms, at 8 kHz


def runs_late(folder: Path, name: str, seconds: float, ppm: float) -> None:
    """Callbacks come late now and then: playout runs dry with the default prefill, never with the one that is named."""
    bundle, profile = Bundle.open(folder), load_profile(name)
    profile = dataclasses.replace(profile, dropouts_per_hour=0.0, rate_changes=(), output_clock_ppm=ppm)
    settings = Settings(compute_ns=MS, check=False)
    record = run_scenario(Scenario(bundle, silence(60.0), profile, settings), runtime=ProbeRuntime(bundle.manifest))
    said = late_callbacks(record)
    assert record.playout is not None
    assert record.playout.underruns > 0
    prefill_ms = int(re.search(r"--prefill-ms (\d+)", said)[1])  # type: ignore[index]
    held = dataclasses.replace(settings, prefill_samples=prefill_ms * profile.output_rate_hz // 1000)
    record = run_scenario(Scenario(bundle, silence(seconds), profile, held), runtime=ProbeRuntime(bundle.manifest))
    assert record.playout is not None
    assert (record.playout.underruns, record.playout.trimmed, late_callbacks(record)) == (0, 0, "")
    total = record.ledger[0].total
    assert max(total.max - total.p50, total.p50 - total.min) <= 10 * MS


@pytest.mark.parametrize("name", LATE)
def test_the_prefill_that_is_named_holds_late_callbacks(exported: dict[str, Path], name: str) -> None:
    runs_late(exported["dtln"], name, 90.0, 500.0)


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-500.0, 500.0])
@pytest.mark.parametrize("name", LATE)
def test_the_prefill_that_is_named_holds_late_callbacks_for_an_hour(
    exported: dict[str, Path], name: str, ppm: float
) -> None:
    runs_late(exported["dtln"], name, HOUR_S, ppm)


def stalled(folder: Path, name: str, seconds: float, kind: str, seed: int) -> None:
    """Stalls of 50 ms to 5 s at random: each time the delay is back within a buffer of the usual in five seconds.

    The usual is the median of all calm stretches: a stream may begin up to a buffer lower, by where its first blocks
    and reads happen to lie to each other (iphone-tap: 5.8 ms).
    """
    random, faults, at = np.random.default_rng(seed), [], 8.0
    while at < seconds - 14.0:
        length = float(np.exp(random.uniform(np.log(0.05), np.log(5.0))))
        faults.append(Fault(kind, at, 1000.0 * length))  # type: ignore[arg-type]
        at += length + 6.0 + float(random.uniform(0.0, 8.0))
    run = Run(folder, name, seconds, None, tuple(faults))
    ends = [f.at_s + f.amount / 1000.0 for f in faults]
    calm = [(end + 5.0, until) for end, until in zip(ends, [*(f.at_s for f in faults[1:]), seconds - 1.0], strict=True)]
    stretches = [run.between(*times) for times in [(4.0, 8.0), *calm]]
    usual = np.median(np.concatenate(stretches))
    for (begin, _), stretch in zip([(4.0, 8.0), *calm], stretches, strict=True):
        assert np.abs(stretch - usual).max(initial=0.0) <= 8.0 + 0.02, begin


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


def test_the_first_call_of_a_cold_start_file_comes_first(exported: dict[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(exported["dtln"])
    chosen, hop, audio = choose(bundle), bundle.manifest.hop_samples, tmp_path / "noise.wav"
    soundfile.write(audio, np.zeros(32_000, np.float32), 16_000)

    def starts(file: str, sha256: str, engine: str = chosen.engine) -> Path:
        firsts = (40.0, 30.0, 90.0)  # ms, of the coldest: the median is 40
        runs = [
            ColdRun(
                stages=(("ready", 100.0),),
                calls_ms=(first, *[1.0] * 9),
                first_decision_ms=110.0,
                ready_cpu_ms=90.0,
                ready_memory_bytes=1,
                peak_memory_bytes=1,
                resident_before=None,
            )
            for first in firsts
        ]
        weights: tuple[Literal["cold", "warm", "none"], ...] = ("none",) if engine == OTHER else ("cold", "warm")
        both: tuple[Literal["cold", "warm"], ...] = ("cold", "warm")
        conditions = [
            Condition(page_cache=pages, weight_cache=cache, runs=tuple(runs)) for pages in both for cache in weights
        ]
        ColdStart(
            hearpack="0",
            bundle=bundle.path.name,
            artefact=chosen.artefact.id,
            artefact_sha256=sha256,
            engine=engine,
            runtime="r",
            machine="m",
            sample_rate_hz=16_000,
            buffer_samples=hop,
            hop_samples=hop,
            conditions=tuple(conditions),
            limits=(),
        ).save(tmp_path / file)
        return tmp_path / file

    ours = starts("ours.json", chosen.artefact.digest)
    mode = Simulate(audio=audio, device="android-low-end", compute_ms=1.0, slowdown=2.0, cold_start=ours)
    record = simulate(bundle, mode)
    assert record.compute[0].quantiles.max == 80 * MS
    assert "the first call 80 ms" in record.calibration
    for other in (starts("b.json", "0" * 64), starts("c.json", ""), starts("d.json", chosen.artefact.digest, OTHER)):
        with pytest.raises(UsageError, match="measure that one"):
            simulate(bundle, dataclasses.replace(mode, cold_start=other))
