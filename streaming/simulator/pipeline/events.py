"""A classifier's scores on their way to events, and when each event was reported."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from streaming.core.decisions import DecisionTracker, SoundEvent
from streaming.core.event_times import event_span
from streaming.runs.record import EventRecord
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.config import PipelineConfig
from streaming.simulator.pipeline.recorders import Recorders

Array = NDArray[np.float32]

KEPT_EVENTS = 100_000
_FIELDS = 8  # of a closed event: index, onset, offset, reported at (sample, ns), delay, begin and end of its sound (ns)


@dataclass(frozen=True)
class Reported:
    """The moment an event turned on."""

    at_sample: int
    at_ns: int
    delay_ns: int


class WindowTimes(NamedTuple):
    """When a call's buffer was complete, when it began and ended; samples of the stream (flush pads past them)."""

    ready_ns: int
    start_ns: int
    end_ns: int
    in_samples: int
    resampler_ns: int


class EventStage:
    """Scores in, events out.

    Args:
        config: decisions, labels, rate and route.
        captured: index of a sample (model's rate, from the stream's start) -> ns its content was captured.
        recorders: where entries, events, scores and their ends go.

    Attributes:
        tracker: the decisions.
    """

    def __init__(self, config: PipelineConfig, captured: Callable[[int], int], recorders: Recorders) -> None:
        decisions = config.manifest.decisions
        if decisions is None:
            raise UsageError(f"{config.manifest.name}: its output is neither audio nor scores with decisions")
        self.tracker = tracker = DecisionTracker(decisions, config.labels, config.rate_hz)
        self._captured, self._sample_ns, self._route_ns = captured, SECOND_NS // config.rate_hz, config.route_ns
        self._ledger, self._trace = recorders.ledger, recorders.trace
        self._scores, self._ends = recorders.scores, recorders.ends
        longest = max(rule.min_on_samples for rule in tracker.rules)
        self._raw: deque[tuple[int, Array]] = deque(maxlen=tracker.depth + int(longest // tracker.hop) + 2)
        self._reported: dict[int, Reported] = {}
        self._base = 0
        self._first_end = config.manifest.buffer.samples
        self._in_samples = 0
        # Compact: an hour may hold thousands. Whole numbers, as at _FIELDS, and the confidences.
        self._closed = array("q")
        self._confidences = array("d")
        self._last: Array | None = None

    def push(self, scores: Array, ends: list[int], calls: list[WindowTimes]) -> None:
        """Windows' scores, float32 [windows, labels]; `ends` from the last reset."""
        if self._scores is not None and self._ends is not None:
            self._scores.add(scores.astype("<f4", copy=False))
            self._ends.add(self._base + np.array(ends, "<i8"))
        self._last = scores[-1]
        for row, end, call, events in zip(scores, ends, calls, self.tracker.push_many(scores, ends), strict=True):
            self._in_samples = call.in_samples
            self._raw.append((end, row))
            for event in events:
                if event.offset_sample is None:
                    self._report(event, end, call)
                else:
                    self._close(event)

    def on(self, index: int) -> bool:
        """Whether a label is on."""
        return index in self._reported

    def flush(self, end: int) -> None:
        """The stream is over, or is reset: close what is on."""
        for event in self.tracker.flush(end):
            self._close(event)
        self._reported.clear()

    def reset(self, base: int) -> None:
        """A new stream whose sample 0 is sample `base` of the run."""
        self.tracker.reset()
        self._raw.clear()
        self._base = base

    def _report(self, event: SoundEvent, end: int, call: WindowTimes) -> None:
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
        self._reported[event.index] = Reported(self._base + end, call.end_ns, delay)
        self._trace.instant("events", event.label, call.end_ns, onset=event.onset_sample, delay_ns=delay)

    def _close(self, event: SoundEvent) -> None:
        reported = self._reported.pop(event.index)
        if len(self._confidences) < KEPT_EVENTS and event.offset_sample is not None:
            onset, offset = self._base + event.onset_sample, self._base + event.offset_sample
            told = (reported.at_sample, reported.at_ns, reported.delay_ns)
            self._closed.extend((event.index, onset, offset, *told, *self._capture_ns(event, event.offset_sample)))
            self._confidences.append(event.confidence)

    def _capture_ns(self, event: SoundEvent, offset_sample: int) -> tuple[int, int]:
        """When an event's sound was captured, from the first hop it was heard in to the end of the last one."""
        begin, end = event_span(event.onset_sample, offset_sample, self.tracker.hop, self._first_end)
        last = max(self._base + begin, min(self._base + end, self._in_samples) - 1)  # flush pads past the last sample
        return max(0, self._captured(self._base + begin)), max(0, self._captured(last) + self._sample_ns)

    @property
    def best(self) -> tuple[str, float] | None:
        """The highest label of the last window, and its score."""
        if self._last is None:
            return None
        index = int(np.argmax(self._last))
        return self.tracker.labels[index], float(self._last[index])

    @property
    def events(self) -> list[EventRecord]:
        """The closed events so far."""
        records = []
        for number, confidence in enumerate(self._confidences):
            begin = _FIELDS * number
            index, onset, offset, at_sample, at_ns, delay_ns, *heard_ns = self._closed[begin : begin + _FIELDS]
            onset_s, offset_s = (ns / SECOND_NS for ns in heard_ns)
            label = self.tracker.labels[index]
            told = (confidence, at_sample, at_ns, delay_ns)
            records.append(EventRecord(label, index, onset, offset, *told, onset_s, offset_s))
        return records
