"""streaming.simulator.pipeline.output: a call's result with its parts, the same one by one and many at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.simulator.device.faults import FaultLog
from streaming.simulator.pipeline.output import Call, OutputStage
from streaming.simulator.pipeline.playback import Written
from tests.streaming.simulator.pipeline.small import DELAY, HOP, SAMPLE_NS, config, figures, noise

MS = 1_000_000


class Taken:
    """Stands for the playback: keeps what it is given."""

    def __init__(self) -> None:
        self.samples: list[np.ndarray] = []
        self.lengths: list[int] = []
        self.ends: list[int] = []
        self.rows: list[np.ndarray] = []

    def write(self, values: np.ndarray, written: Written) -> None:
        self.samples.append(values)
        self.lengths += written.lengths
        self.ends += written.ends_ns
        self.rows.append(written.rows)

    def finish(self, now_ns: int) -> None:
        self.finished_ns = now_ns


def stage(at_once: int | None = None, **changes: Any) -> tuple[OutputStage, Taken, FaultLog, list[Call]]:
    taken, log, seen = Taken(), FaultLog(), []
    settings = config(calls_at_once=at_once, **changes)
    output = OutputStage(settings, lambda n: n * SAMPLE_NS, figures(), log, taken, None, seen.append)  # type: ignore[arg-type]
    return output, taken, log, seen


def call(number: int, late_ms: float = 8.0, took_ms: float = 2.0, **changes: Any) -> Call:
    """A hop that came in one callback when it was complete, 1 ms before the call began."""
    ready = (number + 1) * HOP * SAMPLE_NS
    fields: dict[str, Any] = {
        "number": number,
        "first": number * HOP,
        "end": (number + 1) * HOP,
        "local_end": (number + 1) * HOP,
        "in_end": (number + 1) * HOP,
        "arrival_ns": ready,
        "ready_ns": ready,
        "resampler_ns": 0,
        "late_ns": ready + round(late_ms * MS),
        "start_ns": ready + MS,
        "end_ns": ready + MS + round(took_ms * MS),
        "values": noise(HOP, number),
    }
    return Call(**(fields | changes))


def given_all(output: OutputStage, calls: list[Call]) -> None:
    for one in calls:
        output.feed(np.zeros(HOP, np.float32))
        output.add(one, one.end_ns)
    output.settle()


@given(
    times=st.lists(
        st.tuples(st.integers(0, 20 * MS), st.integers(0, 20 * MS), st.integers(0, 20 * MS)), min_size=1, max_size=20
    )
)
@settings(max_examples=40, deadline=None)
def test_parts_add_up_to_the_time_from_the_air_to_the_end_of_the_call(times: list[tuple[int, int, int]]) -> None:
    output, taken, _, _ = stage()
    calls = []
    for number, (framing, wait, compute) in enumerate(times):
        arrival = (number + 1) * HOP * SAMPLE_NS + 5 * MS
        ready, start = arrival + framing, arrival + framing + wait
        calls.append(
            call(number, arrival_ns=arrival, ready_ns=ready, start_ns=start, end_ns=start + compute, resampler_ns=77)
        )
    given_all(output, calls)
    rows = np.concatenate(taken.rows)
    assert rows[:, 0].tolist() == list(range(len(calls)))
    for row, one in zip(rows, calls, strict=True):
        content = (one.first - DELAY) * SAMPLE_NS  # negative before the stream's start, as if it had been silence
        assert row[3:].sum() == one.end_ns - content
        assert row[2] == content
        assert row[[3, 5]].tolist() == [5 * MS, 77]  # the device's route, the resampler
        assert row[7:8].tolist() == [one.ready_ns - one.arrival_ns]
        assert row[9] == one.end_ns - one.start_ns
        assert (row[3:] >= 0).all()
    assert output.last_delay_ns == rows[-1, 3:].sum()


@given(at_once=st.integers(1, 50), count=st.integers(1, 40), failed=st.sets(st.integers(0, 39), max_size=5))
@settings(max_examples=30, deadline=None)
def test_however_many_results_are_pending_the_same_comes_of_them(at_once: int, count: int, failed: set[int]) -> None:
    def through(many: int | None) -> tuple[np.ndarray, np.ndarray, list[int], list[int], int]:
        output, taken, _, seen = stage(many)
        calls = [call(n, values=None if n in failed else noise(HOP, n), took_ms=n % 12) for n in range(count)]
        given_all(output, calls)
        order = [one.number for one in seen]
        return np.concatenate(taken.samples), np.concatenate(taken.rows), taken.ends, order, output.misses

    singly, many = through(None), through(at_once)
    assert np.array_equal(singly[0], many[0])
    assert np.array_equal(singly[1], many[1])
    assert singly[2:] == many[2:]
    assert many[3] == list(range(count))
    assert many[4] == sum(1 + n % 12 > 8 for n in range(count))
    assert len(many[0]) == count * HOP


def test_a_call_that_failed_is_silence_of_its_length() -> None:
    output, taken, _, _ = stage(8)
    given_all(output, [call(0), call(1, values=None), call(2)])
    samples = np.concatenate(taken.samples)
    assert np.array_equal(samples[:HOP], noise(HOP, 0))
    assert not samples[HOP : 2 * HOP].any()
    assert np.array_equal(samples[2 * HOP :], noise(HOP, 2))
    assert taken.lengths == [HOP] * 3


def test_times_are_those_of_the_calls_that_ran() -> None:
    output, _, _, _ = stage(4)
    given_all(
        output,
        [call(0, took_ms=2), call(1, took_ms=50, skipped=True), call(2, took_ms=70, gated=True), call(3, took_ms=4)],
    )
    output.finish(10**9)
    assert output.compute.count == 2
    assert output.compute.total == pytest.approx(6 * MS)
    assert output.misses == 2
