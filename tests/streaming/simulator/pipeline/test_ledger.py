"""streaming.simulator.pipeline.ledger: a line's parts add up to its total, on disk and in the figures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import OutputError
from streaming.runs.record import LEDGER_COLUMNS, PARTS
from streaming.simulator.pipeline.ledger import KINDS, PARTS_OF, Kind, Ledger


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Entries as a stage gives them: index, content sample, captured, parts, total."""
    generator = np.random.default_rng(seed)
    found = generator.integers(0, 50_000_000, (count, 3 + len(PARTS) + 1))
    found[:, 0] = np.arange(count)
    found[:, -1] = found[:, 3:-1].sum(1)
    return found


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@given(cuts=st.lists(st.integers(0, 2500), max_size=5))
@settings(max_examples=10, deadline=None)
def test_any_partition_of_the_entries_gives_the_same_file_and_figures(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    entries, folder = rows(2500), tmp_path_factory.mktemp("ledger")
    whole, parted = Ledger(folder / "whole.csv"), Ledger(folder / "parted.csv")
    whole.add_rows("block", entries)
    for part in np.split(entries, sorted(cuts)):
        parted.add_rows("block", part)
    whole.close()
    parted.close()
    assert (folder / "whole.csv").read_bytes() == (folder / "parted.csv").read_bytes()
    assert whole.summaries() == parted.summaries()
    assert len(lines(folder / "whole.csv")) == 2500


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_every_line_add_up_to_its_total(kind: Kind, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    parts = tuple(1000 * (k + 1) if name in PARTS_OF[kind] else 0 for k, name in enumerate(PARTS))
    totals = [ledger.add(kind, index, 10 * index, 7, tuple(index * p for p in parts)) for index in range(1, 4)]
    ledger.close()
    found = lines(tmp_path / "ledger.csv")
    assert list(found[0]) == list(LEDGER_COLUMNS)
    assert [int(line["total_ns"]) for line in found] == totals == [k * sum(parts) for k in (1, 2, 3)]
    for line in found:
        assert sum(int(line[name]) for name in PARTS) == int(line["total_ns"])
    (summary,) = ledger.summaries()
    assert (summary.kind, tuple(summary.parts)) == (kind, PARTS_OF[kind])
    assert sum(summary.mean_parts.values()) == pytest.approx(summary.total.mean) == pytest.approx(np.mean(totals))


def test_figures_of_each_kind_are_its_own() -> None:
    ledger = Ledger(None)
    ledger.add("event", 0, 0, 0, (5,) + (0,) * 11)
    ledger.add("window", 0, 0, 0, (3,) + (0,) * 11)
    ledger.close()
    assert [(s.kind, s.total.count, s.total.mean) for s in ledger.summaries()] == [
        ("window", 1, 3.0),
        ("event", 1, 5.0),
    ]


def test_an_unwritable_ledger_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ledger.csv: cannot be written"):
        Ledger(tmp_path / "none" / "ledger.csv")


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    ledger = Ledger(full)
    with pytest.raises(OutputError, match=r"/dev/full: cannot be written: No space left"):
        ledger.add_rows("block", rows(100_000))
