"""`hearpack quality`: what compressed artefacts lose that people notice, in figures with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, console, megabytes, print_json, progress_bars, show_table

if TYPE_CHECKING:
    from converters.quality.report import QualityReport


def quality(
    bundle: Path = typer.Argument(..., help="An enhancer's or a classifier's bundle with an fp32 artefact."),
    artefact: list[str] | None = typer.Option(None, help="Artefact to judge, repeatable; all by default."),
    pairs: int = typer.Option(60, help="Pairs of clean and noisy speech that are made, 1 to 120."),
    pairs_folder: Path | None = typer.Option(None, help="Your own pairs: FOLDER/noisy/NAME and FOLDER/clean/NAME."),
    labelled: Path | None = typer.Option(None, help="Of a classifier: FOLDER/CLASS/CLIP, for accuracy and mAP."),
    dnsmos: bool = typer.Option(False, help="DNSMOS too."),
    json_output: bool = JsonOption,
) -> None:
    """Compare each artefact with the float32 one: PESQ, SI-SDR, STOI; decisions and accuracy."""
    from converters.quality.report import quality as measure

    with progress_bars(json_output) as progress:
        report = measure(
            bundle,
            artefact or None,
            pairs=pairs,
            pairs_folder=pairs_folder,
            labelled=labelled,
            dnsmos=dnsmos,
            progress=progress,
        )
    if json_output:
        print_json(report)
    else:
        show(report)


def show(report: QualityReport) -> None:
    """A table an artefact."""
    out = console()
    out.print(f"{report.bundle}, compared with {report.reference} on {report.material}")
    for item in report.artefacts:
        rows = [
            (
                f.name,
                f"{f.reference:.4g}",
                f"{f.value:.4g}",
                f"{f.difference:+.3g}",
                f"{f.low:+.3g} to {f.high:+.3g}",
                f"{f.unit}, {f.better} is better",
                str(f.clips),
            )
            for f in item.figures
        ]
        heads = ("figure", "fp32", "this", "difference", "95 %", "unit", "clips")
        show_table(heads, rows, f"{item.artefact}, {megabytes(item.size_bytes)}, in {item.engine}")
        if item.minute_snr_db is not None and item.minute_drift_db is not None:
            out.print(
                f"over a minute against {report.reference}: {item.minute_snr_db:.1f} dB, drift "
                f"{item.minute_drift_db:+.1f} dB"
            )
    for name, reason in report.absent:
        out.print(f"{name} is missing for some clips: {reason}")
