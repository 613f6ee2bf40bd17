"""`hearpack doctor`: what this machine can and cannot do, and what to install."""

from __future__ import annotations

from hearpack.commands.shared import JsonOption, print_json, say


def doctor(json_output: bool = JsonOption) -> None:
    """Say what this machine can and cannot do, and what to install."""
    from hearpack.doctor import doctor as diagnose

    found = diagnose()
    if json_output:
        print_json(found)
        return
    say(f"Python {found.machine.python}, {found.machine.system}, {found.machine.cores} cores")
    for check in found.checks:
        say(f"  {'yes' if check.available else 'no '}  {check.what}: {check.detail}")
