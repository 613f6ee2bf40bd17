"""`hearpack verify`: artefacts compared with the original over a minute of real audio; exit 1 past the tolerance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, UsersWords, console, print_json, progress_bars, say, show_table

if TYPE_CHECKING:
    from converters.verify import ArtefactReport, VerifyReport


def verify(
    bundle: Path = typer.Argument(..., help="A bundle's folder."),
    artefact: list[str] = typer.Option([], help="Artefact ids to look at; all by default."),
    seconds: float | None = typer.Option(None, help="Length of the stream; 60 by default."),
    audio: Path | None = typer.Option(None, help="Your audio file instead of hearpack's material."),
    weights: Path | None = typer.Option(None, help="The checkpoint, if the bundle was exported from your own."),
    original: str | None = typer.Option(
        None, "--original", "--source", help="Where the custom net is, if it was moved: path/net.py:build. It is run."
    ),
    geometry: Path | None = typer.Option(None, help="Its geometry.toml, if it was moved."),
    public_key: str | None = typer.Option(None, help="Check the signature first: minisign's .pub file, or its text."),
    json_output: bool = JsonOption,
) -> None:
    """Compare every artefact with the original; exit 1 if one is past its tolerance."""
    from converters.verify import verify as run_verify

    with progress_bars(json_output) as progress, UsersWords().on_stderr():
        report = run_verify(
            bundle,
            artefacts=tuple(artefact),
            seconds=seconds,
            audio=audio,
            weights=weights,
            original=original,
            geometry=geometry,
            public_key=public_key,
            progress=progress,
        )
    if json_output:
        print_json(report)
    else:
        show(report)
    if report.not_kept:
        say(f"hearpack: the figures were not kept in the bundle: {report.not_kept}", err=True)
    if not report.passed:
        raise typer.Exit(1)


def show(report: VerifyReport) -> None:
    """The report as text: a table of the stream, one of the stress streams, a verdict."""
    if report.level:
        say(report.level, err=True)
    for warning in report.warnings:
        say(f"warning: {warning}", err=True)
    out = console()
    out.print(
        f"{report.bundle} against the {report.reference}: {report.seconds:.0f} s of {report.material}, {report.machine}"
    )
    rows = [
        (
            *((item.artefact, item.engine) if index == 0 else ("", "")),
            check.metric,
            f"{check.value:.4g}",
            f"{check.direction} {check.limit:g}",
            "ok" if check.passed else "FAILED",
        )
        for item in report.artefacts
        for index, check in enumerate(item.checks)
    ]
    show_table(("artefact", "engine", "figure", "measured", "limit", ""), rows)
    for item in report.artefacts:
        beginning = "" if item.seconds == report.seconds else f"its first {item.seconds:.0f} s; "
        out.print(f"{item.artefact} on {item.engine}: {beginning}{_worst(item, item.seconds)}")
    if any(item.stress for item in report.artefacts):
        _show_stress(report)
    for sentence in dict.fromkeys(s for item in report.artefacts for s in item.lax):
        out.print(f"FAILED: {sentence}")
    held = "" if report.reference != "golden" else ", against the bundle's own golden vectors and nothing else"
    failed = any(not item.passed and not item.lax for item in report.artefacts)
    out.print(f"passed{held}" if report.passed else "FAILED: an artefact is past its tolerance" if failed else "FAILED")


_STRESS = (
    ("snr_db", "SNR in dB"),
    ("score_max_abs_error", "largest score error"),
    ("embedding_max_error", "largest error of an embedding"),
)


def _worst(item: ArtefactReport, seconds: float) -> str:
    """The worst place of a stream so long, and how it began and ended (short ones: by halves)."""
    from streaming.metrics.parity import ENDS_S, AudioParity, EmbeddingParity

    figures = item.figures
    if isinstance(figures, AudioParity):
        ends = ("first half", "last half")
        if seconds >= 2.0 * ENDS_S:
            ends = (f"first {ENDS_S:g} s", f"last {ENDS_S:g} s")
        return (
            f"worst frame {figures.worst_frame_snr_db:.1f} dB at {figures.worst_frame_s:.1f} s; "
            f"{ends[0]} {figures.first_snr_db:.1f} dB, {ends[1]} {figures.last_snr_db:.1f} dB"
        )
    if isinstance(figures, EmbeddingParity):
        mean, windows = figures.embedding_mean_error, figures.windows
        return f"worst window at {figures.worst_window_s:.1f} s, mean error {mean:.2g} in {windows} windows"
    return (
        f"worst window at {figures.worst_window_s:.1f} s, mean error {figures.score_mean_abs_error:.2g}, "
        f"top-1 flips {figures.top1_flips}, top-5 kept in {figures.top5_agreement:.1%} of {figures.windows} windows"
    )


def _show_stress(report: VerifyReport) -> None:
    names = [s.stream for s in report.artefacts[0].stress]
    metric, title = next(t for t in _STRESS if t[0] in report.artefacts[0].figures.metrics())
    rows = []
    for item in report.artefacts:
        figures = [s.figures for s in item.stress]
        values = [f"{f.metrics()[metric]:{'.1f' if metric == 'snr_db' else '.1e'}}" for f in figures]
        rows.append((item.artefact, item.engine, *values, str(sum(f.nan_count for f in figures))))
    show_table(("artefact", "engine", *names, "NaN"), rows, f"stress streams: {title}")
