"""What a report shows, gathered from the files of runs, cold starts and advice: plain data, no drawing.

The same files give the same bytes. Every figure carries "measured", "modelled" or "counted", and what was measured and
what was modelled are never put into one list.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from models.common.version import __version__
from streaming.advice.cold_start import advice, summarise
from streaming.measure.cold_start import ColdStart
from streaming.report.charts import columns, png
from streaming.runs.compare import Comparison, compare
from streaming.runs.load import LoadedRun, delay_kind
from streaming.runs.record import PARTS, FaultRecord, RunRecord
from streaming.runs.verdict import verdict

Data = dict[str, Any]

DRAWN_POINTS = 600
SPECTRUM_COLUMNS, SPECTRUM_ROWS = 640, 96
SPECTRUM_WINDOW, SPECTRUM_HOP = 512, 128
SPECTRUM_RANGE_DB = 80.0
SHOWN_LABELS = 6
SHOWN_FAULTS = 20


def gather(
    runs: Sequence[LoadedRun], cold_starts: Sequence[ColdStart], advices: Sequence[Data], command: Sequence[str]
) -> tuple[Data, tuple[Comparison, ...]]:
    """Everything the page shows, and the comparisons in it.

    Args:
        runs: first is A, the others are compared with it.
        cold_starts: any number.
        advices: what `hearpack advise --json` gave.
        command: the command line that makes this report.

    Raises:
        UsageError: nothing to report, or runs that cannot be compared.
    """
    if not runs and not cold_starts and not advices:
        raise UsageError("report: expected at least one run (NAME.run), cold start or advice")
    names = [chr(ord("A") + number) for number in range(len(runs))]
    comparisons = tuple(compare(runs[0], run) for run in runs[1:])
    data = {
        "schema": "hearpack-report/1",
        "hearpack": __version__,
        "command": list(command),
        "runs": [_run(name, run) for name, run in zip(names, runs, strict=True)],
        "comparisons": [
            {"a": names[0], "b": name, **dataclasses.asdict(found)}
            for name, found in zip(names[1:], comparisons, strict=True)
        ],
        "cold_starts": [_cold_start(report) for report in cold_starts],
        "advice": list(advices),
    }
    return data, comparisons


def dump(data: Data) -> str:
    """The data as JSON text: sorted keys, newline at the end."""
    return json.dumps(data, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _run(name: str, run: LoadedRun) -> Data:
    record = run.record
    plain = dataclasses.asdict(record)
    plain.pop("envelope")
    return {
        "name": name,
        "folder": run.folder.name,
        "record": plain,
        "delay_kind": delay_kind(record),
        "envelope": _envelope(record),
        "spectrogram": None if run.heard is None else _spectrogram(run.heard, record.model_rate_hz),
        "scores": _score_lines(run),
        "faults": _marks(run),
        "fault_kinds": _fault_kinds(record.faults),
        "verdict": dataclasses.asdict(verdict(record)),
    }


def _marks(run: LoadedRun) -> list[Data]:
    """The first faults of each kind, and where on the model's stream each lies (None where nothing tells)."""
    marks = []
    counts: dict[str, int] = {}
    steps = next((rows for rows in run.ledger if rows.kind in ("block", "window")), None)
    for fault in run.record.faults:
        counts[fault.kind] = counts.get(fault.kind, 0) + 1
        if counts[fault.kind] > SHOWN_FAULTS:
            continue
        stream_s = None
        if steps is not None:  # the sample that was captured when it happened
            sample = float(np.interp(fault.time_ns, np.maximum.accumulate(steps.captured_ns), steps.content_samples))
            stream_s = round(max(0.0, sample) / run.record.model_rate_hz, 4)
        marks.append({**dataclasses.asdict(fault), "stream_s": stream_s})
    return marks


