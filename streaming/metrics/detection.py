"""Decision quality: recall, false alarms an hour and detection delay against a recording that a person labelled.

Only labels that the reference names are judged: what else a classifier says is neither right nor wrong here.
An event stands for the time from its onset to the end of its last window (streaming.core.event_times). All times are of
the recording: the resampler's delay is taken out, computing time is not in them (a simulation has that).

- *found*: a reference interval that an event of its label touches; a point label, also one that begins at most
  `collar_s` after it.
- *false alarm*: a stretch of an event outside every reference interval of its label, each widened by `collar_s` at both
  ends. An event that never ends is one, even if it touches all references. There can be none within the widened
  references, so rates are per hour of audio outside them (of several labels: the mean of theirs).
- *delay*: from a reference's begin to the moment at which the event that found it was told. An event that was on
  already when the reference began says nothing about delay: it is counted, not averaged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from runtimes.bundle import Decisions
from streaming.core.event_times import event_seconds
from streaming.files.labels import Interval
from streaming.metrics.intervals import Spread, poisson_upper, spread, wilson
from streaming.metrics.whole_stream import whole_stream


@dataclass(frozen=True)
class Heard:
    """Scores of the judged labels over a recording or a part of it.

    Attributes:
        labels: names of the columns.
        ends: int64 [n], each window's end in samples, the resampler's delay already taken out.
        scores: float32 [n, len(labels)].
        sample_rate_hz: the model's.
        begin_s, end_s: the part of the recording.
        first_end: end of the recording's first window, in the same samples; None where this part has it not.
    """

    labels: tuple[str, ...]
    ends: NDArray[np.int64]
    scores: NDArray[np.float32]
    sample_rate_hz: int
    begin_s: float
    end_s: float
    first_end: int | None = None

    def of(self, labels: Sequence[str]) -> Heard:
        """Some of the labels only."""
        columns = [self.labels.index(label) for label in labels]
        return dataclasses.replace(self, labels=tuple(labels), scores=np.ascontiguousarray(self.scores[:, columns]))

    def part(self, begin_s: float, end_s: float) -> Heard:
        """The windows that end in a part of the recording."""
        rate = self.sample_rate_hz
        kept = (self.ends > begin_s * rate) & (self.ends <= end_s * rate)
        first_end = self.first_end if begin_s <= self.begin_s else None
        return Heard(self.labels, self.ends[kept], self.scores[kept], rate, begin_s, end_s, first_end)


@dataclass(frozen=True)
class Detection:
    """An event in seconds of the recording; `told_s` is when it was known to have begun."""

    label: str
    begin_s: float
    end_s: float
    told_s: float
    confidence: float


@dataclass(frozen=True)
class DecisionQuality:
    """Figures of one recording, measured.

    Attributes:
        seconds: judged.
        free_seconds: of them, outside every widened reference: where a false alarm is possible.
        references, found: intervals labelled, and how many of them an event touched.
        recall_low, recall_high: Wilson's 95 % interval of found / references.
        false_alarms: see the module.
        false_alarms_per_hour: scaled up from `free_seconds`.
        false_alarms_per_hour_upper: 95 % upper bound of the rate (Poisson): what so short a recording cannot rule out;
            None where no audio is free.
        false_seconds: length of the false alarms together.
        delay_s: of the references found by an event that began for them; None if there is none.
        already_on: references found by an event that was on before.
        missed: the references that no event touched.
        detections: what was judged.
    """

    seconds: float
    free_seconds: float
    references: int
    found: int
    recall_low: float
    recall_high: float
    false_alarms: int
    false_alarms_per_hour: float
    false_alarms_per_hour_upper: float | None
    false_seconds: float
    delay_s: Spread | None
    already_on: int
    missed: tuple[Interval, ...]
    detections: tuple[Detection, ...]

    @property
    def recall(self) -> float:
        """found / references, 1.0 where nothing was to be found."""
        return self.found / self.references if self.references else 1.0


def detections(heard: Heard, decisions: Decisions) -> tuple[Detection, ...]:
    """Events of the judged labels, by the arithmetic that the apps have (streaming.core.decisions)."""
    kept = {name: own for name, own in decisions.per_label.items() if name in heard.labels}
    own, rate = decisions.model_copy(update={"per_label": kept}), float(heard.sample_rate_hz)
    found = []
    for event in whole_stream(own, heard.labels, heard.sample_rate_hz, heard.ends, heard.scores):
        begin_s, end_s = event_seconds(
            event.onset_sample,
            event.offset_sample,
            decisions.window_hop_samples,
            heard.first_end,
            rate_hz=heard.sample_rate_hz,
            duration_s=heard.end_s,
        )
        begin_s = min(max(begin_s, heard.begin_s), end_s)
        label, told_s = heard.labels[event.label], event.told_sample / rate
        found.append(Detection(label, begin_s, end_s, told_s, event.confidence))
    return tuple(sorted(found, key=lambda e: (e.begin_s, e.label)))


def judge(heard: Heard, decisions: Decisions, reference: Sequence[Interval], collar_s: float) -> DecisionQuality:
    """Compare the events of some decisions with the labels.

    Args:
        heard: scores of exactly the labels that are judged.
        decisions: thresholds, smoothing and durations to judge.
        reference: the labelled intervals; those outside heard's part of the recording are left out, others cut.
        collar_s: how far from a reference an event may be on before it is a false alarm.

    Raises:
        UsageError: nothing to judge, or decisions that do not fit.
    """
    if heard.end_s <= heard.begin_s:
        raise UsageError("decision quality: expected a recording longer than nothing")
    inside = [
        Interval(r.label, max(r.begin_s, heard.begin_s), min(r.end_s, heard.end_s))
        for r in reference
        if r.label in heard.labels and r.begin_s < heard.end_s and r.end_s > heard.begin_s
    ]
    events = detections(heard, decisions)
    delays, missed, already_on = [], [], 0
    for wanted in inside:
        touching = [
            e
            for e in events
            if e.label == wanted.label and e.end_s > wanted.begin_s and _begins_in_time(e, wanted, collar_s)
        ]
        if not touching:
            missed.append(wanted)
        elif touching[0].told_s <= wanted.begin_s:
            already_on += 1
        else:
            delays.append(touching[0].told_s - wanted.begin_s)
    stretches = [length for event in events for length in _outside(event, inside, collar_s)]
    seconds = heard.end_s - heard.begin_s
    free_s = _free_seconds(heard, inside, collar_s)
    found = len(inside) - len(missed)
    low, high = wilson(found, len(inside))
    return DecisionQuality(
        seconds=seconds,
        free_seconds=free_s,
        references=len(inside),
        found=found,
        recall_low=low,
        recall_high=high,
        false_alarms=len(stretches),
        false_alarms_per_hour=len(stretches) * 3600.0 / free_s if stretches else 0.0,
        false_alarms_per_hour_upper=poisson_upper(len(stretches)) * 3600.0 / free_s if free_s else None,
        false_seconds=float(sum(stretches)),
        delay_s=spread(delays) if delays else None,
        already_on=already_on,
        missed=tuple(missed),
        detections=events,
    )


def _begins_in_time(event: Detection, wanted: Interval, collar_s: float) -> bool:
    """Whether an event begins early enough to be one of a reference's."""
    if wanted.begin_s == wanted.end_s:
        return event.begin_s <= wanted.end_s + collar_s
    return event.begin_s < wanted.end_s


def _free_seconds(heard: Heard, reference: Sequence[Interval], collar_s: float) -> float:
    """Seconds outside the widened references of a label, the mean of the labels'."""
    whole = Detection("", heard.begin_s, heard.end_s, 0.0, 0.0)
    free = [sum(_outside(dataclasses.replace(whole, label=label), reference, collar_s)) for label in heard.labels]
    return float(sum(free)) / len(free) if free else 0.0


def _outside(event: Detection, reference: Sequence[Interval], collar_s: float) -> list[float]:
    """Lengths of the stretches of an event that lie in no widened reference interval of its label."""
    lengths = []
    at = event.begin_s
    for wanted in reference:  # by begin
        if wanted.label != event.label:
            continue
        begin, end = wanted.begin_s - collar_s, wanted.end_s + collar_s
        if end <= at or begin >= event.end_s:
            continue
        if begin > at:
            lengths.append(begin - at)
        at = end
    if event.end_s > at:
        lengths.append(event.end_s - at)
    return lengths
