"""`hearpack compress`: the smallest mix of precisions within a budget; exit 2 if nothing meets it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, UsersWords, console, megabytes, print_json, say, show_table

if TYPE_CHECKING:
    from converters.search.report import CompressReport, FormatResult

_EVERY_S = 10.0


def compress(
    subject: str = typer.Argument(..., metavar="BUNDLE_OR_NAME", help="A bundle, or what `hearpack export` takes."),
    budget: str = typer.Option(
        ..., help="size=1MB,pesq=-0.05,si-sdr=-0.2,stoi=-0.01 or top1=-0.5,map=-0.5,decisions=99.5; any of them."
    ),
    output: Path = typer.Option(Path(), "--output", "-o", help="Folder for the bundle, the plot and the journal."),
    formats: str = typer.Option("litert,coreml", "--format", help="litert, coreml, by commas."),
    hops: int = typer.Option(1, help="Hops per call of a net that is no bundle yet."),
    weights: Path | None = typer.Option(None, help="Your own checkpoint, as in export."),
    geometry: Path | None = typer.Option(None, help="geometry.toml of a custom net, as in export."),
    pairs: int = typer.Option(60, help="Pairs of clean and noisy speech that are made, 1 to 120."),
    pairs_folder: Path | None = typer.Option(None, help="Your own pairs: FOLDER/noisy/NAME and FOLDER/clean/NAME."),
    labelled: Path | None = typer.Option(None, help="Of a classifier: FOLDER/CLASS/CLIP; top1 is the accuracy there."),
    json_output: bool = JsonOption,
) -> None:
    """Choose each layer's precision by measured quality; a killed search goes on where it was."""
    from converters.search.run import compress as run_compress

    words = UsersWords()
    with words.on_stderr():
        report = run_compress(
            subject,
            budget,
            output,
            formats=formats.split(","),
            hops_per_call=hops,
            weights=weights,
            geometry=geometry,
            pairs=pairs,
            pairs_folder=pairs_folder,
            labelled=labelled,
            progress=(lambda _what, _fraction: None) if json_output else _time_left(),
        )
    if json_output:
        print_json({**vars(report), "met": report.met})
    else:
        show(report)
    if not report.met:
        raise typer.Exit(2)


def _time_left() -> Callable[[str, float], None]:
    """A line on stderr when something begins, and every ten seconds one with how much time it still takes."""
    began: dict[str, float] = {}
    said: dict[str, float] = {}

    def report(what: str, fraction: float) -> None:
        now = time.monotonic()
        if what not in began or fraction < 0.01:
            if what not in began:
                say(f"  {what}", err=True)
            began[what] = said[what] = now
        elif now - said[what] >= _EVERY_S:
            left = (now - began[what]) * (1.0 - fraction) / fraction
            say(f"  {what}: {fraction:.0%}, about {left / 60:.1f} min left", err=True)
            said[what] = now

    return report


def show(report: CompressReport) -> None:
    """A table of what was chosen beside int8 everywhere, and where it is."""
    out = console()
    for result in report.formats:
        _show_format(report, result)
    out.print(f"plot: {report.plot}; measurements: {report.journal}")
    if report.path is not None:
        out.print(f"bundle: {report.path}" + ("" if report.met else " (past the budget)"))
    else:
        nearest = " and ".join(_nearest(result) for result in report.formats if not result.met)
        out.print(f"no plan meets {report.budget}; the nearest that can: {nearest}; no bundle was written")


def _nearest(result: FormatResult) -> str:
    losses = ", ".join(f"{f.name} {f.difference:+.3g}" for f in result.figures)
    return f"{result.artefact} of {megabytes(result.size_bytes)} ({losses})"


def _show_format(report: CompressReport, result: FormatResult) -> None:
    rows = []
    for f in result.figures:
        lost = result.uniform.losses.get(f.name)
        uniform = "-" if lost is None else f"{-lost if f.better == 'higher' else lost:+.3g}"
        rows.append((f.name, f"{f.reference:.4g}", f"{f.difference:+.3g}", f"{f.low:+.3g} to {f.high:+.3g}", uniform))
    heads = ("figure", "fp32", result.artefact, "95 %", "int8 everywhere")
    rows.append(("size", "", megabytes(result.size_bytes), "", megabytes(result.uniform.size_bytes)))
    told = f"{report.name}, {'within' if result.met else 'NOT within'} {report.budget}, on {report.clips} clips"
    show_table(heads, rows, told)
    by_precision: dict[str, list[str]] = {}
    for part, precision in result.parts.items():
        by_precision.setdefault(precision, []).append(part or "the graph itself")
    for precision, parts in sorted(by_precision.items()):
        console().print(f"  {precision}: {', '.join(parts)}")
    console().print(f"  {result.measured} plans measured, {result.remembered} taken from the journal")
