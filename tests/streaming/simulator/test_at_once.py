"""What the virtual clock does many at a time reports the same as one at a time: to the byte and the nanosecond."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.bundle import Bundle
from streaming.core.decisions import DecisionTracker
from streaming.core.playout import PlayoutRing
from streaming.runs.record import Policy
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.callbacks import Stretch, stretches
from streaming.simulator.device.compute import ComputeModel
from streaming.simulator.device.faults import Fault, parse_fault
from streaming.simulator.device.profile import DeviceProfile, load_profile
from streaming.simulator.device.timeline import SECOND_NS, ContentClock, IndexMap
from streaming.simulator.pipeline.at_once import BatchRing
from streaming.simulator.pipeline.perfetto import TraceWriter
from streaming.simulator.pipeline.pipeline import Observer
from streaming.simulator.scenario import Scenario, Settings, clip_sound
from streaming.simulator.virtual import run_virtual

CASES = [
    ("dtln", "android-burst-192", "drop_oldest", ()),
    ("dtln", "android-burst-192", "drop_oldest", ("stall@2:900ms", "nan@3")),
    ("dtln", "iphone-sink", "skip_hop", ("stall@1:4s", "raise@6:3x")),
    ("dtln", "iphone-tap", "grow_delay", ("stall@2:900ms", "dropout@5:20ms")),
    ("dtln", "android-ragged", "drop_oldest", ("capture_stall@2:1500ms", "dropout@4:50ms")),
    ("dtln", "hfp-headset", "drop_oldest", ("rate@6:16000hz",)),
    ("yamnet", "android-burst-192", "drop_oldest", ("stall@2:3s", "nan@3")),
    ("yamnet", "android-low-end", "grow_delay", ("stall@1:8s", "raise@10:2x")),
    ("yamnet", "airpods", "skip_hop", ("capture_stall@2:1500ms", "dropout@4:50ms")),
]


def singly(scenario: Scenario) -> Iterator[Stretch]:
    """The same callbacks, each a stretch of its own: nothing can be prepared."""
    for callback in scenario.callbacks():
        yield from stretches([callback])


def reported(
    bundle: Bundle,
    profile: DeviceProfile,
    policy: Policy,
    faults: tuple[Fault, ...],
    seconds: float,
    folder: Path,
    trace_limit: int,
    one_by_one: bool,
) -> dict[str, Any]:
    """Everything that a run reports."""
    manifest = bundle.manifest
    sound = 0.3 * np.random.default_rng(3).standard_normal(round(7.3 * profile.rate_hz))
    clip = clip_sound(sound.astype(np.float32), profile.rate_hz, "noise", seconds)
    scenario = Scenario(bundle, clip, profile, Settings(seed=5, policy=policy, faults=faults))
    folder.mkdir()
    recorders = scenario.recorders(folder)
    recorders.trace.close()
    recorders = dataclasses.replace(recorders, trace=TraceWriter(folder / "trace.json", trace_limit))
    pipeline = scenario.pipeline(ProbeRuntime(manifest), recorders, Observer(), calls_at_once=1 if one_by_one else None)
    step = 9_000_000 if manifest.task == "classifier" else 200_000
    compute = ComputeModel(list(range(step, 3 * step, step // 50)), "paced", profile, 5, "")
    plan = singly(scenario) if one_by_one else scenario.plan()
    end_ns = run_virtual(pipeline, plan, clip.source, compute, faults)
    recorders.close()
    return {
        **{file.name: file.read_bytes() for file in folder.iterdir() if file.name != "trace.json"},
        # In the order of time a trace's lines are the same; in the file they need not be.
        "trace": sorted(line.rstrip(",") for line in (folder / "trace.json").read_text().splitlines()),
        "ledger": recorders.ledger.summaries(),
        "envelope": recorders.heard.envelope,
        "faults": sorted(map(str, pipeline.log.kept)),
        "playout": pipeline.playout_record,
        "events": pipeline.events,
        "compute": pipeline.compute_times,
        "counts": pipeline.counts,
        "ring": pipeline.ring_record,
        "longest block": pipeline.input.block_ns,
        "end": end_ns,
    }


@pytest.mark.parametrize("trace_limit", [1, 200_000], ids=["no-trace", "trace"])
@pytest.mark.parametrize(("kind", "device", "policy", "faults"), CASES)
def test_at_once_is_as_one_by_one(
    exported: dict[str, Path],
    tmp_path: Path,
    kind: str,
    device: str,
    policy: Policy,
    faults: tuple[str, ...],
    trace_limit: int,
) -> None:
    bundle, put_in = Bundle.open(exported[kind]), tuple(map(parse_fault, faults))
    at_once, one_by_one = (
        reported(bundle, load_profile(device), policy, put_in, 14.0, tmp_path / name, trace_limit, name == "one")
        for name in ("many", "one")
    )
    for what, value in one_by_one.items():
        assert at_once[what] == value, what
    assert one_by_one["counts"].calls > 20


def test_at_once_is_as_one_by_one_while_drift_is_corrected(exported: dict[str, Path], tmp_path: Path) -> None:
    """The output's clock is so fast that the reader's speed changes with every read."""
    profile = dataclasses.replace(load_profile("android-burst-192"), output_clock_ppm=-300.0)
    bundle = Bundle.open(exported["dtln"])
    at_once, one_by_one = (
        reported(bundle, profile, "drop_oldest", (), 60.0, tmp_path / name, 1, name == "one")
        for name in ("many", "one")
    )
    playout = one_by_one["playout"]
    assert playout.underruns == 0
    assert abs(playout.consumed - playout.played) > 100
    for what, value in one_by_one.items():
        assert at_once[what] == value, what


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(0, 40), st.booleans(), st.sampled_from([0, 2**33]))
def test_what_is_planned_is_what_happens(seed: int, frames: int, deadband: int, drift: bool, played: int) -> None:
    """plan, then follow: the same samples and the same ring as write and read by turns."""
    random = np.random.default_rng(seed)
    one, other = (make(60_000, 900, deadband, 300, 4_000, drift) for make in (PlayoutRing, BatchRing))
    for ring in (one, other):  # 2^33 samples: two days of 48 kHz
        ring._written = ring._index = played
    now = 0
    for _ in range(12):
        blocks = [random.standard_normal(n).astype(np.float32) for n in random.integers(0, 2 * frames + 20, 25)]
        ends = (now + np.cumsum(random.integers(0, frames * 250_000, 25))).tolist()
        times = list(range(now, ends[-1], frames * 250_000))
        expected, given, reads = [], [], list(times)
        for block, end in zip(blocks, ends, strict=True):
            while reads and reads[0] < end:
                expected.append(one.read(frames, reads.pop(0)))
            one.write(block, end)
        edges = np.cumsum([0, *map(len, blocks)]).tolist()
        writes = 0
        if other.playing and not other.cutting:
            schedule = other.plan(frames, times, edges, ends)
            made, writes = len(schedule.adjusts), schedule.writes
            whole = np.concatenate(blocks[:writes] or [np.zeros(0, np.float32)])
            given.append(other.follow(schedule, whole, frames, times[made - 1] if made else 0))
            times = times[made:]
        for block, end in zip(blocks[writes:], ends[writes:], strict=True):
            while times and times[0] < end:
                given.append(other.read(frames, times.pop(0)))
            other.write(block, end)
        assert b"".join(x.tobytes() for x in given) == b"".join(x.tobytes() for x in expected)
        assert (one.counts, one.position, one.adjust_ppm) == (other.counts, other.position, other.adjust_ppm)
        assert vars(one._control) == vars(other._control)
        now = ends[-1]


def test_some_reads_are_planned() -> None:
    """The test above would pass if nothing ever were."""
    ring = BatchRing(60_000, 900, 0, 100, 48_000)
    ring.write(np.zeros(2_000, np.float32), 0)
    ring.read(100, 0)
    times = list(range(30))
    assert len(ring.plan(100, times, [0, 0], [100]).adjusts) == 19
    schedule = ring.plan(100, times, [100 * k for k in range(31)], [t + 1 for t in times])
    assert (len(schedule.adjusts), schedule.writes) == (30, 30)


def test_indices_and_times_of_many_are_those_of_each() -> None:
    clock, index_map = ContentClock(44_100), IndexMap()
    for begin, captured in ((0, 7), (1_000, 99_000_000), (40_000, 3 * SECOND_NS), (50_000, 4 * SECOND_NS)):
        clock.begin(begin, captured)
    for begin, target in ((500, 900), (7_000, 9_000)):
        index_map.begin(begin, target)
    indices = np.array([0, 1, 499, 500, 6_999, 7_000, 999, 1_000, 45_000, 50_001, 10**9, 86_400 * 192_000])
    assert clock.at_each(indices).tolist() == [clock.at(i) for i in indices.tolist()]
    assert index_map.at_each(indices).tolist() == [index_map.at(i) for i in indices.tolist()]
    assert clock.at_each(indices[8:]).tolist() == [clock.at(i) for i in indices[8:].tolist()]


def test_many_windows_are_decided_as_each(exported: dict[str, Path]) -> None:
    bundle = Bundle.open(exported["yamnet"])
    decisions = bundle.manifest.decisions
    assert decisions is not None
    one, other = (DecisionTracker(decisions, bundle.labels(), 16_000) for _ in range(2))
    random = np.random.default_rng(1)
    scores = (random.random((70, len(bundle.labels()))) ** 8).astype(np.float32)
    ends = [15_600 + 7_680 * i for i in range(70)]
    each = [one.push(row, end) for row, end in zip(scores, ends, strict=True)]
    assert other.push_many(scores[:33], ends[:33]) + other.push_many(scores[33:], ends[33:]) == each
    assert sum(map(len, each)) > 10
