"""streaming.runs.compare: like is compared with like, a difference is shown if it is one, counts beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.common.errors import UsageError
from streaming.runs.compare import compare
from streaming.runs.load import LedgerRows, LoadedRun, load_run


@pytest.fixture
def run(make_run: Callable[..., Path]) -> LoadedRun:
    return load_run(make_run("a"))


def rows(kind: str, total_ms: float, seed: int = 0) -> LedgerRows:
    """400 entries of a noisy delay, a tenth of it computing."""
    total = 1e6 * (total_ms + np.random.default_rng(seed).standard_normal(400))
    return LedgerRows(kind, total / 10, total, total, total)


def with_ledger(run: LoadedRun, *ledger: LedgerRows, **record: object) -> LoadedRun:
    return dataclasses.replace(run, ledger=ledger, record=dataclasses.replace(run.record, **record))


def test_a_run_is_not_different_from_itself(run: LoadedRun) -> None:
    found = compare(run, run)
    assert len(found.figures) == 6
    assert all((f.difference_ms, f.low_ms <= 0.0 <= f.high_ms, f.shown) == (0.0, True, False) for f in found.figures)
    assert all(count.a == count.b for count in found.counts)
    assert (found.kind, found.apart, found.why_not) == ("modelled", (), "")


def test_a_delay_that_grew_is_shown_with_its_sign_and_its_interval(run: LoadedRun) -> None:
    early, late = with_ledger(run, rows("block", 50.0)), with_ledger(run, rows("block", 53.0, seed=1))
    figures = {f.figure: f for f in compare(early, late).figures}
    assert list(figures) == [
        *(f"computing time of a call, {q}" for q in ("p50", "p95", "p99")),
        *(f"delay, block, {q}" for q in ("p50", "p95", "p99")),
    ]
    grown = figures["delay, block, p50"]
    assert grown.difference_ms == pytest.approx(3.0, abs=0.3)
    assert 0.0 < grown.low_ms < grown.difference_ms < grown.high_ms
    assert grown.shown
    shrunk = {f.figure: f for f in compare(late, early).figures}["delay, block, p50"]
    assert shrunk.difference_ms == pytest.approx(-grown.difference_ms)


def test_the_same_runs_give_the_same_intervals_every_time(run: LoadedRun) -> None:
    a, b = with_ledger(run, rows("block", 50.0)), with_ledger(run, rows("block", 50.1, seed=1))
    assert compare(a, b) == compare(a, b)


def test_calls_of_another_length_are_compared_by_the_second_of_sound(run: LoadedRun) -> None:
    twice = dataclasses.replace(run.record, hop_samples=2 * run.record.hop_samples)
    found = compare(run, dataclasses.replace(run, record=twice))
    figure = found.figures[0]
    assert figure.figure == "computing time for 1 s of sound, p50"
    assert figure.b_ms == pytest.approx(figure.a_ms / 2)
    assert found.figures[3].figure == "delay, block, p50"
    assert found.figures[3].a_ms == found.figures[3].b_ms


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        (("event", "window"), ("window", "event"), "window"),
        (("event",), ("window", "event"), "event"),
        (("event", "window", "block"), ("block",), "block"),
    ],
)
def test_blocks_go_before_windows_and_windows_before_events(
    run: LoadedRun, a: tuple[str, ...], b: tuple[str, ...], kind: str
) -> None:
    one, two = (with_ledger(run, *(rows(k, 40.0) for k in kinds)) for kinds in (a, b))
    assert compare(one, two).figures[-1].figure == f"delay, {kind}, p99"


def test_runs_that_have_no_kind_in_common_have_counts_alone(run: LoadedRun) -> None:
    empty = LedgerRows("block", *[np.zeros(0)] * 4)
    found = compare(with_ledger(run, rows("block", 40.0)), with_ledger(run, empty, rows("window", 40.0)))
    assert found.figures == ()
    assert found.why_not == "the runs have no ledger entries of one kind in common"
    assert found.counts


def test_measured_and_modelled_times_are_not_compared(run: LoadedRun) -> None:
    found = compare(run, with_ledger(run, *run.ledger, clock="realtime"))
    assert (found.kind, found.figures) == ("mixed", ())
    assert found.why_not.startswith("A's times were modelled, B's measured: not comparable")
    assert [name for name, _, _ in found.apart] == ["clock"]


def test_counts_are_those_of_each_run(run: LoadedRun, make_run: Callable[..., Path]) -> None:
    counts = dataclasses.replace(run.record.counts, misses=7, lost=11)
    assert run.record.playout is not None
    playout = dataclasses.replace(run.record.playout, underruns=5)
    found = compare(run, with_ledger(run, *run.ledger, counts=counts, playout=playout))
    changed = {c.figure: (c.a, c.b) for c in found.counts if c.a != c.b}
    assert changed == {"misses": (3, 7), "lost": (0, 11), "playout underruns": (1, 5)}
    window = load_run(make_run("c", "classifier"))
    names = [c.figure for c in compare(window, window).counts]
    assert "events" in names
    assert "playout underruns" not in names


def test_what_differs_in_how_they_were_made_is_said(run: LoadedRun) -> None:
    found = compare(run, with_ledger(run, *run.ledger, policy="grow_delay", seed=9, calibration=""))
    assert found.apart == (
        ("policy", "drop_oldest", "grow_delay"),
        ("compute times", "a machine, paced", "measured in the run"),
        ("seed", "1", "9"),
    )


def test_runs_of_different_tasks_are_refused(run: LoadedRun, make_run: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=r"c.run: its task is classifier, that of .*a.run enhancer; expected two"):
        compare(run, load_run(make_run("c", "classifier")))
