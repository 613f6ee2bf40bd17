"""`hearpack coldstart`: from the launch of a process to its first decision, in fresh processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, console, print_json, progress_bars, say, show_table

if TYPE_CHECKING:
    from streaming.advice.cold_start import ConditionSummary
    from streaming.measure.cold_start import ColdStart
    from streaming.metrics.intervals import Spread

WIDTH = 44


def coldstart(
    bundle: Path = typer.Argument(..., help="A bundle's folder."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Keep every run in this JSON file (for report, gate)."
    ),
    runs: int = typer.Option(10, help="Fresh processes for each condition of the caches."),
    artefact: str | None = typer.Option(None, help="Artefact id; litert-fp32 by default."),
    engine: str | None = typer.Option(
        None, help="litert-compiled (default for .tflite, has a weight cache), litert-interpreter, ..."
    ),
    threads: int = typer.Option(1, help="Compute threads."),
    drop_caches: bool = typer.Option(
        False, help="For cold runs empty the page cache of the whole machine (root; slows everything else)."
    ),
    json_output: bool = JsonOption,
) -> None:
    """Measure cold starts: stages, calls 1 to 10, first decision, audio lost, memory; caches cold and warm."""
    from models.common.files import check_place
    from streaming.advice.cold_start import advice, summarise
    from streaming.measure.cold_start import coldstart as measure

    check_place(output, ".json")
    with progress_bars(json_output) as progress:
        report = measure(
            bundle,
            runs=runs,
            artefact=artefact,
            engine=engine,
            threads=threads,
            drop_caches=drop_caches,
            progress=progress,
        )
    if output is not None:
        report.save(output)
    if json_output:
        summaries = [summarise(c) for c in report.conditions]
        print_json({"report": report, "summary": summaries, "advice": advice(report)})
        return
    show(report)
    if output is not None:
        say(f"wrote {output}")


def show(report: ColdStart) -> None:
    """The table of conditions, one waterfall, the advice and what could not be done."""
    from streaming.advice.cold_start import advice, summarise

    out = console()
    summaries = [summarise(c) for c in report.conditions]
    runs = len(report.conditions[0].runs)
    out.print(f"{report.bundle} {report.artefact} on {report.runtime}; {report.machine}")
    out.print(f"measured in {runs} fresh process{'es' if runs > 1 else ''} each; median (quartiles), ms")
    heads = ("caches", "ready = audio lost", "on CPU", "loading", "call 1", "calls 6-10", "decision", "peak MB")
    show_table(heads, map(_row, summaries))
    _show_waterfall(summaries[0])
    for line in (*advice(report), *(f"Note: {limit}." for limit in report.limits)):
        out.print(f"- {line}")


def _row(s: ConditionSummary) -> tuple[str, ...]:
    return (
        s.name,
        _cell(s.ready_ms),
        f"{s.ready_cpu_ms.median:.1f}",
        _cell(s.loading_ms),
        f"{s.first_call_ms.median:.3f}",
        f"{s.steady_call_ms.median:.3f}",
        f"{s.first_decision_ms.median:.1f}",
        f"{s.peak_memory_bytes.median / 1e6:.1f}",
    )


def _show_waterfall(condition: ConditionSummary) -> None:
    out = console()
    out.print(f"\n{condition.name}: where the time goes")
    scale = WIDTH / max(bar.end_ms for bar in condition.bars)
    for bar in condition.bars:
        begin = round(bar.begin_ms * scale)
        drawn = " " * begin + "█" * max(1, round(bar.end_ms * scale) - begin)
        out.print(f"{drawn:{WIDTH + 1}}{bar.duration.median:8.1f}  {bar.title}")
    out.print("")


def _cell(figure: Spread) -> str:
    return f"{figure.median:.1f} ({figure.p25:.1f}-{figure.p75:.1f})"
