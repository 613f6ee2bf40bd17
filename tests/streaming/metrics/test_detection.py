"""Decision quality on synthetic scores with answers worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from runtimes.bundle import Decisions
from streaming.files.labels import Interval
from streaming.metrics.detection import Heard, detections, judge
from streaming.metrics.intervals import poisson_upper, wilson

RATE, WINDOW, HOP = 1000, 1000, 500
LABELS = ("Bell", "Dog", "Rain")


def heard(scores: list[float], label: str = "Bell") -> Heard:
    """Windows of 1 s every 0.5 s; window k ends at 1.0 + 0.5 k s."""
    ends = WINDOW + HOP * np.arange(len(scores), dtype=np.int64)
    return Heard((label,), ends, np.array(scores, np.float32)[:, None], RATE, 0.0, float(ends[-1]) / RATE)


def decisions(**changes: Any) -> Decisions:
    values = {"window_hop_samples": HOP, "on_threshold": 0.5, "off_threshold": 0.5, "min_off_ms": 0.0}
    return Decisions(**{**values, **changes})


def bells(*spans: tuple[float, float]) -> tuple[Interval, ...]:
    return tuple(Interval("Bell", begin, end) for begin, end in spans)


def test_an_event_has_begin_end_and_the_moment_it_was_told() -> None:
    (event,) = detections(heard([0, 0, 1, 1, 0, 0]), decisions(min_on_ms=1000))
    # Windows 2 and 3 end at 2.0 and 2.5: on from 1.5, told once it has lasted 1 s, over at the end of window 3.
    assert (event.begin_s, event.told_s, event.end_s) == (1.5, 2.5, 2.5)
    assert detections(heard([0, 1, 0, 0]), decisions(min_on_ms=600)) == ()


def test_found_missed_and_delay() -> None:
    quality = judge(heard([0, 0, 1, 1, 0, 0, 0, 0, 0, 0]), decisions(), bells((1.2, 2.5), (4.0, 5.0)), collar_s=0.0)
    assert (quality.references, quality.found, quality.recall) == (2, 1, 0.5)
    assert [(m.begin_s, m.end_s) for m in quality.missed] == [(4.0, 5.0)]
    assert quality.delay_s is not None
    assert quality.delay_s.median == pytest.approx(0.8)  # told at 2.0, began at 1.2
    assert quality.false_alarms == 0


def test_a_false_alarm_is_a_stretch_outside_every_widened_label() -> None:
    scores = [0, 1, 0, 0, 0, 0, 1, 0, 0]  # events 1.0 to 1.5 and 3.5 to 4.0
    far = judge(heard(scores), decisions(), bells((1.0, 1.5)), collar_s=1.0)
    assert (far.false_alarms, far.false_seconds) == (1, 0.5)
    # Of 5 s, the label and its collars take 0.0 to 2.5.
    assert (far.seconds, far.free_seconds) == (5.0, 2.5)
    assert far.false_alarms_per_hour == pytest.approx(3600.0 / 2.5)
    assert far.false_alarms_per_hour_upper == pytest.approx(poisson_upper(1) * 3600.0 / 2.5)
    assert judge(heard(scores), decisions(), bells((1.0, 1.5)), collar_s=2.5).false_alarms == 0
    assert judge(heard(scores), decisions(), bells((1.0, 1.5)), collar_s=2.2).false_alarms == 1


def test_an_event_that_never_ends_is_no_good_detector() -> None:
    always = judge(heard([1.0] * 39), decisions(), bells((2.0, 3.0), (10.0, 11.0)), collar_s=0.5)
    assert always.recall == 1.0
    assert always.false_alarms == 3  # before the first, between the two, after the last
    assert always.already_on == 2
    assert always.delay_s is None


def test_other_labels_are_not_judged() -> None:
    quality = judge(heard([0, 1, 0, 0], "Dog"), decisions(), bells((1.0, 1.5)), collar_s=0.0)
    assert (quality.references, quality.found, quality.false_alarms) == (0, 0, 1)
    assert quality.recall == 1.0


def test_per_label_decisions_of_other_labels_do_no_harm() -> None:
    own = decisions(per_label={"Dog": {"on_threshold": 0.9}, "Bell": {"on_threshold": 0.2, "off_threshold": 0.1}})
    assert len(detections(heard([0, 0.3, 0, 0]), own)) == 1


def test_rates_of_short_recordings_have_wide_bounds() -> None:
    assert poisson_upper(0) == pytest.approx(2.9957, abs=1e-3)
    assert poisson_upper(5) == pytest.approx(10.513, abs=1e-3)  # exact: half the chi-squared 95 % point of 12 degrees
    assert wilson(4, 4)[0] == pytest.approx(0.5101, abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(5, 10)
    assert low == pytest.approx(1.0 - high)


def test_rates_are_of_the_audio_in_which_a_false_alarm_is_possible() -> None:
    quiet = [0.0] * 9
    wide = judge(heard(quiet), decisions(), bells((1.0, 1.5)), collar_s=5.0)
    assert (wide.free_seconds, wide.false_alarms_per_hour, wide.false_alarms_per_hour_upper) == (0.0, 0.0, None)
    nothing = judge(heard(quiet), decisions(), (), collar_s=5.0)
    assert nothing.free_seconds == nothing.seconds == 5.0
    both = Heard(("Bell", "Dog"), heard(quiet).ends, np.zeros((9, 2), np.float32), RATE, 0.0, 5.0)
    assert judge(both, decisions(), bells((1.0, 2.0)), collar_s=0.0).free_seconds == 4.5  # 4 for Bell, 5 for Dog


def test_a_point_label_is_found_by_an_event_that_begins_within_the_collar() -> None:
    scores = [0, 0, 1, 0, 0, 0]  # an event from 1.5 to 2.0
    for point, collar, found in ((1.7, 0.0, 1), (1.0, 0.5, 1), (1.0, 0.4, 0), (2.1, 0.5, 0)):
        assert judge(heard(scores), decisions(), bells((point, point)), collar).found == found


def test_what_is_on_in_the_first_window_has_been_on_since_the_beginning() -> None:
    first = dataclasses.replace(heard([1, 0, 0, 0, 1]), first_end=WINDOW)
    assert [(e.begin_s, e.end_s) for e in detections(first, decisions())] == [(0.0, 1.0), (2.5, 3.0)]
    later = first.part(2.0, 3.0)
    assert later.first_end is None
    assert [(e.begin_s, e.end_s) for e in detections(later, decisions())] == [(2.5, 3.0)]
