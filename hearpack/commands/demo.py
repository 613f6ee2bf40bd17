"""`hearpack demo`: the main job on real audio, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, console, print_json, progress_bars, say, show_table
from models.common.printable import counted

if TYPE_CHECKING:
    from hearpack.demo.run import DemoResult


def demo(
    output: Path = typer.Option(Path("build/demo"), "--output", "-o", help="Folder for bundles, audio and the report."),
    json_output: bool = JsonOption,
) -> None:
    """Export three models, verify them, listen to a street, clean up speech, write a report."""
    from hearpack.demo.report import demo as run_demo

    with progress_bars(json_output) as progress:
        found = run_demo(output, progress=progress)
    result, files = found.result, found.files
    if json_output:
        print_json({"bundles": result.bundles, "verifications": result.verifications, "files": files})
    else:
        _show(result)
        say("")
        for bundle in result.bundles:
            say(f"bundle: {bundle}")
        say(f"report: {files.report}  (figures: {files.figures}; pictures: {files.spectrogram}, {files.timeline})")
    if not all(v.passed for v in result.verifications):
        raise typer.Exit(1)


def _show(result: DemoResult) -> None:
    from hearpack.commands.verify import show
    from hearpack.demo.report import shown
    from hearpack.demo.run import BELL

    out = console()
    for report in result.verifications:
        show(report)
        out.print()
    rows = [
        (enhanced.model, f"{enhanced.snr_db:g} dB", f"{before.name} ({before.unit})", shown(before), shown(after))
        for enhanced in result.enhancements
        for before, after in zip(enhanced.before, enhanced.after, strict=True)
    ]
    show_table(("enhancer", "mixed at", "metric", "before", "after"), rows, "speech in the street")
    timeline = result.timeline
    bells = ", ".join(f"{begin:.1f}–{end:.1f} s" for begin, end in timeline.labelled)
    heard = [e for e in timeline.events if e.label == BELL]
    at = ", ".join(f"{e.onset_s:.1f} s" for e in heard)
    out.print(
        f"\nthe street, YAMNet: {counted(len(timeline.events), 'event')}; "
        f"bicycle bell heard at {at or 'no time'}; labelled at {bells}"
    )
    how = "from the cache" if all(result.cached) else "converted"
    out.print(f"exports: {result.export_seconds:.1f} s ({how})")
