"""From scores to events: smoothing, thresholds with hysteresis, minimum durations. The same in three languages.

All arithmetic is float64, in this order, window by window (e = the window's end in samples, hop =
decisions.window_hop_samples; a window stands for the hop of time that ends at e):

1. s = mean of the label's last `smoothing_windows` scores: added oldest first, then divided by how many
   there are (the first windows of a stream have fewer).
2. A label that is off: s >= on_threshold begins or continues a *run*; anything else, NaN included, ends
   it. The run's first window gives onset_sample = its e - hop. The label turns on at the first window of the
   run where e - onset_sample >= min_on_ms * sample_rate_hz / 1000.
3. A label that is on: s >= off_threshold makes this window the *last one over the threshold*. Otherwise it
   turns off if e - (that last window's e) >= min_off_ms * sample_rate_hz / 1000, and
   offset_sample = that last window's e - hop ("likewise from the last"; an event of one window therefore
   has onset == offset, and never offset < onset).
4. confidence = the largest s from the run's first window up to the window that emits the event.

Within a window labels are looked at in the order of their index. No event, no work: labels that are off
and under their threshold cost one vector comparison for all of them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from runtimes.bundle import Decisions

CONFIDENCE_TOLERANCE = 1e-6
_AT_ONCE = 16  # windows smoothed together: what they need stays in the processor's cache


@dataclass(frozen=True)
class SoundEvent:
    """Something was heard. Emitted twice: when it turns on (no offset yet) and when it is over.

    Attributes:
        label: the label's name.
        index: its index in labels.txt.
        onset_sample: begin, at the model's rate, counted from reset; negative only where the hop exceeds the window.
        offset_sample: end; None while it lasts.
        confidence: largest smoothed score so far, 0 to 1.
        emitted_at_sample: end of the window that made us say so; for people, no part of the event's identity.
    """

    label: str
    index: int
    onset_sample: int
    offset_sample: int | None
    confidence: float
    emitted_at_sample: int


def same_event(a: SoundEvent, b: SoundEvent) -> bool:
    """Whether two events are identical: label, onset and offset equal, confidence within 1e-6."""
    return (
        a.label == b.label
        and a.onset_sample == b.onset_sample
        and a.offset_sample == b.offset_sample
        and abs(a.confidence - b.confidence) <= CONFIDENCE_TOLERANCE
    )


@dataclass(frozen=True)
class LabelRule:
    """What decides about one label: the decisions with the label's own overrides, durations in samples."""

    on_threshold: float
    off_threshold: float
    min_on_samples: float
    min_off_samples: float


def label_rules(decisions: Decisions, labels: Sequence[str], sample_rate_hz: int) -> tuple[LabelRule, ...]:
    """A rule for every label, in order.

    Raises:
        UsageError: per_label names a label there is not, an off threshold lies above its on threshold, or a
            figure is not finite.
    """
    known = set(labels)
    for name in decisions.per_label:
        if name not in known:
            near = difflib.get_close_matches(name, labels, n=3, cutoff=0.4)
            raise UsageError(
                f"decisions: per_label names {name!r}, which is no label; nearest: {', '.join(near) or 'none'}"
            )
    common = _rule(decisions, None, sample_rate_hz)
    return tuple(_rule(decisions, name, sample_rate_hz) if name in decisions.per_label else common for name in labels)


def _rule(decisions: Decisions, label: str | None, sample_rate_hz: int) -> LabelRule:
    own = decisions.per_label[label] if label is not None else None

    def value(field: str) -> float:
        override = getattr(own, field, None)
        return float(getattr(decisions, field) if override is None else override)

    rule = LabelRule(
        on_threshold=value("on_threshold"),
        off_threshold=value("off_threshold"),
        min_on_samples=value("min_on_ms") * sample_rate_hz / 1000.0,
        min_off_samples=value("min_off_ms") * sample_rate_hz / 1000.0,
    )
    where = "decisions" if label is None else f"decisions of {label!r}"
    if not all(map(math.isfinite, (rule.on_threshold, rule.off_threshold, rule.min_on_samples, rule.min_off_samples))):
        raise UsageError(f"{where}: thresholds and durations must be finite numbers, got {rule}")
    if rule.off_threshold > rule.on_threshold:
        raise UsageError(f"{where}: off_threshold {rule.off_threshold:g} is above on_threshold {rule.on_threshold:g}")
    return rule


