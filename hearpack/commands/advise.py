"""`hearpack advise`: which buffer and artefact to ship for which device, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, console, print_json, progress_bars, show_table

if TYPE_CHECKING:
    from streaming.advice.advise import Advice, DeviceAdvice


def advise(
    bundles: list[Path] = typer.Argument(..., metavar="BUNDLE...", help="Bundles: one model in several buffers."),
    device: list[str] = typer.Option(
        [], help="Device profiles (see: hearpack devices) or .toml files; all by default."
    ),
    artefact: list[str] = typer.Option([], help="Artefact ids; litert-fp32 by default."),
    engine: str | None = typer.Option(None, help="Engine of the times: litert-interpreter, litert-compiled, ..."),
    calibration: Path | None = typer.Option(
        None, help="File of hearpack calibrate; measured for 5 s each without one."
    ),
    seconds: float = typer.Option(30.0, help="Length of each simulated run."),
    seed: int = typer.Option(0, help="Of everything random in the runs."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Keep the advice in this JSON file, for report."),
    json_output: bool = JsonOption,
) -> None:
    """Compare delay, load and misses on simulated devices, and recommend a buffer for each."""
    from models.common.files import check_place
    from streaming.advice.advise import advise as run_advise

    check_place(output, ".json")
    with progress_bars(json_output) as progress:
        advice = run_advise(
            *bundles,
            devices=device,
            artefacts=artefact,
            engine=engine,
            calibration=calibration,
            seconds=seconds,
            seed=seed,
            progress=progress,
        )
    if output is not None:
        advice.save(output)
    if json_output:
        print_json(advice)
        return
    show(advice)
    if output is not None:
        console().print(f"wrote {output}")


def show(advice: Advice) -> None:
    """Candidates by device, and what is recommended."""
    out = console()
    out.print(
        f"modelled: {advice.seconds:g} s each on the virtual clock, compute times of {advice.machine}, times each "
        f"device's figures, many of them assumptions (hearpack devices)"
    )
    heads = ("device", "bundle, artefact", "hop ms", "load", "p99/hop", "p50 ms", "p95 ms", "late", "lost", "dry (own)")
    show_table((*heads, ""), (_row(d, number) for d in advice.devices for number in range(len(d.candidates))))
    for found in advice.devices:
        out.print(f"- {found.why}")


def _row(found: DeviceAdvice, number: int) -> tuple[str, ...]:
    c = found.candidates[number]
    return (
        found.device if number == 0 else "",
        c.name,
        f"{c.buffer_ms:g}",
        f"{c.load:.1%}",
        f"{c.p99_of_hop:.0%}",
        f"{c.delay_p50_ms:.1f}",
        f"{c.delay_p95_ms:.1f}",
        str(c.misses),
        str(c.dropped),
        f"{c.underruns} ({c.own_underruns})",
        "recommended" if number == found.recommended else "clean" if c.clean else "",
    )
