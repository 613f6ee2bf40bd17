"""Decisions: tables of synthetic scores against events worked out by hand, and what holds for any scores."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import UsageError
from runtimes.bundle import Decisions
from streaming.core.decisions import DecisionTracker, SoundEvent, detect, label_rules, same_event

RATE, WINDOW, HOP = 1000, 200, 100  # a window every 100 ms; ends at 200, 300, 400, ...
LABELS = ("Bell", "Dog", "Rain")


def decisions(**changes: Any) -> Decisions:
    values: dict[str, Any] = {
        "window_hop_samples": HOP,
        "smoothing_windows": 1,
        "on_threshold": 0.5,
        "off_threshold": 0.25,
        "min_on_ms": 0.0,
        "min_off_ms": 0.0,
        "per_label": {},
    }
    return Decisions(**{**values, **changes})


def run(scores: list[float], **changes: Any) -> list[tuple[int, int | None, float]]:
    """(onset, offset, confidence) of the first label's finished events."""
    table = np.zeros((len(scores), len(LABELS)), np.float32)
    table[:, 0] = scores
    ends = WINDOW + HOP * np.arange(len(scores))
    end = int(ends[-1]) + 50
    events = detect(decisions(**changes), LABELS, RATE, ends, table, end)
    assert all(e.label == "Bell" and e.index == 0 for e in events)
    return [(e.onset_sample, e.offset_sample, round(e.confidence, 6)) for e in events]


# Window k ends at 200 + 100 k: onset = end of the first window over minus the hop = 100 + 100 k; offset alike.
TABLE: list[tuple[str, list[float], dict[str, Any], list[tuple[int, int, float]]]] = [
    ("nothing", [0, 0.25, 0.25], {}, []),
    ("one window", [0, 0.75, 0, 0], {}, [(200, 200, 0.75)]),
    ("first window, at the threshold exactly", [0.5, 0.5, 0], {}, [(100, 200, 0.5)]),
    ("hysteresis holds above the off threshold", [0, 0.5, 0.375, 0.25, 0.125, 0], {}, [(200, 400, 0.5)]),
    ("hysteresis does not begin an event", [0, 0.375, 0.375, 0.125], {}, []),
    ("two events", [0.5, 0, 0.75, 0.75, 0], {}, [(100, 100, 0.5), (300, 400, 0.75)]),
    ("the peak comes late", [0.5, 0.625, 0.875, 0.375, 0], {}, [(100, 400, 0.875)]),
    ("min_on of two hops: one window is too short", [0.75, 0, 0.75, 0.5, 0], {"min_on_ms": 200}, [(300, 400, 0.75)]),
    ("min_on of one hop is met by one window", [0.75, 0], {"min_on_ms": 100}, [(100, 100, 0.75)]),
    ("min_on just over one hop needs two", [0.75, 0, 0.75, 0.75], {"min_on_ms": 100.5}, [(300, 400, 0.75)]),
    ("min_on: the run must stay over the on threshold", [0.5, 0.375, 0.5, 0.375], {"min_on_ms": 200}, []),
    ("min_on: the run's peak counts", [0.875, 0.5, 0.5, 0], {"min_on_ms": 300}, [(100, 300, 0.875)]),
    ("min_off bridges a gap", [0.5, 0, 0.5, 0, 0], {"min_off_ms": 200}, [(100, 300, 0.5)]),
    ("min_off is bridged from the off threshold on", [0.5, 0, 0.25, 0, 0], {"min_off_ms": 200}, [(100, 300, 0.5)]),
    (
        "min_off passes after two windows",
        [0.5, 0, 0, 0.5, 0, 0],
        {"min_off_ms": 200},
        [(100, 100, 0.5), (400, 400, 0.5)],
    ),
    ("open at the end: flush closes it", [0, 0.5, 0.625], {}, [(200, 300, 0.625)]),
    ("open in a gap at the end", [0.5, 0.5, 0], {"min_off_ms": 500}, [(100, 200, 0.5)]),
    ("a run too short at the end is no event", [0, 0, 0.75], {"min_on_ms": 200}, []),
    ("smoothing over two: the mean decides", [0, 1, 0, 0], {"smoothing_windows": 2}, [(200, 300, 0.5)]),
    ("smoothing: the first window stands alone", [0.5, 0, 0], {"smoothing_windows": 4}, [(100, 200, 0.5)]),
    ("smoothing over three", [0, 0.75, 0.75, 0, 0, 0], {"smoothing_windows": 3}, [(300, 500, 0.5)]),
    ("NaN is under every threshold", [0.5, float("nan"), 0.5], {}, [(100, 100, 0.5), (300, 300, 0.5)]),
    ("override: higher threshold", [0.5, 0.75, 0], {"per_label": {"Bell": {"on_threshold": 0.75}}}, [(200, 200, 0.75)]),
    (
        "override: 0 is a value",
        [0.5, 0, 0],
        {"min_off_ms": 900, "per_label": {"Bell": {"min_off_ms": 0}}},
        [(100, 100, 0.5)],
    ),
    ("override of another label", [0.5, 0], {"per_label": {"Dog": {"on_threshold": 1.0}}}, [(100, 100, 0.5)]),
]


