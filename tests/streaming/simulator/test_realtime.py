"""Runs in real time: threads share the rings, and every sample is accounted for."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hearpack.commands.simulate import live_line
from models.common.errors import ArtefactError, AudioError
from runtimes.bundle import Bundle
from runtimes.protocol import Outputs, State
from streaming.runs.record import read_run
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.callbacks import ClipSource
from streaming.simulator.device.profile import load_profile
from streaming.simulator.pipeline.input import InputStage
from streaming.simulator.pipeline.pipeline import Observer, Pipeline
from streaming.simulator.pipeline.playback import Playback
from streaming.simulator.realtime import Feeder, RealtimeRun
from streaming.simulator.run import run_scenario
from streaming.simulator.scenario import Scenario, Settings, clip_sound
from tests.streaming.simulator.pipeline.small import ENHANCER, RATE, callback, noise
from tests.streaming.simulator.pipeline.small import PROFILE as SMALL
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


def quick(folder: Path, seconds: float = 0.2) -> tuple[RealtimeRun, Scenario]:
    """A run of a probe on a small net; the sound lasts so long."""
    sound = clip_sound(noise(round(seconds * RATE)), RATE, "made")
    scenario = Scenario(Bundle(folder, ENHANCER), sound, SMALL, Settings(clock="realtime"))
    return RealtimeRun(scenario.pipeline(ProbeRuntime(ENHANCER))), scenario


def test_calls_come_in_order_and_all_that_was_captured_is_played(tmp_path: Path) -> None:
    sound = clip_sound(noise(1600), RATE, "made")
    scenario = Scenario(Bundle(tmp_path, ENHANCER), sound, SMALL, Settings(clock="realtime"))
    calls: list[int] = []
    pipeline = scenario.pipeline(ProbeRuntime(ENHANCER), None, Observer(on_call=lambda call: calls.append(call.first)))
    RealtimeRun(pipeline).run(scenario.callbacks(), sound.source)
    counts, playout = pipeline.counts, pipeline.playout_record
    assert counts.captured == counts.written == 1600
    assert counts.written == counts.read + counts.held + counts.dropped
    assert calls == sorted(calls)
    assert len(calls) == counts.calls > 0
    assert playout is not None
    assert (playout.held, playout.offered) == (0, playout.written + playout.dropped)


def test_blocks_from_outside_count_between_the_runs_begin_and_its_end_only(tmp_path: Path) -> None:
    run, _ = quick(tmp_path)

    @contextmanager
    def live(feeder: Feeder) -> Iterator[None]:
        feeder.feed(callback(0, 80), noise(80))  # before it began: refused
        sender = threading.Thread(target=send, args=(feeder,))
        sender.start()
        yield
        sender.join()
        feeder.feed(callback(800, 80), noise(80))  # after its end: refused

    def send(feeder: Feeder) -> None:
        while not run._origin:
            time.sleep(0.001)
        for k in range(10):
            feeder.feed(callback(80 * k, 80), noise(80, k))
        feeder.note("sound_card", "something happened")

    run.run_live(live, 0.3)
    counts = run.pipeline.counts
    assert (counts.callbacks, counts.captured, counts.written) == (10, 800, 800)
    assert counts.written == counts.read + counts.held + counts.dropped
    assert [f.kind for f in run.pipeline.log.kept if f.kind == "sound_card"] == ["sound_card"]


def test_what_a_thread_raises_reaches_the_caller_and_all_threads_end(tmp_path: Path) -> None:
    class Broken(ProbeRuntime):
        def step(self, block: np.ndarray, state: State) -> tuple[Outputs, State]:
            raise ArtefactError("always")

    sound = clip_sound(noise(8000), RATE, "made")
    scenario = Scenario(Bundle(tmp_path, ENHANCER), sound, SMALL, Settings(clock="realtime"))
    pipeline = scenario.pipeline(Broken(ENHANCER))
    before = set(threading.enumerate())
    with pytest.raises(ArtefactError, match="the model failed 5 times in a row, last: always"):
        RealtimeRun(pipeline).run(scenario.callbacks(), sound.source)
    assert set(threading.enumerate()) <= before
    assert pipeline.counts.failed_calls == 5


def test_an_interrupted_run_is_whole_and_its_threads_have_ended(tmp_path: Path) -> None:
    run, scenario = quick(tmp_path, seconds=60.0)
    before = set(threading.enumerate())

    def tick(now_ns: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(scenario.callbacks(), scenario.sound.source, tick)
    assert set(threading.enumerate()) <= before
    counts = run.pipeline.counts
    assert counts.written == counts.read + counts.held + counts.dropped
    assert counts.captured < 60 * RATE


@pytest.mark.parametrize("kind", [MemoryError, OSError, ValueError, AudioError])
@pytest.mark.parametrize("where", ["infer", "capture", "play", "source"])
def test_whatever_a_thread_raises_ends_the_run_with_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, kind: type[Exception]
) -> None:
    places = {
        "infer": (Pipeline, "take"),
        "capture": (InputStage, "capture"),
        "play": (Playback, "read"),
        "source": (ClipSource, "read"),
    }
    owner, name = places[where]
    whole, calls = getattr(owner, name), itertools.count()

    def breaks(*arguments: object) -> object:
        if next(calls) == 20:
            raise kind("injected")
        return whole(*arguments)

    monkeypatch.setattr(owner, name, breaks)
    before = set(threading.enumerate())
    _, scenario = quick(tmp_path, seconds=60.0)
    record = run_scenario(scenario, runtime=ProbeRuntime(ENHANCER), output=tmp_path / "x.run")
    assert set(threading.enumerate()) <= before
    assert record.ended == "error"
    assert record.message == ("injected" if kind is AudioError else f"{kind.__name__}: injected")
    assert read_run(tmp_path / "x.run") == record
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.run"]


def test_what_a_sound_cards_callback_raises_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = quick(tmp_path)

    def breaks(*_: object) -> None:
        raise MemoryError("injected")

    @contextmanager
    def live(feeder: Feeder) -> Iterator[None]:
        sender = threading.Thread(target=send, args=(feeder,))
        sender.start()
        yield
        sender.join()

    def send(feeder: Feeder) -> None:
        while not run._origin:
            time.sleep(0.001)
        feeder.feed(callback(0, 80), noise(80))

    monkeypatch.setattr(run.pipeline.input, "capture", breaks)
    with pytest.raises(MemoryError, match="injected"):
        run.run_live(live, 600.0)


def test_a_machine_that_starts_no_more_threads_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, scenario = quick(tmp_path, seconds=60.0)
    whole, calls, before = threading.Thread.start, itertools.count(), set(threading.enumerate())

    def starts(thread: threading.Thread) -> None:
        if next(calls) == 1:
            raise RuntimeError("can't start new thread")
        whole(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)
    with pytest.raises(RuntimeError, match="can't start"):
        run.run(scenario.callbacks(), scenario.sound.source)
    assert set(threading.enumerate()) <= before
