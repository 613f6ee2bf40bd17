"""`hearpack demo`: the main job on real audio, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, print_json, progress_bars, wide_console

if TYPE_CHECKING:
    from hearpack.demo.run import DemoResult


def demo(
    output: Path = typer.Option(Path("build/demo"), "--output", "-o", help="Folder for bundles, audio and the report."),
    json_output: bool = JsonOption,
) -> None:
    """Export three models, verify them, listen to a street, clean up speech, write a report."""
    from hearpack.demo.report import write_report
    from hearpack.demo.run import run_demo

    with progress_bars(json_output) as progress:
        result = run_demo(output, progress)
        progress("pictures and report", 0.0)
        files = write_report(result, output)
        progress("pictures and report", 1.0)
    if json_output:
        print_json({"bundles": result.bundles, "verifications": result.verifications, "files": files})
    else:
        _show(result)
        typer.echo("")
        for bundle in result.bundles:
            typer.echo(f"bundle: {bundle}")
        typer.echo(
            f"report: {files.report}  (figures: {files.figures}; pictures: {files.spectrogram}, {files.timeline})"
        )
    if not all(v.passed for v in result.verifications):
        raise typer.Exit(1)


def _show(result: DemoResult) -> None:
    from rich.table import Table

    from hearpack.commands.verify import show
    from hearpack.demo.report import shown

    console = wide_console()
    for report in result.verifications:
        show(report)
        console.print()
    columns = ("enhancer", "mixed at", "metric", "before", "after")
    table = Table(*columns, box=None, pad_edge=False, title="speech in the street")
    for enhancement in result.enhancements:
        for before, after in zip(enhancement.before, enhancement.after, strict=True):
            where = (enhancement.model, f"{enhancement.snr_db:g} dB")
            table.add_row(*where, f"{before.name} ({before.unit})", shown(before), shown(after))
    console.print(table)
    timeline = result.timeline
    bells = ", ".join(f"{begin:.1f}–{end:.1f} s" for begin, end in timeline.labelled)
    heard = [e for e in timeline.events if e.label == "Bicycle bell"]
    at = ", ".join(f"{e.onset_sample / timeline.sample_rate_hz:.1f} s" for e in heard)
    console.print(
        f"\nthe street, YAMNet: {len(timeline.events)} events; "
        f"bicycle bell heard at {at or 'no time'}; labelled at {bells}"
    )
    how = "from the cache" if all(result.cached) else "converted"
    console.print(f"exports: {result.export_seconds:.1f} s ({how})")