@pytest.mark.parametrize(("scores", "changes", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_table(scores: list[float], changes: dict[str, Any], expected: list[tuple[int, int, float]]) -> None:
    assert run(scores, **changes) == expected


def test_an_event_is_told_when_it_begins_and_when_it_is_over() -> None:
    tracker = DecisionTracker(decisions(min_on_ms=200, min_off_ms=200), LABELS, RATE)
    told = []
    for k, score in enumerate([0.5, 0.75, 0.625, 0, 0, 0]):
        told += tracker.push(np.array([0, score, 0], np.float32), WINDOW + HOP * k)
    assert told == [
        SoundEvent("Dog", 1, 100, None, 0.75, 300),
        SoundEvent("Dog", 1, 100, 300, 0.75, 600),
    ]
    assert tracker.flush(800) == []


def test_labels_are_told_in_order_and_apart() -> None:
    tracker = DecisionTracker(decisions(), LABELS, RATE)
    tracker.push(np.array([0.5, 0, 0.75], np.float32), 200)
    told = tracker.push(np.array([0, 1, 0.5], np.float32), 300)
    assert [(e.label, e.offset_sample) for e in told] == [("Bell", 100), ("Dog", None)]
    assert [(e.label, e.onset_sample, e.offset_sample, e.emitted_at_sample) for e in tracker.flush(333)] == [
        ("Dog", 200, 200, 333),
        ("Rain", 100, 200, 333),
    ]


def test_windows_may_be_skipped() -> None:
    """Durations are measured in samples, not in windows: a host that skips a hop gets the same event."""
    ends = np.array([200, 300, 600, 700])
    scores = np.array([[0.5], [0.5], [0.5], [0]], np.float32)
    (event,) = detect(decisions(min_on_ms=500), ("Bell",), RATE, ends, scores, 700)
    assert (event.onset_sample, event.offset_sample) == (100, 500)


def test_reset_forgets() -> None:
    tracker = DecisionTracker(decisions(smoothing_windows=3, min_off_ms=1000), LABELS, RATE)
    tracker.push(np.ones(3, np.float32), 200)
    tracker.flush(200)
    with pytest.raises(UsageError, match="reset"):
        tracker.push(np.ones(3, np.float32), 300)
    tracker.reset()
    assert tracker.push(np.full(3, 0.375, np.float32), 200) == []
    assert tracker.flush(200) == []


def test_same_event() -> None:
    event = SoundEvent("Dog", 1, 100, 300, 0.5, 600)
    assert same_event(event, SoundEvent("Dog", 1, 100, 300, 0.5 + 9e-7, 999))
    for other in (
        SoundEvent("Cat", 1, 100, 300, 0.5, 600),
        SoundEvent("Dog", 1, 101, 300, 0.5, 600),
        SoundEvent("Dog", 1, 100, None, 0.5, 600),
        SoundEvent("Dog", 1, 100, 300, 0.5 + 2e-6, 600),
    ):
        assert not same_event(event, other)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UsageError, match="'Bel', which is no label; nearest: Bell"):
        label_rules(decisions(per_label={"Bel": {}}), LABELS, RATE)
    with pytest.raises(UsageError, match="at least one label"):
        DecisionTracker(decisions(), (), RATE)
    unchecked = Decisions.model_construct(**{**decisions().model_dump(), "off_threshold": 0.75})
    with pytest.raises(UsageError, match=r"off_threshold 0\.75 is above on_threshold 0\.5"):
        DecisionTracker(unchecked, LABELS, RATE)
    infinite = Decisions.model_construct(**{**decisions().model_dump(), "min_on_ms": float("inf")})
    with pytest.raises(UsageError, match="finite"):
        DecisionTracker(infinite, LABELS, RATE)
    tracker = DecisionTracker(decisions(), LABELS, RATE)
    with pytest.raises(UsageError, match=r"expected scores \[3\]"):
        tracker.push(np.zeros((1, 3), np.float32), 200)
    tracker.push(np.zeros(3, np.float32), 200)
    with pytest.raises(UsageError, match="cannot follow"):
        tracker.push(np.zeros(3, np.float32), 200)
    with pytest.raises(UsageError, match=r"expected scores \[1, 3\]"):
        detect(decisions(), LABELS, RATE, np.array([200]), np.zeros((2, 3), np.float32), 200)


def plain(rule: Decisions, scores: list[float], end: int) -> list[tuple[int, int, float]]:
    """The contract's paragraph once more, written down naively over the whole stream of one label."""
    ends = [WINDOW + HOP * k for k in range(len(scores))]
    smooth = []
    for k in range(len(scores)):
        recent = scores[max(0, k + 1 - rule.smoothing_windows) : k + 1]
        total = 0.0
        for value in recent:
            total += value
        smooth.append(total / len(recent))
    events, k = [], 0
    while k < len(smooth):
        run = list(itertools.takewhile(lambda j: smooth[j] >= rule.on_threshold, range(k, len(smooth))))
        on = next((j for j in run if ends[j] - (ends[k] - HOP) >= rule.min_on_ms * RATE / 1000), None)
        if on is None:
            k += 1  # not a run, or (a later start of the same run would be no longer) one that is too short
            k += max(0, len(run) - 1)
            continue
        last, j = on, on + 1
        while j < len(smooth):
            if smooth[j] >= rule.off_threshold:
                last = j
            elif ends[j] - ends[last] >= rule.min_off_ms * RATE / 1000:
                break
            j += 1
        events.append((ends[k] - HOP, ends[last] - HOP, max(smooth[k : min(j, len(smooth))])))
        k = j + 1
    return events


@settings(max_examples=150, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 1.0]), min_size=1, max_size=40),
    smoothing=st.integers(1, 4),
    on=st.sampled_from([0.25, 0.5, 0.625]),
    min_on=st.sampled_from([0.0, 100.0, 150.0, 300.0]),
    min_off=st.sampled_from([0.0, 100.0, 150.0, 300.0]),
)
def test_any_scores(scores: list[float], smoothing: int, on: float, min_on: float, min_off: float) -> None:
    rule = decisions(
        smoothing_windows=smoothing, on_threshold=on, off_threshold=0.25, min_on_ms=min_on, min_off_ms=min_off
    )
    tracker = DecisionTracker(rule, ("Bell", "Dog"), RATE)
    told: list[SoundEvent] = []
    for k, score in enumerate(scores):
        told += tracker.push(np.array([score, 1.0 - score], np.float32), WINDOW + HOP * k)
    end = WINDOW + HOP * (len(scores) - 1)
    told += tracker.flush(end)
    for index, values in enumerate((scores, [1.0 - s for s in scores])):
        mine = [e for e in told if e.index == index]
        begun, closed = mine[0::2], mine[1::2]
        assert all(e.offset_sample is None for e in begun)
        assert [e.onset_sample for e in begun] == [e.onset_sample for e in closed]
        for event in closed:
            assert event.offset_sample is not None
            assert event.onset_sample <= event.offset_sample < event.emitted_at_sample
            assert event.offset_sample - event.onset_sample + HOP >= min_on * RATE / 1000
            assert on <= event.confidence <= 1.0
        for one, following in itertools.pairwise(closed):
            assert one.offset_sample is not None
            assert one.offset_sample < following.onset_sample
        ours = [(e.onset_sample, e.offset_sample, e.confidence) for e in closed]
        assert ours == plain(rule, values, end)
