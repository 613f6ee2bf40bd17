"""`hearpack install`: a bundle into a sample app."""

from __future__ import annotations

from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, megabytes, print_json, say


def install(
    bundle: Path = typer.Argument(..., help="A bundle's folder."),
    android: Path | None = typer.Option(None, metavar="DIR", help="The folder android-sample: into its assets."),
    ios: Path | None = typer.Option(None, metavar="DIR", help="The folder ios-sample: into its resources."),
    artefact: list[str] = typer.Option([], help="Artefact id (see: hearpack inspect), repeatable; fp32 by default."),
    public_key: str | None = typer.Option(None, help="Check the signature first: minisign's .pub file, or its text."),
    json_output: bool = JsonOption,
) -> None:
    """Put a bundle into the Android or iOS sample: hashes checked and golden vectors run first (a second or two)."""
    from converters.install.install import install as put

    results = put(bundle, android=android, ios=ios, artefacts=artefact, public_key=public_key)
    if json_output:
        print_json(results)
        return
    for result in results:
        beside = f"; beside {', '.join(result.others)}" if result.others else ""
        say(
            f"{result.platform}: {', '.join(result.artefacts)} in {result.files} files, {megabytes(result.bytes)}, "
            f"to {result.folder}{beside}"
        )
        for run in result.golden:
            figures = ", ".join(f"{c.metric} {c.value:.4g} ({c.direction} {c.limit:g})" for c in run.checks)
            say(f"  {run.artefact} on {run.engine}, golden vectors: {figures or f'not run: {run.not_run}'}")
