"""`hearpack advise`: which buffer and artefact to ship for which device, and why."""

from __future__ import annotations

from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json, progress_bars, wide_console


def advise(
    bundles: list[Path] = typer.Argument(..., metavar="BUNDLE...", help="Bundles: one model in several buffers."),
    device: list[str] = typer.Option(
        [], help="Device profiles (see: hearpack devices) or .toml files; all by default."
    ),
    artefact: list[str] = typer.Option([], help="Artefact ids; litert-fp32 by default."),
    engine: str | None = typer.Option(None, help="Whose times are scaled: litert-interpreter, litert-compiled, ..."),
    calibration: Path | None = typer.Option(
        None, help="File of hearpack calibrate; measured for 5 s each without one."
    ),
    seconds: float = typer.Option(30.0, help="Length of each simulated run."),
    seed: int = typer.Option(0, help="Of everything random in the runs."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Keep the advice in this JSON file, for report."),
    json_output: bool = JsonOption,
) -> None:
    """Weigh delay against load against misses on simulated devices, and recommend a buffer for each."""
    from rich.table import Table

    from hearpack.api_tools import advise as run_advise

    with progress_bars(json_output) as progress:
        advice = run_advise(
            *bundles,
            devices=tuple(device),
            artefacts=tuple(artefact),
            engine=engine,
            calibration=calibration,
            seconds=seconds,
            seed=seed,
            output=output,
            progress=progress,
        )
    if json_output:
        print_json(advice)
        return
    console = wide_console()
    console.print(
        f"modelled: {advice.seconds:g} s each on the virtual clock, compute times of {advice.machine}, times each "
        f"device's figures, many of them assumptions (hearpack devices)",
        highlight=False,
    )
    heads = (
        "device",
        "bundle, artefact",
        "hop ms",
        "load",
        "p99/hop",
        "p50 ms",
        "p95 ms",
        "late",
        "lost",
        "dry (own)",
        "",
    )
    table = Table(*heads, box=None, pad_edge=False)
    for found in advice.devices:
        for number, c in enumerate(found.candidates):
            table.add_row(
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
    console.print(table)
    for found in advice.devices:
        console.print(f"- {found.why}", highlight=False)
    if output is not None:
        console.print(f"wrote {output}", highlight=False)
