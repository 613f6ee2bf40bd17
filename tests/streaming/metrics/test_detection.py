"""Decision quality on synthetic scores with answers worked out by hand; label files of every form and fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.errors import UsageError
from runtimes.bundle import Decisions
from streaming.files.labels import Interval, read_labels
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
    assert far.false_alarms_per_hour == pytest.approx(3600.0 / 5.0)
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


FORMS = {
    "header": "onset_s,offset_s,label\n1.0,2.5,Bell\n0.5,0.75,Dog\n",
    "none": "1.0,2.5,Bell\n0.5,0.75,Dog\n\n",
    "audacity": "1.0\t2.5\tBell\n0.5\t0.75\tDog\n",
    "windows": "\ufeff1.0,2.5,Bell\r\n0.5,0.75,Dog\r\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_label_files(form: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(FORMS[form].encode())
    assert read_labels(file, LABELS, 2.0) == (Interval("Dog", 0.5, 0.75), Interval("Bell", 1.0, 2.0))


def test_lines_without_a_label_mean_the_one_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("0.0,1.3,189765,True\n1.3,6.9,344574,False\n")
    assert read_labels(file, LABELS, 9.0, "Bell") == (Interval("Bell", 0.0, 1.3),)
    file.write_text("0.0,1.3\n")
    assert read_labels(file, LABELS, 9.0, "Rain") == (Interval("Rain", 0.0, 1.3),)


FAULTS = {
    "": "holds no labels",
    "1,2,Bel\n": "line 1: 'Bel' is no label of this bundle; nearest: Bell",
    "1,2,3,True\n": "says True and names no label; tell which one is meant with --label",
    "1,2\n": "names no label",
    "2,1,Bell\n": "0 <= onset < offset, got 2 and 1",
    "1,2,Bell\nx,3,Bell\n": "line 2: expected onset,offset,label",
    "1,nan,Bell\n": "line 1: expected onset,offset,label",
    "90,91,Bell\n": "begins at 90 s, the recording lasts 60.000 s",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_of_label_files_are_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_labels(file, LABELS, 60.0)
    assert FAULTS[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_file_that_is_absent_or_binary(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_labels(tmp_path / "absent.csv", LABELS, 1.0)
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="cannot be read"):
        read_labels(tmp_path / "binary.csv", LABELS, 1.0)
    with pytest.raises(UsageError, match="--label: 'Bel' is no label"):
        read_labels(tmp_path / "absent.csv", LABELS, 1.0, "Bel")
