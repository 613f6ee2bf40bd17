"""streaming.simulator.pipeline.pending: an entry is finished once, at its sample's turn, or counted as lost."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.runs.record import PARTS
from streaming.simulator.pipeline.ledger import Ledger
from streaming.simulator.pipeline.pending import Pending

RATE, HEAD = 8000, 3 + PARTS.index("output_resampler")
MS = 1_000_000


def pending_for(places: list[float], file: Path | None = None) -> tuple[Pending, Ledger]:
    """Entries that came at 1 ms each after the other, their parts up to compute 1 us each."""
    ledger = Ledger(file)
    pending, count = Pending(ledger, 2 * MS, 3 * MS, float(RATE)), len(places)
    rows = np.full((count, HEAD), 1000, np.int64)
    rows[:, 0] = np.arange(count)
    pending.add(np.array(places, np.float64), np.arange(1, count + 1, dtype=np.int64) * MS, rows)
    return pending, ledger


def finished(ledger: Ledger) -> int:
    ledger.close()
    return sum(s.total.count for s in ledger.summaries())


def read(pending: Pending, positions: list[float], block_ns: int = 10 * MS) -> None:
    """Reads of the positions between, one every 10 ms from 100 ms on."""
    count = len(positions) - 1
    times = 100 * MS + block_ns * np.arange(count, dtype=np.int64)
    pending.finish(np.array(positions, np.float64), np.zeros(count), times)


def test_a_sample_waits_from_its_calls_end_to_its_place_in_the_block(tmp_path: Path) -> None:
    pending, ledger = pending_for([0.0, 40.0, 120.0], tmp_path / "ledger.csv")
    read(pending, [0.0, 80.0, 160.0])
    ledger.close()
    with (tmp_path / "ledger.csv").open(newline="") as stream:
        lines = [{k: int(v) for k, v in line.items() if k != "kind"} for line in csv.DictReader(stream)]
    # played at 100 ms, 105 ms (40 samples into the first block) and 115 ms (40 into the second); came at 1, 2, 3 ms
    waited = [100 * MS - 1 * MS, 105 * MS - 2 * MS, 115 * MS - 3 * MS]
    assert [line["playout_prefill"] for line in lines] == [w - 2 * MS for w in waited]
    assert {line["output_resampler"] for line in lines} == {2 * MS}
    assert {line["output_route"] for line in lines} == {3 * MS}
    for line in lines:
        assert sum(line[name] for name in PARTS) == line["total_ns"]


PLACES = st.lists(st.floats(0.0, 990.0), min_size=1, max_size=30).map(sorted)


@given(places=PLACES, cuts=st.lists(st.integers(1, 99), max_size=8, unique=True).map(sorted))
@settings(max_examples=40, deadline=None)
def test_every_entry_is_finished_once_whatever_reads_come_at_a_time(places: list[float], cuts: list[int]) -> None:
    at_once, ledger = pending_for(places)
    positions = [10.0 * k for k in range(101)]
    read(at_once, positions)
    parted, other = pending_for(places)
    for begin, end in pairwise([0, *cuts, 100]):
        times = 100 * MS + 10 * MS * np.arange(begin, end, dtype=np.int64)
        parted.finish(np.array(positions[begin : end + 1]), np.zeros(end - begin), times)
    assert finished(ledger) == finished(other) == len(places)
    assert ledger.summaries() == other.summaries()
    assert at_once.lost == parted.lost == 0


@given(
    places=PLACES,
    dropped=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 200)), max_size=3),
    upto=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_entries_are_finished_lost_or_still_pending_and_nothing_else(
    places: list[float], dropped: list[tuple[int, int]], upto: int
) -> None:
    pending, ledger = pending_for(places)
    for place, count in dropped:
        pending.forget(place, count)
    read(pending, [10.0 * k for k in range(upto + 1)])
    so_far = pending.lost
    read(pending, [10.0 * k for k in range(upto, 102)])
    assert so_far <= pending.lost
    assert finished(ledger) + pending.lost == len(places)


def test_samples_that_were_dropped_lose_their_entries_and_later_ones_move_up() -> None:
    pending, ledger = pending_for([10.0, 50.0, 60.0, 100.0])
    pending.forget(45, 20)  # 50 and 60 never come; 100 is at 80 now
    assert pending.lost == 2
    read(pending, [0.0, 80.0])
    assert finished(ledger) == 1
    read(pending, [80.0, 81.0])
    assert finished(ledger) == 2


def test_what_a_cut_passes_over_loses_its_entries() -> None:
    pending, ledger = pending_for([10.0, 50.0, 60.0])
    pending.pass_over(60.0)
    assert pending.lost == 2
    read(pending, [60.0, 61.0])
    assert finished(ledger) == 1


def test_a_sample_that_was_gone_before_it_was_looked_for_is_lost() -> None:
    pending, ledger = pending_for([5.0, 50.0])
    read(pending, [40.0, 80.0])
    assert (finished(ledger), pending.lost) == (1, 1)
