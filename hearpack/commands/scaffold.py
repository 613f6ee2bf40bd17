"""`hearpack scaffold`: a commented beginning for a custom net, which exports as it is."""

from __future__ import annotations

from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json, say


def scaffold(
    name: str = typer.Argument(..., help="Name of the model, and of the folder that is made."),
    task: str = typer.Option("classifier", help="classifier (windows of log-mel) or enhancer (causal, 8 ms hops)."),
    output: Path = typer.Option(Path(), "--output", "-o", help="Where the folder is made."),
    json_output: bool = JsonOption,
) -> None:
    """Write net.py, geometry.toml, labels and a test for a custom net."""
    from hearpack.scaffold import scaffold as write

    made = write(name, task=task, output=output)
    if json_output:
        print_json(made)
        return
    for path in made.files:
        say(f"  {path}")
    say(f"it exports as it is: hearpack export {made.folder / 'net.py'}:build -o {made.folder}")
