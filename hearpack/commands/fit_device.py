"""`hearpack fit-device`: a trace that a sample app wrote becomes a device profile, with its prediction error."""

from __future__ import annotations

from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json, progress_bars, say, show_table


def fit_device(
    trace: Path = typer.Argument(..., help="A device trace (docs/device-trace.schema.json)."),
    bundle: Path = typer.Argument(..., help="The bundle that ran on the device."),
    output: Path = typer.Option(Path("device.toml"), "--output", "-o", help="The profile to write."),
    calibration: Path | None = typer.Option(None, help="Compute times of this machine; measured for 5 s without."),
    like: str = typer.Option("this-machine", help="Device whose playout is assumed: a trace does not have it."),
    engine: str | None = typer.Option(None, help="Engine of the calibration's times."),
    json_output: bool = JsonOption,
) -> None:
    """Fit a device profile to a trace."""
    from streaming.simulator.fit import fit_device as run_fit

    with progress_bars(json_output) as progress:
        fitted = run_fit(
            trace, bundle, output=output, calibration=calibration, like=like, engine=engine, progress=progress
        )
    if json_output:
        answer = {"profile": fitted.profile.record(), "predictions": fitted.predictions, "output": str(output)}
        print_json({**answer, "verdict": fitted.verdict, "warnings": fitted.warnings})
        return
    for warning in fitted.warnings:
        say(f"warning: {warning}", err=True)
    rows = [
        (row.figure, f"{row.recorded / 1e6:.3f}", f"{row.predicted / 1e6:.3f}", f"{row.error:+z.1%}")
        for row in fitted.predictions
    ]
    show_table(("figure", "recorded ms", "predicted ms", "error"), rows)
    say(fitted.verdict)
    assumed = [n for n, f in fitted.profile.record().figures.items() if f.source.startswith("assumption")]
    say(f"not told by the trace, assumed: {', '.join(assumed)}")
    say(f"slowdown against this machine {fitted.profile.slowdown:g}; wrote {output}")
