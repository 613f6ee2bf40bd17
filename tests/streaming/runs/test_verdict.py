"""A run's verdict: clean, with hiccups, or not keeping up, and what gave way first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streaming.runs.record import FaultRecord, RunRecord, read_run
from streaming.runs.verdict import verdict


@pytest.fixture
def clean(make_run: Callable[..., Path]) -> RunRecord:
    run_record = read_run(make_run("a"))
    counts = dataclasses.replace(
        run_record.counts, calls=1000, misses=0, written=100_000, dropped=0, skipped_hops=0, failed_calls=0
    )
    playout = run_record.playout
    if playout is not None:
        playout = dataclasses.replace(playout, underruns=0, underrun=0, dropped=0)
    return dataclasses.replace(run_record, counts=counts, playout=playout, faults=[], first_late_ns=None)


def with_counts(record: RunRecord, **counts: Any) -> RunRecord:
    return dataclasses.replace(record, counts=dataclasses.replace(record.counts, **counts))


def test_a_clean_run_keeps_up(clean: RunRecord) -> None:
    found = verdict(clean)
    assert (found.keeps_up, found.clean) == (True, True)
    assert found.sentence.startswith("keeps up: no call late")


def test_a_few_late_calls_are_hiccups_and_more_are_not(clean: RunRecord) -> None:
    few = verdict(with_counts(clean, misses=10))
    assert (few.keeps_up, few.clean) == (True, False)
    assert few.sentence == "keeps up but for hiccups: 10 of 1,000 calls late"
    many = verdict(with_counts(clean, misses=11))
    assert (many.keeps_up, many.sentence) == (False, "does not keep up: 11 of 1,000 calls late")


def test_what_gave_way_first_is_named(clean: RunRecord) -> None:
    faults = [
        FaultRecord(1_000_000_000, "cold_input", 9, 48000, ""),
        FaultRecord(3_000_000_000, "ring_overrun", 9, 9, ""),
    ]
    record = dataclasses.replace(with_counts(clean, misses=500, dropped=5000), faults=faults)
    assert verdict(record).sentence.endswith("; first, the ring before the net overran at 3.000 s")
    record = dataclasses.replace(record, first_late_ns=2_500_000_000)
    assert verdict(record).sentence.endswith("; first, a call ended too late at 2.500 s")
    assert "5,000 of 100,000 samples dropped before the net" in verdict(record).sentence


def test_without_a_call_nothing_is_promised(clean: RunRecord) -> None:
    assert not verdict(with_counts(clean, calls=0)).keeps_up


def test_older_runs_are_judged(clean: RunRecord, tmp_path: Path) -> None:
    """They do not say when the first late call was, nor what was put in."""
    old = dataclasses.asdict(clean)
    for key in ("first_late_ns", "injected"):
        del old[key]
    (tmp_path / "run.json").write_text(json.dumps(old))
    assert verdict(read_run(tmp_path)).keeps_up