def _fault_kinds(faults: Sequence[FaultRecord]) -> list[Data]:
    """A row a kind, the rarest first: forty overruns are not to hide the one dropout."""
    kinds: dict[str, list[FaultRecord]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    return [
        {
            "kind": kind,
            "count": len(found),
            "first_s": found[0].time_ns / 1e9,
            "samples": sum(fault.samples for fault in found),
            "detail": ", ".join(dict.fromkeys(fault.detail for fault in found if fault.detail)),
        }
        for kind, found in sorted(kinds.items(), key=lambda item: (len(item[1]), item[0]))
    ]


def _envelope(record: RunRecord) -> Data:
    points = record.envelope
    step = record.envelope_step_samples / record.model_rate_hz
    parts = columns(len(points), DRAWN_POINTS)
    return {
        "at_s": [round(a * step, 4) for a, _ in parts],
        "low": [min(p.low for p in points[a:b]) for a, b in parts],
        "high": [max(p.high for p in points[a:b]) for a, b in parts],
        "end_s": round(len(points) * step, 4),
    }


def _spectrogram(samples: NDArray[np.float32], rate_hz: int) -> Data | None:
    """The loudest of each column and row, dB below the loudest bin, as a picture."""
    frames = (len(samples) - SPECTRUM_WINDOW) // SPECTRUM_HOP + 1
    if frames < 2:
        return None
    window = np.hanning(SPECTRUM_WINDOW).astype(np.float32)
    bins = SPECTRUM_WINDOW // 2
    rows = [(bins * r // SPECTRUM_ROWS, bins * (r + 1) // SPECTRUM_ROWS) for r in range(SPECTRUM_ROWS)]
    picture = np.zeros((SPECTRUM_ROWS, len(columns(frames, SPECTRUM_COLUMNS))))
    for column, (begin, end) in enumerate(columns(frames, SPECTRUM_COLUMNS)):
        starts = np.arange(begin, end)[:: max(1, (end - begin) // 8)] * SPECTRUM_HOP  # eight frames a column are plenty
        power = np.abs(np.fft.rfft(samples[starts[:, None] + np.arange(SPECTRUM_WINDOW)] * window, axis=1)).max(axis=0)
        picture[:, column] = [power[a : max(b, a + 1)].max() for a, b in rows]
    level = 20.0 * np.log10(np.maximum(picture, 1e-9) / max(float(picture.max()), 1e-9))
    shown = np.clip(1.0 + level / SPECTRUM_RANGE_DB, 0.0, 1.0)
    return {
        "png": png(shown[::-1]),
        "end_s": round(len(samples) / rate_hz, 4),
        "top_khz": rate_hz / 2000.0,
        "range_db": SPECTRUM_RANGE_DB,
    }


def _score_lines(run: LoadedRun) -> Data | None:
    """The labels that were on longest, longest first; those with the highest scores where nothing turned on."""
    if run.scores is None or run.ends is None:
        return None
    scores = np.nan_to_num(run.scores, nan=0.0)
    names = {event.index: event.label for event in run.record.events}
    peaks = scores.max(axis=0)
    highest = [int(i) for i in np.argsort(-peaks, kind="stable")]
    on = dict.fromkeys(names, 0)
    for event in run.record.events:
        on[event.index] += event.offset_sample - event.onset_sample + run.record.hop_samples
    longest = sorted(on, key=lambda index: (-on[index], index))
    shown = (longest or highest[:3])[:SHOWN_LABELS]
    parts = columns(len(scores), DRAWN_POINTS)
    rate = run.record.model_rate_hz
    return {
        "windows": len(scores),
        "at_s": [round(float(run.ends[b - 1]) / rate, 4) for _, b in parts],
        "labels": [names.get(i, f"label {i}") for i in shown],
        "values": [[round(float(scores[a:b, i].max()), 5) for a, b in parts] for i in shown],
        "others": len(names) - len([i for i in shown if i in names]),
    }


def _cold_start(report: ColdStart) -> Data:
    return {
        "bundle": report.bundle,
        "artefact": report.artefact,
        "runtime": report.runtime,
        "machine": report.machine,
        "runs": len(report.conditions[0].runs),
        "conditions": [dataclasses.asdict(summarise(c)) for c in report.conditions],
        "advice": list(advice(report)),
        "limits": list(report.limits),
    }


def part_order(parts: Sequence[str]) -> list[str]:
    """Ledger parts in the order in which the sound meets them."""
    return [name for name in PARTS if name in parts]
