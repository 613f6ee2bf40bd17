"""The events of a whole stream at once are those of the tracker, window by window."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.bundle import Decisions
from streaming.core.decisions import DecisionTracker
from streaming.metrics.whole_stream import WholeEvent, whole_stream

RATE, HOP, WINDOW = 16_000, 512, 1024
LEVELS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, float("nan"))


def by_windows(decisions: Decisions, labels: tuple[str, ...], ends: np.ndarray, scores: np.ndarray) -> list[WholeEvent]:
    tracker = DecisionTracker(decisions, labels, RATE)
    told: dict[int, int] = {}
    found = []
    events = [e for end, row in zip(ends.tolist(), scores, strict=True) for e in tracker.push(row, end)]
    for event in events + tracker.flush(int(ends[-1]) if len(ends) else 0):
        if event.offset_sample is None:
            told[event.index] = event.emitted_at_sample
        else:
            at = (event.onset_sample, event.offset_sample, told[event.index])
            found.append(WholeEvent(event.index, *at, event.confidence))
    return sorted(found)


@settings(max_examples=300, deadline=None)
@given(
    scores=st.lists(st.tuples(st.sampled_from(LEVELS), st.sampled_from(LEVELS)), max_size=60),
    skips=st.lists(st.integers(0, 3), min_size=60, max_size=60),
    on=st.sampled_from([0.1, 0.3, 0.5, 0.9]),
    ratio=st.sampled_from([1.0, 0.6, 0.3]),
    hops=st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.3]), st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0])),
    smoothing=st.integers(1, 4),
    other_on=st.sampled_from([0.2, 1.0]),
)
def test_events_are_the_trackers(
    scores: list[tuple[float, float]],
    skips: list[int],
    on: float,
    ratio: float,
    hops: tuple[float, float],
    smoothing: int,
    other_on: float,
) -> None:
    hop_ms = 1000.0 * HOP / RATE
    decisions = Decisions.model_validate(
        {
            "window_hop_samples": HOP,
            "smoothing_windows": smoothing,
            "on_threshold": on,
            "off_threshold": on * ratio,
            "min_on_ms": hops[0] * hop_ms,
            "min_off_ms": hops[1] * hop_ms,
            "per_label": {"b": {"on_threshold": other_on, "off_threshold": 0.1}},
        }
    )
    rows = np.array(scores, np.float32).reshape(-1, 2)
    steps = 1 + np.array(skips[: len(rows)], np.int64)
    ends = WINDOW - HOP + HOP * np.cumsum(steps)
    whole = whole_stream(decisions, ("a", "b"), RATE, ends, rows)
    assert sorted(whole) == by_windows(decisions, ("a", "b"), ends, rows)


def test_many_labels_keep_their_index() -> None:
    decisions = Decisions.model_validate(
        {
            "window_hop_samples": HOP,
            "smoothing_windows": 2,
            "on_threshold": 0.5,
            "off_threshold": 0.4,
            "min_on_ms": 0.0,
            "min_off_ms": 0.0,
        }
    )
    labels = tuple(f"label {k}" for k in range(37))
    scores = np.random.default_rng(3).random((80, 37)).astype(np.float32)
    ends = HOP * np.arange(2, 82, dtype=np.int64)
    whole = whole_stream(decisions, labels, RATE, ends, scores)
    assert sorted(whole) == by_windows(decisions, labels, ends, scores)
    assert {e.label for e in whole} == set(range(37))
