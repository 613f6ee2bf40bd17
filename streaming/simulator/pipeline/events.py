"""A classifier's scores on their way to events, and when each event was told."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.core.decisions import DecisionTracker, SoundEvent
from streaming.runs.record import EventRecord
from streaming.simulator.pipeline.ledger import Ledger
from streaming.simulator.pipeline.perfetto import TraceWriter
from streaming.simulator.pipeline.writers import RawWriter
from streaming.simulator.timeline import SECOND_NS

Array = NDArray[np.float32]

KEPT_EVENTS = 100_000


@dataclass(frozen=True)
class Reported:
    """The moment an event turned on."""

    at_sample: int
    at_ns: int
    delay_ns: int


class CallTimes(NamedTuple):
    """When a call's buffer was complete, when it began and ended; samples of the stream (flush pads past them)."""

    ready_ns: int
    start_ns: int
    end_ns: int
    in_samples: int
    resampler_ns: int


class EventStage:
    """Scores in, events out.

    Args:
        tracker: the decisions.
        captured: index of a sample (model's rate, from the stream's start) -> ns its content was captured.
        rate_hz: the model's rate.
        route_ns: part of the ledger that is constant here.
        ledger, trace: where entries and events go.
        scores, ends: spools, or None.
    """

    def __init__(
        self,
        tracker: DecisionTracker,
        captured: Callable[[int], int],
        rate_hz: int,
        route_ns: int,
        ledger: Ledger,
        trace: TraceWriter,
        scores: RawWriter | None,
        ends: RawWriter | None,
    ) -> None:
        self.tracker, self._captured = tracker, captured
        self._sample_ns = SECOND_NS // rate_hz
        self._route_ns = route_ns
        self._ledger, self._trace, self._scores, self._ends = ledger, trace, scores, ends
        longest = max(rule.min_on_samples for rule in tracker.rules)
        self._raw: deque[tuple[int, Array]] = deque(maxlen=tracker.depth + int(longest // tracker.hop) + 2)
        self._told: dict[int, Reported] = {}
        self._base = 0
        # Compact: an hour may hold thousands. Six whole numbers each, and the confidences.
        self._closed = array("q")
        self._confidences = array("d")
        self.events_total = 0
        self.last_scores: Array | None = None

    def push(self, scores: Array, ends: list[int], calls: list[CallTimes]) -> None:
        """Windows' scores, float32 [windows, labels]; `ends` from the last reset."""
        if self._scores is not None and self._ends is not None:
            self._scores.add(scores.astype("<f4", copy=False))
            self._ends.add(self._base + np.array(ends, "<i8"))
        self.last_scores = scores[-1]
        for row, end, call, events in zip(scores, ends, calls, self.tracker.push_many(scores, ends), strict=True):
            self._raw.append((end, row))
            for event in events:
                if event.offset_sample is None:
                    self._tell(event, end, call)
                else:
                    self._close(event)

    def flush(self, end: int) -> None:
        """The stream is over, or is reset: close what is on."""
        for event in self.tracker.flush(end):
            self._close(event)
        self._told.clear()

    def reset(self, base: int) -> None:
        """A new stream whose sample 0 is sample `base` of the run."""
        self.tracker.reset()
        self._raw.clear()
        self._base = base

    def _tell(self, event: SoundEvent, end: int, call: CallTimes) -> None:
        """The ledger's entry of an event that turned on."""
        hop, threshold = self.tracker.hop, self.tracker.rules[event.index].on_threshold
        first = event.onset_sample + hop
        oldest = first - (self.tracker.depth - 1) * hop
        raw = next((e for e, s in self._raw if oldest <= e <= first and s[event.index] >= threshold), first)

        def until(sample: int) -> int:
            """When the last sample before `sample` had been captured."""
            inside = min(self._base + sample, call.in_samples)
            return self._captured(inside - 1) + self._sample_ns

        begin = max(0, raw - hop)
        captured = self._captured(self._base + begin)
        resampler_ns = call.resampler_ns
        parts = (
            self._route_ns,
            call.ready_ns - until(end) - resampler_ns - self._route_ns,
            resampler_ns,
            call.start_ns - call.ready_ns,
            until(raw) - captured,
            0,
            call.end_ns - call.start_ns,
            0,
            0,
            0,
            until(first) - until(raw),
            until(end) - until(first),
        )
        delay = self._ledger.add("event", event.index, self._base + begin, captured, parts)
        self._told[event.index] = Reported(self._base + end, call.end_ns, delay)
        self._trace.instant("events", event.label, call.end_ns, onset=event.onset_sample, delay_ns=delay)

    def _close(self, event: SoundEvent) -> None:
        told = self._told.pop(event.index)
        self.events_total += 1
        if len(self._confidences) < KEPT_EVENTS and event.offset_sample is not None:
            onset, offset = self._base + event.onset_sample, self._base + event.offset_sample
            self._closed.extend((event.index, onset, offset, told.at_sample, told.at_ns, told.delay_ns))
            self._confidences.append(event.confidence)

    @property
    def events(self) -> list[EventRecord]:
        """The closed events so far."""
        records = []
        for number, confidence in enumerate(self._confidences):
            index, onset, offset, at_sample, at_ns, delay_ns = self._closed[6 * number : 6 * number + 6]
            label = self.tracker.labels[index]
            records.append(EventRecord(label, index, onset, offset, confidence, at_sample, at_ns, delay_ns))
        return records

    def close(self) -> None:
        """End the files."""
        for spool in (self._scores, self._ends):
            if spool is not None:
                spool.close()
