"""Labels of a recording: who rings when, from a CSV that a person made.

Three forms are read; comma or tab, a header line or none:
- onset, offset, label: seconds, seconds, a label of the bundle (Audacity's label track, exported, is one); an
  apostrophe before =, +, - or @ is the one that `hearpack run` writes against spreadsheets' formulas, and falls off;
- onset, offset: every line is an interval of the one label that the caller names;
- onset, offset, id, True or False: intervals of the one label that the caller names, where it says True (the form of
  the street recording that hearpack's material has).
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import UsageError
from models.common.printable import from_csv_cell

_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class Interval:
    """Something sounds from `begin_s` to `end_s` of the recording."""

    label: str
    begin_s: float
    end_s: float


def read_labels(path: Path, labels: Sequence[str], duration_s: float, label: str | None = None) -> tuple[Interval, ...]:
    """Read a recording's labels.

    Args:
        path: the CSV.
        labels: what the bundle can hear.
        duration_s: of the recording; an interval is cut there.
        label: the label that is meant where lines name none.

    Returns:
        intervals by begin; may be empty only if the file has lines that all say False.

    Raises:
        UsageError: no such file, a line that is none of the forms, times out of order or past the recording's end, a
            label that the bundle does not know.
    """
    if label is not None:
        _known(path, 0, label, labels)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: labels cannot be read: {exc}") from exc
    rows = list(csv.reader(text.splitlines(), delimiter="\t" if "\t" in text.partition("\n")[0] else ","))
    intervals, seen = [], 0
    for number, row in enumerate(rows, start=1):
        cells = [from_csv_cell(cell.strip()) for cell in row]
        if not any(cells) or (seen == 0 and number == 1 and not _is_number(cells[0])):
            continue
        seen += 1
        interval = _interval(path, number, cells, labels, label)
        if interval is None:
            continue
        if interval.begin_s >= duration_s:
            raise UsageError(
                f"{path}, line {number}: begins at {interval.begin_s:g} s, the recording lasts {duration_s:.3f} s; "
                f"are these the labels of another recording?"
            )
        intervals.append(Interval(interval.label, interval.begin_s, min(interval.end_s, duration_s)))
    if not seen:
        raise UsageError(f"{path}: holds no labels; expected lines such as: 6.9,24.9,Bicycle bell")
    return tuple(sorted(intervals, key=lambda i: (i.begin_s, i.label)))


def _interval(path: Path, number: int, cells: list[str], labels: Sequence[str], label: str | None) -> Interval | None:
    where = f"{path}, line {number}"
    if len(cells) < 2 or not _is_number(cells[0]) or not _is_number(cells[1]):
        raise UsageError(f"{where}: expected onset,offset,label with times in seconds, got {','.join(cells)!r}")
    begin, end = float(cells[0]), float(cells[1])
    if not 0.0 <= begin < end:
        raise UsageError(f"{where}: expected 0 <= onset < offset, got {begin:g} and {end:g} s")
    if len(cells) >= 4 and cells[3].lower() in _TRUTHS:
        if label is None:
            raise UsageError(f"{where}: says {cells[3]} and names no label; tell which one is meant with --label")
        return Interval(label, begin, end) if _TRUTHS[cells[3].lower()] else None
    if len(cells) == 2 or not cells[2]:
        if label is None:
            raise UsageError(f"{where}: names no label; tell which one is meant with --label")
        return Interval(label, begin, end)
    _known(path, number, cells[2], labels)
    return Interval(cells[2], begin, end)


def _known(path: Path, number: int, name: str, labels: Sequence[str]) -> None:
    if name in labels:
        return
    where = f"{path}, line {number}" if number else "--label"
    near = difflib.get_close_matches(name, labels, n=3, cutoff=0.4)
    raise UsageError(f"{where}: {name!r} is no label of this bundle; nearest: {', '.join(near) or 'none'}")


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
