"""`hearpack look`: what of a custom net passes, what is written otherwise, what is in the way."""

from __future__ import annotations

from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json, say


def look(
    name: str = typer.Argument(..., help="path/net.py:build, package.module:build or path/model.keras."),
    weights: Path | None = typer.Option(None, help="Your own checkpoint: .safetensors, or torch with weights only."),
    geometry: Path | None = typer.Option(None, help="geometry.toml; the one beside it by default."),
    json_output: bool = JsonOption,
) -> None:
    """Say what an export of a net of your own would meet; nothing is converted."""
    from converters.look import look as look_at

    found = look_at(name, geometry, weights)
    if json_output:
        print_json(found)
    else:
        if found.passes:
            size = f"{found.parameters_millions:g} M parameters"
            say(f"{found.net}: {found.form}, {size}, {found.delay_samples} samples late")
        for sentence in found.assumed:
            say(f"assumed: {sentence}")
        for item in found.rewritten:
            more = f" and {len(item.places) - 3} more" if len(item.places) > 3 else ""
            say(f"written otherwise: {item.operation} in {', '.join(item.places[:3])}{more}")
        for state, shape in found.states:
            say(f"state: {state} {list(shape)}")
        if found.kept_in_float32:
            say(f"stays in float32 in fp16 artefacts: {found.kept_in_float32} parts")
        say(f"passes, in {found.seconds:.1f} s" if found.passes else f"in the way: {found.blocked}")
    raise typer.Exit(0 if found.passes else 1)
