"""The files of a finished run in memory: its record, and of its long lists what reports and comparisons need."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from streaming.files.wav import read_wav
from streaming.runs.record import LEDGER_COLUMNS, RUN_FILE, Provenance, RunRecord, read_run

LAST_END = 2**53  # of a window, in samples


@dataclass(frozen=True)
class LedgerRows:
    """Ledger entries of one kind, in the order of time; ns, and the samples of the model's stream that they follow."""

    kind: str
    compute_ns: NDArray[np.float64]
    total_ns: NDArray[np.float64]
    captured_ns: NDArray[np.float64]
    content_samples: NDArray[np.float64]


@dataclass(frozen=True)
class LoadedRun:
    """A run's folder in memory."""

    folder: Path
    record: RunRecord
    ledger: tuple[LedgerRows, ...]
    scores: NDArray[np.float32] | None
    ends: NDArray[np.int64] | None
    heard: NDArray[np.float32] | None


def load_run(folder: Path) -> LoadedRun:
    """Read a run's folder, whole.

    Raises:
        UsageError: no run, an invalid record, or a ledger or scores that are cut off.
        AudioError: heard.wav is damaged.
    """
    record = read_run(folder)
    place = folder.parent if folder.name == RUN_FILE else folder
    wav = place / "heard.wav"
    scores, ends = _scores(place)
    wrong = [e.index for e in record.events if e.index < 0 or (scores is not None and e.index >= scores.shape[1])]
    if wrong:
        raise UsageError(
            f"{place / RUN_FILE}: an event of label {wrong[0]}, which the scores do not have; simulate again"
        )
    return LoadedRun(
        folder=place,
        record=record,
        ledger=_ledger(place / "ledger.csv"),
        scores=scores,
        ends=ends,
        heard=read_wav(wav).samples[0] if wav.is_file() else None,
    )


def _ledger(file: Path) -> tuple[LedgerRows, ...]:
    if not file.is_file():
        return ()
    wanted = ("compute", "total_ns", "captured_ns", "content_sample")
    rows: dict[str, list[tuple[float, ...]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            if tuple(header) != LEDGER_COLUMNS:
                raise UsageError(f"{file}: expected the columns {', '.join(LEDGER_COLUMNS)}; simulate again")
            places = [header.index(name) for name in wanted]
            for row in reader:
                if len(row) != len(LEDGER_COLUMNS):
                    raise UsageError(f"{file}: line {reader.line_num} is cut off; simulate again")
                rows.setdefault(row[0], []).append(tuple(_whole(row[place]) for place in places))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as exc:
        raise UsageError(f"{file}: cannot be read as a ledger ({exc}); simulate again") from exc
    kinds = {kind: np.array(values, np.float64) for kind, values in rows.items()}
    return tuple(LedgerRows(kind, *values.T) for kind, values in kinds.items())


def _whole(cell: str) -> float:
    return float(int(cell)) if cell else 0.0


def _scores(place: Path) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None]:
    files = place / "scores.f32", place / "ends.i64"
    if not all(file.is_file() for file in files):
        return None, None
    ends = np.frombuffer(files[1].read_bytes()[: files[1].stat().st_size // 8 * 8], "<i8")
    values = np.frombuffer(files[0].read_bytes()[: files[0].stat().st_size // 4 * 4], "<f4")
    if not len(ends):
        return None, None
    if len(values) % len(ends) or not len(values):
        raise UsageError(f"{files[0]}: {len(values)} scores do not fit {len(ends)} windows: cut off; simulate again")
    if ends[0] < 0 or ends[-1] > LAST_END or (np.diff(ends) < 0).any():
        raise UsageError(f"{files[1]}: the windows' ends are not in order of time: damaged; simulate again")
    return values.reshape(len(ends), -1), ends


def delay_kind(record: RunRecord) -> Provenance:
    """Delays of a run in real time were measured; those of a virtual one follow from a profile."""
    return "measured" if record.clock == "realtime" else "modelled"
