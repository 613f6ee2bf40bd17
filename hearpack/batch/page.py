"""The summary of a batch as one HTML page that needs no network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from hearpack.batch.job import RunFacts, Seen
from hearpack.batch.summary import Summary
from models.common.files import write_atomic
from models.common.printable import counted
from streaming.report.charts import details, table, text, tiles
from streaming.report.page import KINDS, sheet
from streaming.report.run_sections import Section

PAGE = "summary.html"
_MOST_LABELS = 50


def write_page(output: Path, summary: Summary, seen: Seen, facts: RunFacts) -> Path:
    """Write summary.html and summary.json into `output`; the path of the page."""
    plain = {"summary": dataclasses.asdict(summary), "run": dataclasses.asdict(facts), "seen": dataclasses.asdict(seen)}
    data = json.dumps(plain, sort_keys=True)
    write_atomic(output / "summary.json", json.dumps(plain, indent=1, sort_keys=True) + "\n")
    sections = [Section("short", "in short", "In short", _short(summary, seen))]
    if summary.labels:
        sections.append(Section("events", "events", "What was heard", _labels(summary)))
    sections.append(Section("levels", "recordings", "The recordings", _recordings(summary)))
    if summary.failures:
        sections.append(Section("failed", "failures", "What could not be read", _failures(summary)))
    sections.append(Section("slow", "slowest", "The slowest", _slowest(summary)))
    lead = (
        f"<p class='lead'>{text(facts.bundle)}, {text(facts.artefact)} on {text(facts.engine)}, over "
        f"{facts.items:,} recordings.</p>" + KINDS
    )
    write_atomic(output / PAGE, sheet("hearpack batch", lead, [("Batch", sections)], ("hearpack", "batch"), data))
    return output / PAGE


def _short(summary: Summary, seen: Seen) -> str:
    hours = summary.audio_s / 3600
    figures: list[tuple[str, str, str, str, bool | None]] = [
        ("Recordings", f"{summary.files:,}", f"of {seen.total:,} listed", "counted", summary.files == seen.total),
        ("Could not be read", f"{summary.failed:,}", "each a row with its reason", "counted", None),
        ("Sound", f"{hours:,.2f} <small>h</small>", f"{summary.bytes / 1e6:,.1f} MB of files", "counted", None),
        ("Speed", f"{seen.times_real_time:,.0f} <small>x</small>",
         f"of real time, {seen.now:,} recordings in {seen.seconds:,.1f} s", "measured", None),
        ("In the net", f"{summary.compute_s:,.1f} <small>s</small>", "sum over all workers", "measured", None),
    ]  # fmt: skip
    return tiles(figures)


def _labels(summary: Summary) -> str:
    rows = [(label, f"{n:,}", f"{s:,.1f}", f"{f:,}") for label, n, s, f in summary.labels]
    heads = ("label", "events", "seconds", "files")
    shown = table(heads, rows[:_MOST_LABELS], "counted; events as the manifest's decisions find them")
    rest = rows[_MOST_LABELS:]
    return shown + (details(f"{len(rest)} more labels", table(heads, rest)) if rest else "")


def _recordings(summary: Summary) -> str:
    levels = [
        ("silence" if low is None else f"{low} to {low + 10} dBFS", f"{count:,}") for low, count in summary.levels
    ]
    rates = [(f"{rate:,} Hz", f"{channels}", f"{count:,}") for rate, channels, count in summary.rates]
    return (
        table(("RMS level", "files"), levels, "counted, of the loudest channel")
        + table(("rate", "channels", "files"), rates, "counted")
        + f"<p>With a warning in its row (clipping, an odd header): {counted(summary.warned, 'recording')}.</p>"
    )


def _failures(summary: Summary) -> str:
    rows = [(kind, found.examples[0], f"{found.count:,}") for kind, found in summary.failures]
    return table(("reason", "for instance", "files"), rows, "counted", 2)


def _slowest(summary: Summary) -> str:
    rows = [(name, f"{compute:.3f}", f"{audio:,.1f}") for compute, audio, name in summary.slowest]
    return table(("recording", "s in the net", "s of sound"), rows, "measured")
