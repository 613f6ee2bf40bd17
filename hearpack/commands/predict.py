"""`hearpack predict`: one call of an .mlpackage with arrays from a file, on any machine."""

from __future__ import annotations

from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json, say


def predict(
    package: Path = typer.Argument(..., help="An ML Program .mlpackage."),
    inputs: Path = typer.Argument(..., help="A .npz with an array for each input, by name; images as uint8 [H, W, 3]."),
    output: Path = typer.Option(..., "--output", "-o", help="The .npz to write, an array for each output."),
    mode: str = typer.Option("fp32", help="fp32 (stored weights, exact arithmetic) or fp16 (halves rounded)."),
    function: str | None = typer.Option(None, help="Function of a multi-function package."),
    json_output: bool = JsonOption,
) -> None:
    """Run a Core ML package once, emulated on this CPU. A stateful one starts from zero, and its state is not kept."""
    from streaming.files.predict import predict as run_once

    report = run_once(package, inputs, output, mode=mode, function=function)
    if json_output:
        print_json(report)
        return
    for name, what in report.outputs.items():
        say(f"{name}: {what}")
    say(f"wrote {report.output}; {report.mode} mode, emulated on this CPU, not Apple's hardware", err=True)
