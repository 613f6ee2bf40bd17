"""Labels of a recording: who rings when, from a file that a person made (its forms: streaming.files.label_formats).

An apostrophe before =, +, - or @ is the one that `hearpack run` writes against spreadsheets' formulas, and falls off.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.common.errors import UsageError
from models.common.printable import from_csv_cell
from streaming.files.label_formats import LabelRow, read_rows

_SLACK_S = 1.0  # what a label may end past the recording: rounding, and codecs that cut
_AUDIOSET_ID = re.compile(r"/[mgt]/\w+")


@dataclass(frozen=True)
class Interval:
    """Something sounds from `begin_s` to `end_s` of the recording; both are the same for a point label."""

    label: str
    begin_s: float
    end_s: float


def read_labels(
    path: Path, labels: Sequence[str], duration_s: float, label: str | None = None, recording: str | None = None
) -> tuple[Interval, ...]:
    """Read a recording's labels.

    Args:
        path: the label file.
        labels: what the bundle can hear.
        duration_s: of the recording; an interval that ends at most a second later is cut there.
        label: the label that is meant where lines name none.
        recording: the recording's file name: where lines name files, those of others are left out.

    Returns:
        intervals by begin; may be empty only if the file has lines that all say False.

    Raises:
        UsageError: no such file, a line that is none of the forms, times out of order or past the recording's end, a
            label that the bundle does not know, lines for other recordings only, or a `label` that no line is of.
    """
    if label is not None:
        _known("--label", label, labels)
    rows = read_rows(path)
    if not rows:
        raise UsageError(f"{path}: holds no labels; expected lines such as: 6.9,24.9,Bicycle bell")
    rows = _of_recording(path, rows, recording)
    ids = {row.label for row in rows if row.label is not None and _AUDIOSET_ID.fullmatch(row.label)}
    intervals = {_interval(path, row, labels, duration_s, label, ids) for row in rows if row.holds}
    named = {interval.label for interval in intervals}
    if label is not None and intervals and label not in named:
        raise UsageError(
            f"--label {label!r}: the lines of {path} name their labels: {', '.join(sorted(named)[:5])}; "
            f"leave --label out, or name one of them"
        )
    # Raven lists a selection once for each view; the same interval twice is one.
    return tuple(sorted(intervals, key=lambda i: (i.begin_s, i.label, i.end_s)))


def _of_recording(path: Path, rows: tuple[LabelRow, ...], recording: str | None) -> tuple[LabelRow, ...]:
    """The rows that belong to a recording: all of them where none names a file."""
    files = {row.file for row in rows if row.file is not None}
    if not files or recording is None:
        return rows
    own = {file for file in files if _stem(file) == _stem(recording)}
    timed = all(row.end_s is not None for row in rows)
    if not own and timed and len(files) == 1 and not PurePosixPath(next(iter(files))).suffix:
        own = files  # an id (AudioSet's segments): no file's name that could differ
    if not own:
        named = ", ".join(sorted(files)[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        raise UsageError(f"{path}: labels {named}, not {recording}; expected lines of this recording (its file name)")
    return tuple(row for row in rows if row.file is None or row.file in own)


def _stem(file: str) -> str:
    return PurePosixPath(file.replace("\\", "/")).stem.lower()


def _interval(
    path: Path, row: LabelRow, labels: Sequence[str], duration_s: float, label: str | None, ids: set[str]
) -> Interval:
    where = f"{path}, line {row.line}"
    begin, end = row.begin_s, duration_s if row.end_s is None else row.end_s
    if not 0.0 <= begin <= end:
        hint = "; is the second one a duration? Then add the header onset,duration,label" if begin >= 0.0 else ""
        raise UsageError(f"{where}: expected 0 <= onset <= offset, got {begin:g} and {end:g} s{hint}")
    if begin >= duration_s or end > duration_s + _SLACK_S:
        what = f"begins at {begin:g}" if begin >= duration_s else f"ends at {end:g}"
        raise UsageError(
            f"{where}: {what} s, the recording lasts {duration_s:.3f} s; are these milliseconds or samples, "
            f"or the labels of another recording?"
        )
    name = None if row.label is None else from_csv_cell(row.label)
    if name in ids and name not in labels:
        if label is None or len(ids) > 1:
            raise UsageError(
                f"{where}: {name} is an AudioSet id; this bundle knows labels by name: "
                f"{'write the names instead' if len(ids) > 1 else 'tell which one is meant with --label'}"
            )
        name = label
    if name is None:
        if label is None:
            raise UsageError(f"{where}: names no label; tell which one is meant with --label")
        name = label
    _known(where, name, labels)
    return Interval(name, begin, min(end, duration_s))


def _known(where: str, name: str, labels: Sequence[str]) -> None:
    if name in labels:
        return
    near = difflib.get_close_matches(name, labels, n=3, cutoff=0.4)
    raise UsageError(f"{where}: {name!r} is no label of this bundle; nearest: {', '.join(near) or 'none'}")