@dataclass
class _Track:
    """What is known of a label that is on, or on its way to it."""

    onset: int
    last_over: int
    peak: float
    on: bool = False


def smoothed(rows: NDArray[np.float64], depth: int, windows: int) -> NDArray[np.float64]:
    """Means over the last `depth` windows, or as many as there were, added from the oldest on.

    Args:
        rows: float64 [depth - 1 + n, labels], the scores of the windows before (zeros where there were none), then n.
        depth: windows smoothed over.
        windows: of the stream up to the last row.

    Returns:
        float64 [n, labels].
    """
    count = len(rows) - depth + 1
    total: NDArray[np.float64] = np.zeros((count, rows.shape[1]), np.float64)
    for oldest in range(depth):
        total += rows[oldest : oldest + count]
    total /= np.minimum(np.arange(windows - count + 1, windows + 1), depth)[:, None]
    return total


class DecisionTracker:
    """Schedule the scores of successive windows into events.

    Args:
        decisions: the manifest's `decisions`.
        labels: names, in the order of the scores.
        sample_rate_hz: the model's rate.

    Raises:
        UsageError: see `label_rules`.
    """

    def __init__(self, decisions: Decisions, labels: Sequence[str], sample_rate_hz: int) -> None:
        self.labels = tuple(labels)
        if not self.labels:
            raise UsageError("decisions need at least one label, got none")
        self.hop = int(decisions.window_hop_samples)
        self.depth = int(decisions.smoothing_windows)
        if self.hop < 1 or self.depth < 1:
            raise UsageError(
                f"decisions: hop and smoothing_windows must be at least 1, got {self.hop} and {self.depth}"
            )
        self.rules = label_rules(decisions, self.labels, sample_rate_hz)
        self._on_thresholds = np.array([r.on_threshold for r in self.rules], np.float64)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream: nothing is on, no score is remembered."""
        self._windows = 0
        self._recent: NDArray[np.float64] = np.zeros((self.depth - 1, len(self.labels)), np.float64)
        self._end: int | None = None
        self._tracks: dict[int, _Track] = {}
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the stream was flushed."""
        return self._ended

    def push(self, scores: NDArray[np.float32], window_end_sample: int) -> list[SoundEvent]:
        """Take in one window's scores.

        Args:
            scores: float32 [labels].
            window_end_sample: the window's end at the model's rate, counted from reset; rising.

        Returns:
            events that turned on (offset_sample None) or off with this window, by index; mostly none.

        Raises:
            UsageError: wrong number of scores, a window that does not follow the last, or a flushed stream.
        """
        return self.push_many(scores[None], [window_end_sample])[0]

    def push_many(self, scores: NDArray[np.float32], window_ends: Sequence[int]) -> list[list[SoundEvent]]:
        """`push` of window after window.

        Args:
            scores: float32 [windows, labels].
            window_ends: the end of each.

        Returns:
            what `push` gives for each.

        Raises:
            UsageError: as `push`; no window is taken in then.
        """
        if self._ended:
            raise UsageError("decisions: the stream was flushed; call reset() before the next window")
        if scores.shape != (len(window_ends), len(self.labels)):
            raise UsageError(f"decisions: expected scores [{len(self.labels)}], got shape {list(scores.shape[1:])}")
        last = self._end
        for end in window_ends:
            if last is not None and end <= last:
                raise UsageError(f"decisions: a window that ends at {end} cannot follow one that ends at {last}")
            last = end
        self._end = last
        events = []
        for begin in range(0, len(scores), _AT_ONCE):
            smoothed = self._smooth(scores[begin : begin + _AT_ONCE])
            over = smoothed >= self._on_thresholds
            some: list[bool] = np.any(over, axis=1).tolist()
            for i, end in enumerate(window_ends[begin : begin + _AT_ONCE]):
                events.append(self._decide(smoothed[i], over[i], end) if some[i] or self._tracks else [])
        return events

    def _decide(self, smoothed: NDArray[np.float64], over: NDArray[np.bool_], end: int) -> list[SoundEvent]:
        """A window in which something is on, or might turn on."""
        candidates = np.flatnonzero(over).tolist()
        if self._tracks:
            candidates = sorted(self._tracks.keys() | set(candidates))
        events = [self._advance(index, float(smoothed[index]), end) for index in candidates]
        return [event for event in events if event is not None]

    def flush(self, end_sample: int) -> list[SoundEvent]:
        """The stream is over: close what is on. A run that has not lasted long enough is no event.

        Args:
            end_sample: samples of the stream; only passed on as `emitted_at_sample`.

        Returns:
            the closed events, by index. The tracker then takes no window until reset().
        """
        self._ended = True
        events = [self._closed(i, t, end_sample) for i, t in sorted(self._tracks.items()) if t.on]
        self._tracks.clear()
        return events

    def _smooth(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        rows = np.concatenate([self._recent, scores.astype(np.float64)])  # zeros before the first window add nothing
        self._recent = rows[len(rows) - self.depth + 1 :]
        self._windows += len(scores)
        return smoothed(rows, self.depth, self._windows)

    def _advance(self, index: int, s: float, end: int) -> SoundEvent | None:
        rule = self.rules[index]
        track = self._tracks.get(index)
        if track is not None and track.on:
            if s >= rule.off_threshold:
                track.last_over = end
                track.peak = max(track.peak, s)
                return None
            if end - track.last_over >= rule.min_off_samples:
                del self._tracks[index]
                return self._closed(index, track, end)
            return None
        if not s >= rule.on_threshold:  # NaN ends a run too
            self._tracks.pop(index, None)
            return None
        if track is None:
            track = self._tracks[index] = _Track(onset=end - self.hop, last_over=end, peak=s)
        track.last_over = end
        track.peak = max(track.peak, s)
        if end - track.onset >= rule.min_on_samples:
            track.on = True
            return SoundEvent(self.labels[index], index, track.onset, None, track.peak, end)
        return None

    def _closed(self, index: int, track: _Track, at_sample: int) -> SoundEvent:
        return SoundEvent(self.labels[index], index, track.onset, track.last_over - self.hop, track.peak, at_sample)


def detect(
    decisions: Decisions,
    labels: Sequence[str],
    sample_rate_hz: int,
    ends: NDArray[np.int64],
    scores: NDArray[np.float32],
    end_sample: int,
) -> tuple[SoundEvent, ...]:
    """The finished events of a whole stream.

    Args:
        decisions: the manifest's `decisions`.
        labels: names, in the order of the scores.
        sample_rate_hz: the model's rate.
        ends: int64 [n], each window's end.
        scores: float32 [n, labels].
        end_sample: samples of the stream.

    Returns:
        closed events, by onset and then by index.

    Raises:
        UsageError: shapes that do not fit, or decisions that do not.
    """
    if scores.shape != (len(ends), len(labels)):
        raise UsageError(f"decisions: expected scores [{len(ends)}, {len(labels)}], got {list(scores.shape)}")
    tracker = DecisionTracker(decisions, labels, sample_rate_hz)
    events = [event for end, row in zip(ends, scores, strict=True) for event in tracker.push(row, int(end))]
    events += tracker.flush(end_sample)
    closed = (event for event in events if event.offset_sample is not None)
    return tuple(sorted(closed, key=lambda e: (e.onset_sample, e.index)))
