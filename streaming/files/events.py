"""Events of a recording in seconds, and as files: for people, for `hearpack tune` and for Audacity."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from models.common.errors import UsageError
from models.common.files import save_text
from models.common.printable import csv_cell, printable
from runtimes.bundle import Manifest
from streaming.core.decisions import SoundEvent
from streaming.core.event_times import event_seconds

EVENT_FILES = (".csv", ".json", ".txt")


@dataclass(frozen=True)
class TimedEvent:
    """Something was heard in a recording.

    Attributes:
        onset_s, offset_s: seconds of the recording, see streaming.core.event_times.
        label, confidence, index: as SoundEvent has them.
        onset_sample, offset_sample: as SoundEvent has them, at the model's rate; they lag the recording by the
            resampler's delay.
    """

    onset_s: float
    offset_s: float
    label: str
    confidence: float
    index: int
    onset_sample: int
    offset_sample: int


def timed_events(
    events: Iterable[SoundEvent], manifest: Manifest, lag_samples: int, duration_s: float
) -> tuple[TimedEvent, ...]:
    """A stream's finished events in seconds, by onset.

    Args:
        events: closed ones.
        manifest: of the classifier that heard them.
        lag_samples: how far its stream lags the recording, at its rate.
        duration_s: of the recording.
    """
    timed = []
    for event in events:
        offset = event.onset_sample if event.offset_sample is None else event.offset_sample
        begin_s, end_s = event_seconds(
            event.onset_sample,
            offset,
            manifest.hop_samples,
            manifest.buffer.samples,
            rate_hz=manifest.geometry.sample_rate_hz,
            lag_samples=lag_samples,
            duration_s=duration_s,
        )
        sound = (event.label, event.confidence, event.index, event.onset_sample, offset)
        timed.append(TimedEvent(round(begin_s, 9), round(end_s, 9), *sound))
    return tuple(sorted(timed, key=lambda e: (e.onset_sample, e.index)))


def check_event_file(path: Path) -> None:
    """UsageError unless events can be written under this name."""
    if path.suffix.lower() not in EVENT_FILES:
        raise UsageError(f"--output: a classifier writes .csv, .json or .txt (labels for Audacity), got {path.name!r}")


def write_events(path: Path, events: Iterable[TimedEvent], sample_rate_hz: int) -> None:
    """Write events, onset first: .csv (which `hearpack tune` reads), .json, or .txt, a label track for Audacity.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = [asdict(event) for event in events]
    if path.suffix.lower() == ".json":
        text = json.dumps({"sample_rate_hz": sample_rate_hz, "events": rows}, indent=2) + "\n"
    elif path.suffix.lower() == ".txt":
        lines = (f"{r['onset_s']:.6f}\t{r['offset_s']:.6f}\t{printable(str(r['label']))}\n" for r in rows)
        text = "".join(lines)
    else:
        buffer = io.StringIO(newline="")
        fields = [*TimedEvent.__dataclass_fields__, "sample_rate_hz"]
        writer = csv.DictWriter(buffer, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {**row, "label": csv_cell(str(row["label"])), "sample_rate_hz": sample_rate_hz} for row in rows
        )
        text = buffer.getvalue()
    save_text(path, text)
