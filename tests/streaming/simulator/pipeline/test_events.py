"""streaming.simulator.pipeline.events: events are those of the decisions, each with the moment it was reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import UsageError
from streaming.core.decisions import detect
from streaming.simulator.delay_check import KeptLedger
from streaming.simulator.pipeline import events as module
from streaming.simulator.pipeline.events import EventStage, WindowTimes
from streaming.simulator.pipeline.writers import RawWriter
from tests.streaming.simulator.pipeline.small import (
    CLASSIFIER,
    ENHANCER,
    LABELS,
    RATE,
    SAMPLE_NS,
    WINDOW,
    config,
    figures,
)

STEP, MS = WINDOW // 2, 1_000_000


def stage(folder: Path | None = None, **decisions: Any) -> tuple[EventStage, KeptLedger]:
    ledger = KeptLedger()
    recorders = dataclasses.replace(figures(), ledger=ledger)
    if folder is not None:
        recorders = dataclasses.replace(
            recorders, scores=RawWriter(folder / "scores.f32"), ends=RawWriter(folder / "ends.i64")
        )
    assert CLASSIFIER.decisions is not None
    changed = CLASSIFIER.model_copy(update={"decisions": CLASSIFIER.decisions.model_copy(update=decisions)})
    return EventStage(config(changed), lambda n: n * SAMPLE_NS, recorders), ledger


def ends_of(count: int, first: int = WINDOW) -> list[int]:
    return [first + STEP * k for k in range(count)]


def times_of(ends: Sequence[int], base: int = 0, late_ns: int = 0) -> list[WindowTimes]:
    """The buffer complete 5 ms after its last sample (the route), begun 1 ms later, 2 ms long."""
    found = []
    for end in ends:
        ready = (base + end) * SAMPLE_NS + 5 * MS
        found.append(WindowTimes(ready, ready + MS + late_ns, ready + 3 * MS + late_ns, base + end, 0))
    return found


def loud(*levels: float) -> np.ndarray:
    return np.array([[level, 0.0] for level in levels], np.float32)


SCORES = st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), min_size=1, max_size=40)


@given(levels=SCORES, cuts=st.lists(st.integers(0, 40), max_size=4).map(sorted), smoothing=st.sampled_from([1, 3]))
@settings(max_examples=50, deadline=None)
def test_in_any_partition_events_are_those_of_the_decisions(
    levels: list[float], cuts: list[int], smoothing: int
) -> None:
    scores, ends = loud(*levels), ends_of(len(levels))
    total = ends[-1]
    events, ledger = stage(smoothing_windows=smoothing, min_on_ms=15.0)
    for begin, end in zip([0, *cuts], [*cuts, len(levels)], strict=True):
        part = slice(begin, max(begin, end))
        if len(ends[part]):
            events.push(scores[part], ends[part], times_of(ends[part]))
    events.flush(total)
    assert CLASSIFIER.decisions is not None
    changed = CLASSIFIER.decisions.model_copy(update={"smoothing_windows": smoothing, "min_on_ms": 15.0})
    truth = detect(changed, LABELS, RATE, np.array(ends), scores, total)
    found = events.events
    assert [(e.label, e.onset_sample, e.offset_sample, e.confidence) for e in found] == [
        (e.label, e.onset_sample, e.offset_sample, e.confidence) for e in truth
    ]
    assert sorted(e.delay_ns for e in found) == sorted(total for _, total in ledger.kept["event"])
    assert sorted(e.emitted_at_ns for e in found) == sorted(sum(entry) for entry in ledger.kept["event"])
    assert all(e.emitted_at_sample > e.onset_sample for e in found)


def test_an_events_delay_is_from_its_first_new_sample_to_the_end_of_the_call_that_reported_it() -> None:
    events, ledger = stage()
    ends = ends_of(4)
    events.push(loud(0.0, 0.9, 0.9, 0.0), ends, times_of(ends))
    (event,) = events.events
    # The second window, which ends at 240, reported it; its hop began at 160.
    assert (event.onset_sample, event.emitted_at_sample) == (160, 240)
    assert (event.onset_s, event.offset_s) == (160 / RATE, 320 / RATE)  # to the end of the third window's hop
    assert event.emitted_at_ns == 240 * SAMPLE_NS + 8 * MS
    assert event.delay_ns == event.emitted_at_ns - 160 * SAMPLE_NS
    assert ledger.kept["event"] == [(160 * SAMPLE_NS, event.delay_ns)]
    events.push(loud(0.0), [480], times_of([480]))
    assert events.best == ("loud", 0.0)


def test_a_call_that_was_late_delays_its_event_by_so_much() -> None:
    delays = []
    for late in (0, 7 * MS):
        events, _ = stage()
        ends = ends_of(3)
        events.push(loud(0.0, 0.9, 0.0), ends, times_of(ends, late_ns=late))
        delays.append(events.events[0].delay_ns)
    assert delays[1] - delays[0] == 7 * MS


def test_after_a_reset_places_go_on_in_the_run() -> None:
    events, _ = stage()
    ends = ends_of(2)
    events.push(loud(0.0, 0.9), ends, times_of(ends))
    events.flush(240)
    events.reset(1000)
    events.push(loud(0.9, 0.0), ends, times_of(ends, base=1000))
    first, second = events.events
    assert (first.onset_sample, first.offset_sample) == (160, 160)  # both a hop before the end of a window
    assert (first.onset_s, first.offset_s) == (160 / RATE, 240 / RATE)  # one window lasts a hop
    assert second.onset_sample == 1000 + WINDOW - STEP
    assert second.onset_s == 1000 / RATE  # on in the first window: since the stream began
    assert second.emitted_at_sample == 1000 + WINDOW


def test_scores_and_the_ends_of_their_windows_are_on_disk(tmp_path: Path) -> None:
    events, _ = stage(tmp_path)
    ends = ends_of(3)
    events.push(loud(0.1, 0.2), ends[:2], times_of(ends[:2]))
    events.reset(500)
    events.push(loud(0.3), ends[:1], times_of(ends[:1], base=500))
    for writer in (events._scores, events._ends):
        assert writer is not None
        writer.close()
    assert np.array_equal(np.fromfile(tmp_path / "scores.f32", "<f4").reshape(3, 2), loud(0.1, 0.2, 0.3))
    assert np.fromfile(tmp_path / "ends.i64", "<i8").tolist() == [160, 240, 660]


def test_all_events_are_in_the_ledger_and_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_EVENTS", 2)
    events, ledger = stage()
    ends = ends_of(10)
    events.push(loud(*[0.9, 0.0] * 5), ends, times_of(ends))
    events.flush(ends[-1])
    assert (len(events.events), len(ledger.kept["event"])) == (2, 5)


def test_scores_without_decisions_are_refused() -> None:
    with pytest.raises(UsageError, match="net: its output is neither audio nor scores with decisions"):
        EventStage(config(ENHANCER), lambda n: n, figures())
