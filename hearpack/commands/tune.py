"""`hearpack tune`: thresholds and smoothing from a labelled recording; exit 1 if nothing keeps within the limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, console, print_json, progress_bars, say_input, show_table
from models.common.errors import UsageError
from models.common.printable import counted

if TYPE_CHECKING:
    from streaming.metrics.detection import DecisionQuality
    from streaming.tuning.tune import TuneReport


def tune(
    bundle: Path = typer.Argument(..., help="A classifier's bundle; its manifest's `decisions` are replaced."),
    recording: Path = typer.Argument(..., help="Audio file, 4 to 192 kHz, mono or stereo."),
    labels: Path = typer.Argument(
        ..., help="Its labels: onset,offset,label in seconds, or another form (docs/decisions.md)."
    ),
    label: str | None = typer.Option(None, help="Label of the lines that name none."),
    false_alarms: float = typer.Option(0.0, help="False alarms per hour that may remain."),
    collar: float | None = typer.Option(
        None, help="Seconds around a label in which an event is no false alarm; one window by default."
    ),
    only: bool = typer.Option(False, help="Silence every label that the CSV does not name."),
    artefact: str | None = typer.Option(None, help="Artefact that listens; litert-fp32 by default."),
    judge_recording: Path | None = typer.Option(None, help="Another recording, to judge the result on."),
    judge_labels: Path | None = typer.Option(None, help="Its labels."),
    dry_run: bool = typer.Option(False, help="Show what would be set and change nothing."),
    json_output: bool = JsonOption,
) -> None:
    """Set a classifier's decisions from a labelled recording, and show the trade-off."""
    from streaming.tuning.tune import tune as run_tune

    if (judge_recording is None) != (judge_labels is None):
        raise UsageError("--judge-recording and --judge-labels: expected both or neither")
    judge_on = None
    if judge_recording is not None and judge_labels is not None:
        judge_on = (judge_recording, judge_labels)
    with progress_bars(json_output) as progress:
        report = run_tune(
            bundle,
            recording,
            labels,
            label=label,
            false_alarms_per_hour=false_alarms,
            collar_s=collar,
            only=only,
            artefact=artefact,
            judge_on=judge_on,
            write=not dry_run,
            progress=progress,
        )
    if json_output:
        print_json(report)
    else:
        say_input(report.level, report.warnings)
        show(report, dry_run)
    if not report.met:
        raise typer.Exit(1)


def show(report: TuneReport, dry_run: bool) -> None:
    """Figures before and after, the curve, the decisions, and what they are worth."""
    out = console()
    out.print(f"{report.bundle}, {', '.join(report.labels)}: {report.tried} settings on {report.recording}")
    _show_figures(report)
    for name in report.labels:
        _show_curve(report, name)
    for name in report.labels:
        own = report.decisions.per_label[name]
        out.print(
            f"{name}: on {own.on_threshold:g}, off {own.off_threshold:g}, at least {own.min_on_ms:g} ms on and "
            f"{own.min_off_ms:g} ms off; smoothing over {counted(report.decisions.smoothing_windows, 'window')} "
            f"(all labels)"
        )
    _show_other_labels(report)
    if report.written:
        out.print("decisions written to manifest.json; golden keeps its own copy")
    elif not report.met:
        out.print(
            f"nothing written: no setting finds anything with at most {report.allowed_per_hour:g} false alarms per hour"
        )
    elif dry_run:
        out.print("nothing written (--dry-run)")


def _show_figures(report: TuneReport) -> None:
    held = report.held_out
    rows = [
        ("before", report.before),
        ("after, on what chose it", report.after),
        *((f"held out, part {n}", part) for n, part in enumerate(held.parts, start=1)),
    ]
    if report.other is not None:
        rows.append(("after, other recording", report.other))
    heads = (
        *("judged on", "found", "recall (95 %)", "false alarms", "in s", "per hour", "at most (95 %)"),
        *("median delay s", "events"),
    )
    show_table(heads, ((name, *_figures(quality)) for name, quality in rows))
    out = console()
    out.print(
        f"False alarms are possible in {report.after.free_seconds:.1f} of {report.after.seconds:.1f} s, outside "
        f'the labels and {report.collar_s:g} s around them: rates and their 95 % bounds are per hour of that ("in s").'
    )
    if held.why_not is None:
        out.print(
            f"held out, both parts (each judged with what the other chose): "
            f"{held.found} of {held.references} found, {held.false_alarms} false alarms"
        )
    else:
        out.print(f"held out: none, {held.why_not}")
    if report.other is None:
        out.print("The line 'after' was tuned and judged on the same recording: it flatters. Trust the held-out lines.")


def _figures(q: DecisionQuality) -> list[str]:
    return [
        f"{q.found} of {q.references}",
        f"{q.recall:.2f} ({q.recall_low:.2f}-{q.recall_high:.2f})",
        str(q.false_alarms),
        f"{q.free_seconds:.1f}",
        f"{q.false_alarms_per_hour:.0f}",
        "unknown" if q.false_alarms_per_hour_upper is None else f"{q.false_alarms_per_hour_upper:.0f}",
        "-" if q.delay_s is None else f"{q.delay_s.median:.2f}",
        str(len(q.detections)),
    ]


def _show_curve(report: TuneReport, name: str) -> None:
    rows = []
    before: tuple[object, ...] = ()
    for point in (p for p in report.curve if p.label == name):
        figures = (point.recall, point.false_alarms_per_hour, point.delay_s)
        if figures == before and not point.chosen:
            continue  # nothing changes here
        before = figures
        delay = "-" if point.delay_s is None else f"{point.delay_s:.2f}"
        bar, chosen = "█" * round(20 * point.recall), "chosen" if point.chosen else ""
        alarms = f"{point.false_alarms_per_hour:.0f}"
        rows.append((f"{point.on_threshold:g}", f"{point.recall:.2f}", bar, alarms, delay, chosen))
    heads = ("on threshold", "recall", "", "false alarms per hour", "median delay s", "")
    show_table(heads, rows, f"trade-off: {name}")


def _show_other_labels(report: TuneReport) -> None:
    before, after = report.other_events
    if report.only:
        console().print(
            f"the other labels are silenced: their events go from {before} to {after} here (a score of "
            f"exactly 1 still turns one on)"
        )
    elif before != after:
        console().print(
            f"smoothing is shared: the other labels' events go from {before} to {after} here (--only silences them)"
        )
