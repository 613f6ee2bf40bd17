"""What the rows of a run say together, read shard by shard."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hearpack.batch.table import TIMING, done_shards, read_rows, shard_file
from runtimes.bundle import Manifest

SLOWEST = 10
_EXAMPLES = 3
_LEVEL_DB = 10
_NUMBERS = re.compile(r"\b\d{3,}\b|\b\d+\.\d+\b|(?<!\w)[-+]\d+\b")


@dataclass
class Failures:
    """Recordings that failed alike.

    Attributes:
        count: how many.
        examples: the first ones' reasons.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """All rows of a run.

    Attributes:
        task: the net's.
        files, failed: rows.
        audio_s, compute_s: seconds of sound, and in the net.
        bytes: of the recordings.
        labels: by label, (events, seconds, files with it), most events first.
        levels: by the lower edge of ten dB of RMS, files; None for silence.
        rates: by (rate in Hz, channels), files.
        failures: by reason without its file and figures.
        warned: files with a warning.
        slowest: (seconds in the net, seconds of sound, file).
    """

    task: str
    files: int
    failed: int
    audio_s: float
    compute_s: float
    bytes: int
    labels: tuple[tuple[str, int, float, int], ...]
    levels: tuple[tuple[int | None, int], ...]
    rates: tuple[tuple[int, int, int], ...]
    failures: tuple[tuple[str, Failures], ...]
    warned: int
    slowest: tuple[tuple[float, float, str], ...]


def rows_of(output: Path) -> Iterator[dict[str, Any]]:
    """Every row of a run, by shard."""
    for number in sorted(done_shards(output)):
        yield from read_rows(shard_file(output, number))


def summarize(output: Path, manifest: Manifest) -> Summary:
    """Read a run's rows; memory grows with labels and kinds of failures alone.

    Raises:
        OutputError: a file of rows is damaged.
    """
    files = failed = size = warned = 0
    audio_s = compute_s = 0.0
    events: Counter[str] = Counter()
    heard_in: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    levels: Counter[int | None] = Counter()
    rates: Counter[tuple[int, int]] = Counter()
    failures: dict[str, Failures] = {}
    slowest: list[tuple[float, float, str]] = []
    for row in rows_of(output):
        files += 1
        if row["status"] != "done":
            failed += 1
            kind = failures.setdefault(_kind(row), Failures())
            kind.count += 1
            if len(kind.examples) < _EXAMPLES:
                kind.examples.append(row["reason"])
            continue
        audio_s += row["duration_s"]
        compute_s += row[TIMING]
        size += row["bytes"]
        warned += bool(row["warnings"])
        rms = row["rms_dbfs"]
        levels[None if rms is None else int(rms // _LEVEL_DB) * _LEVEL_DB] += 1
        rates[row["sample_rate_hz"], row["channels"]] += 1
        for event in row.get("events") or ():
            events[event["label"]] += 1
            seconds[event["label"]] += event["offset_s"] - event["onset_s"]
        heard_in.update({event["label"] for event in row.get("events") or ()})
        heapq.heappush(slowest, (row[TIMING], row["duration_s"], row["path"]))
        if len(slowest) > SLOWEST:
            heapq.heappop(slowest)
    return Summary(
        task=manifest.task,
        files=files,
        failed=failed,
        audio_s=audio_s,
        compute_s=compute_s,
        bytes=size,
        labels=tuple((label, count, seconds[label], heard_in[label]) for label, count in events.most_common()),
        levels=tuple(sorted(levels.items(), key=lambda found: (found[0] is not None, found[0] or 0))),
        rates=tuple((*shape, count) for shape, count in rates.most_common()),
        failures=tuple(sorted(failures.items(), key=lambda found: (-found[1].count, found[0]))),
        warned=warned,
        slowest=tuple(sorted(slowest, reverse=True)),
    )


def _kind(row: dict[str, Any]) -> str:
    """A reason without its file and figures, so that equal ones fall together."""
    reason = str(row["reason"]).removeprefix(f"{row['path']}: ").split("; ")[0]
    return _NUMBERS.sub("N", reason)
