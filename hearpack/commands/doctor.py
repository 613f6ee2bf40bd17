"""`hearpack doctor`: what this machine can and cannot do, and what to install."""

from __future__ import annotations

import typer

from hearpack.commands.shared import JsonOption, print_json, progress_bars, say


def doctor(
    quick: bool = typer.Option(False, "--quick", help="Only look at what is installed; load nothing."),
    json_output: bool = JsonOption,
) -> None:
    """Say what this machine can and cannot do, and what to install."""
    from hearpack.doctor import doctor as diagnose

    with progress_bars(json_output) as progress:
        found = diagnose(quick=quick, progress=progress)
    if json_output:
        print_json(found)
        return
    say(f"Python {found.machine.python}, {found.machine.system}, {found.machine.cores} cores")
    for check in found.checks:
        say(f"  {'yes' if check.available else 'no '}  {check.what}: {check.detail}")
