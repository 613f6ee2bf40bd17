"""Parity figures against values worked out by hand, and tolerances that can fail."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np
import pytest

from models.common.errors import UsageError
from streaming.metrics.parity import METRICS, audio_parity, embedding_parity, judge, ratio_db, score_parity

RATE = 1000


@dataclass(frozen=True)
class Limit:
    metric: str
    limit: float


def sine(seconds: float, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 50 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize(
    ("signal", "error", "expected"),
    [
        (1.0, 0.01, 20.0),
        (1.0, 0.0, 200.0),
        (0.0, 0.0, 200.0),
        (0.0, 1e-30, -200.0),
        (1.0, math.inf, -200.0),
        (math.nan, 1.0, -200.0),
        (1.0, 1e-30, 200.0),
        (1e-30, 1.0, -200.0),
    ],
)
def test_ratio_rules(signal: float, error: float, expected: float) -> None:
    assert ratio_db(signal, error) == pytest.approx(expected)


def test_exact_match() -> None:
    report = audio_parity(sine(30), sine(30), RATE)
    assert (report.snr_db, report.worst_frame_snr_db, report.drift_db) == (200.0, 200.0, 0.0)
    assert (report.max_abs_error, report.nan_count, report.samples) == (0.0, 0, 30000)
    assert json.loads(json.dumps(asdict(report), allow_nan=False)) == asdict(report)


def test_known_error_and_worst_frame() -> None:
    reference = np.full(30 * RATE, 0.5, np.float32)
    candidate = reference + np.float32(0.005)  # 40 dB below
    candidate[12_300:12_400] = 0.45  # one frame, 20 dB below
    report = audio_parity(reference, candidate, RATE)
    assert report.worst_frame == 123
    assert report.worst_frame_s == pytest.approx(12.3)
    assert report.worst_frame_snr_db == pytest.approx(20.0, abs=1e-3)
    assert report.snr_db == pytest.approx(10 * math.log10(0.25 * 300 / (0.000025 * 299 + 0.0025)), abs=1e-3)
    assert report.max_abs_error == pytest.approx(0.05, abs=1e-6)
    assert report.drift_db == pytest.approx(0.0, abs=1e-6)


def test_drift_is_first_minus_last() -> None:
    reference = sine(40)
    growth = np.where(np.arange(40 * RATE) < 20 * RATE, 0.001, 0.01)
    report = audio_parity(reference, (reference * (1 + growth)).astype(np.float32), RATE)
    assert report.first_snr_db == pytest.approx(60.0, abs=0.01)
    assert report.last_snr_db == pytest.approx(40.0, abs=0.01)
    assert report.drift_db == pytest.approx(20.0, abs=0.02)


def test_ends_are_those_of_the_active_span() -> None:
    """Silence before and after says nothing about drift, and silent frames are never the worst."""
    reference = np.concatenate([np.zeros(15 * RATE, np.float32), sine(30), np.zeros(15 * RATE, np.float32)])
    candidate = reference + np.float32(1e-5)
    report = audio_parity(reference, candidate, RATE)
    assert report.drift_db == pytest.approx(0.0, abs=0.01)
    assert report.worst_frame_snr_db > 80
    assert 150 <= report.worst_frame < 450


def test_short_and_odd_lengths() -> None:
    for n in (1, 99, 100, 101, 250):
        report = audio_parity(np.ones(n, np.float32), np.full(n, 0.9, np.float32), RATE)
        assert report.snr_db == pytest.approx(20.0, abs=1e-4)
        assert report.worst_frame_snr_db == pytest.approx(20.0, abs=1e-4)


def test_lag_is_cut_off() -> None:
    reference = sine(3)
    late = np.concatenate([np.zeros(37, np.float32), reference])
    assert audio_parity(reference, late, RATE, lag_samples=37).snr_db == 200.0
    assert audio_parity(late, reference, RATE, lag_samples=-37).snr_db == 200.0
    with pytest.raises(UsageError, match=r"\[3000\] and \[3037\]"):
        audio_parity(reference, late, RATE)


def test_nan_in_audio_is_counted_and_fails_its_frame() -> None:
    reference, candidate = sine(30), sine(30)
    candidate[15_050] = np.nan
    candidate[15_051] = np.inf
    report = audio_parity(reference, candidate, RATE)
    assert (report.nan_count, report.snr_db, report.worst_frame) == (2, -200.0, 150)
    assert (report.first_snr_db, report.last_snr_db, report.max_abs_error) == (200.0, 200.0, 0.0)
    json.dumps(asdict(report), allow_nan=False)


def test_silence_against_noise() -> None:
    silent = np.zeros(3000, np.float32)
    assert audio_parity(silent, silent, RATE).snr_db == 200.0
    assert audio_parity(silent, sine(3, 1e-6), RATE).snr_db == -200.0


def scores(windows: int, labels: int = 8) -> tuple[np.ndarray, np.ndarray]:
    table = np.tile(np.linspace(0.9, 0.2, labels, dtype=np.float32), (windows, 1))
    return table, 975 + 480 * np.arange(windows)


def test_equal_scores() -> None:
    table, ends = scores(50)
    report = score_parity(table, table.copy(), ends, RATE)
    assert (report.score_max_abs_error, report.top5_agreement, report.top1_flips, report.top5_clear_flips) == (
        0,
        1,
        0,
        0,
    )
    assert report.score_drift == 0.0


def test_flips_clear_and_not() -> None:
    table, ends = scores(50)
    other = table.copy()
    other[7, [4, 5]] = other[7, [5, 4]]  # 5th and 6th trade places, 0.1 apart: a clear flip
    table[9, 5] = table[9, 4] - np.float32(0.005)
    other[9] = table[9]
    other[9, 5] = table[9, 4] + np.float32(0.001)  # near ties may flip
    other[11, [0, 1]] = other[11, [1, 0]]  # the best two trade places: the same five
    report = score_parity(table, other, ends, RATE)
    assert report.top5_agreement == pytest.approx(48 / 50)
    assert (report.top5_clear_flips, report.top1_flips) == (1, 1)
    assert report.score_max_abs_error == pytest.approx(0.1, abs=1e-6)
    assert report.worst_window in (7, 11)
    assert report.worst_window_s == pytest.approx((975 + 480 * report.worst_window) / 1000)
    assert report.score_mean_abs_error == pytest.approx((4 * 0.1 + 0.006) / 400, abs=1e-6)


def test_score_drift() -> None:
    table, ends = scores(100)
    other = table.copy()
    other[3, 2] += np.float32(0.01)
    other[97, 2] += np.float32(0.05)
    report = score_parity(table, other, ends, RATE)
    assert (report.first_max_abs_error, report.last_max_abs_error) == (
        pytest.approx(0.01, abs=1e-6),
        pytest.approx(0.05, abs=1e-6),
    )
    assert report.score_drift == pytest.approx(0.04, abs=1e-6)
    assert report.worst_window == 97


def test_nan_in_scores() -> None:
    table, ends = scores(20)
    other = table.copy()
    other[4] = np.nan
    report = score_parity(table, other, ends, RATE)
    assert (report.nan_count, report.worst_window, report.top5_clear_flips, report.top1_flips) == (8, 4, 1, 1)
    assert report.top5_agreement == pytest.approx(19 / 20)
    json.dumps(asdict(report), allow_nan=False)


def test_few_labels_and_one_window() -> None:
    report = score_parity(np.array([[0.5, 0.1]], np.float32), np.array([[0.1, 0.5]], np.float32), np.array([100]), RATE)
    assert (report.top5_agreement, report.top1_flips, report.top5_clear_flips) == (1.0, 1, 0)
    assert report.first_max_abs_error == report.last_max_abs_error == pytest.approx(0.4)


def test_shapes_are_checked() -> None:
    table, ends = scores(3)
    for bad in ((table, table[:2], ends), (table, table, ends[:2]), (table[:0], table[:0], ends[:0])):
        with pytest.raises(UsageError, match="parity"):
            score_parity(*bad, RATE)
    with pytest.raises(UsageError, match="parity"):
        audio_parity(np.zeros(0, np.float32), np.zeros(0, np.float32), RATE)


def test_judge_says_value_limit_and_direction() -> None:
    report = audio_parity(sine(30), sine(30) * np.float32(1.001), RATE)
    checks = judge(
        report, [Limit("snr_db", 50.0), Limit("snr_db", 70.0), Limit("drift_db", 0.1), Limit("nan_count", 0)]
    )
    assert [(c.metric, c.limit, c.direction, c.passed) for c in checks] == [
        ("snr_db", 50.0, "at least", True),
        ("snr_db", 70.0, "at least", False),
        ("drift_db", 0.1, "at most", True),
        ("nan_count", 0, "at most", True),
    ]
    assert checks[0].value == pytest.approx(60.0, abs=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_passes_at_its_limit_and_fails_beyond(metric: str) -> None:
    better, worse = (0.9, 1.1) if METRICS[metric] == "at most" else (1.1, 0.9)
    assert [judge({metric: v}, [Limit(metric, 1.0)])[0].passed for v in (better, 1.0, worse, math.nan)] == [
        True,
        True,
        False,
        False,
    ]


def test_drift_counts_in_both_directions() -> None:
    assert not judge({"drift_db": -3.0}, [Limit("drift_db", 1.0)])[0].passed
    assert not judge({"score_drift": -0.1}, [Limit("score_drift", 0.01)])[0].passed


def test_every_metric_is_measured_by_a_report() -> None:
    table, ends = scores(3)
    measured = {**audio_parity(sine(1), sine(1), RATE).metrics(), **score_parity(table, table, ends, RATE).metrics()}
    measured |= embedding_parity(table, table, ends, RATE).metrics()
    assert set(measured) == set(METRICS)


def test_the_error_of_an_embedding_is_the_length_of_the_difference() -> None:
    reference, ends = np.eye(3, dtype=np.float32), np.array([10, 20, 30])
    candidate = reference.copy()
    candidate[1] = (0.6, 0.8, 0.0)
    found = embedding_parity(reference, candidate, ends, RATE)
    assert found.embedding_max_error == pytest.approx(np.hypot(0.6, 0.2))
    assert found.embedding_mean_error == pytest.approx(np.hypot(0.6, 0.2) / 3)
    assert (found.worst_window, found.worst_window_s, found.nan_count) == (1, 0.02, 0)
    candidate[2, 0] = np.nan
    broken = embedding_parity(reference, candidate, ends, RATE)
    assert (broken.embedding_max_error, broken.worst_window, broken.nan_count) == (2.0, 2, 1)
    with pytest.raises(UsageError, match=r"two tables \[windows, d\]"):
        embedding_parity(reference, candidate[:2], ends, RATE)


def test_unknown_and_unmeasured_metrics() -> None:
    with pytest.raises(UsageError, match="unknown metric 'snr'; known: snr_db"):
        judge({"snr_db": 1.0}, [Limit("snr", 1.0)])
    with pytest.raises(UsageError, match="'top1_flips' was not measured here; measured: snr_db"):
        judge({"snr_db": 1.0}, [Limit("top1_flips", 1.0)])
