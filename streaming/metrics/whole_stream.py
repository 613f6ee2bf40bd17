"""The events of a whole stream at once, for whoever tries thousands of decisions on the same scores.

The result is that of streaming.core.decisions, window by window, to the last bit (a test holds them together); here a
label costs a few vector operations and one turn of a loop a run, instead of a step a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtimes.bundle import Decisions
from streaming.core.decisions import LabelRule, label_rules, smoothed

_LABELS_AT_ONCE = 16  # of 521 and hours: their smoothed scores need not all be held
_LONGEST = 2**62


class WholeEvent(NamedTuple):
    """A finished event of the label in column `label`; samples at the model's rate. `told_sample`: end of the window
    that turned it on."""

    label: int
    onset_sample: int
    offset_sample: int
    told_sample: int
    confidence: float


def whole_stream(
    decisions: Decisions,
    labels: Sequence[str],
    sample_rate_hz: int,
    ends: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> list[WholeEvent]:
    """The events of a stream from its reset to its end.

    Args:
        decisions: thresholds, smoothing and durations.
        labels: names of the columns.
        sample_rate_hz: the model's.
        ends: int64 [windows], each window's end, rising.
        scores: float32 [windows, labels].

    Returns:
        the events, label by label, in order of time.

    Raises:
        UsageError: decisions that do not fit; see `label_rules`.
    """
    rules, depth = label_rules(decisions, labels, sample_rate_hz), decisions.smoothing_windows
    events: list[WholeEvent] = []
    for first in range(0, len(labels), _LABELS_AT_ONCE):
        some = scores[:, first : first + _LABELS_AT_ONCE].astype(np.float64)
        rows = np.concatenate([np.zeros((depth - 1, some.shape[1])), some])
        means = smoothed(rows, depth, len(some))
        for index, column in enumerate(np.ascontiguousarray(means.T), first):
            events += _of_label(index, column, ends, rules[index], decisions.window_hop_samples)
    return events


def _edges(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Begins and ends (exclusive) of the runs of True."""
    steps = np.flatnonzero(np.diff(mask.view(np.int8), prepend=0, append=0))
    return steps[::2], steps[1::2]


def _whole(samples: float) -> int:
    """The fewest whole samples that are not less."""
    return math.ceil(min(max(samples, -_LONGEST), _LONGEST))


def _of_label(
    index: int, s: NDArray[np.float64], ends: NDArray[np.int64], rule: LabelRule, hop: int
) -> list[WholeEvent]:
    begins, stops = _edges(s >= rule.on_threshold)
    onsets = ends[begins] - hop
    # The first window at which a run has lasted long enough; no event where the run is over by then.
    turned = np.maximum(np.searchsorted(ends, onsets + _whole(rule.min_on_samples)), begins)
    kept = np.flatnonzero(turned < stops)
    if not len(kept):
        return []
    # An event ends with the first stretch under the off threshold that lasts for min_off.
    heard_again, over = _edges(s >= rule.off_threshold)
    closed = np.maximum(np.searchsorted(ends, ends[over - 1] + _whole(rule.min_off_samples)), over)
    final = closed < np.append(heard_again[1:], len(s))
    final[-1] = True
    over, closed = over[final], closed[final]
    events, at = [], -1
    for run in kept.tolist():
        begin, on = int(begins[run]), int(turned[run])
        if begin <= at:
            continue  # the event before is still on
        which = int(np.searchsorted(over, on, side="right"))
        end, at = int(over[which]), int(closed[which])
        peak = float(np.fmax.reduce(s[begin:end]))
        events.append(WholeEvent(index, int(onsets[run]), int(ends[end - 1]) - hop, int(ends[on]), peak))
    return events
