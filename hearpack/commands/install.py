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
    json_output: bool = JsonOption,
) -> None:
    """Put a bundle into the Android or iOS sample, its hashes and golden vectors checked first."""
    from converters.install.install import install as put

    results = put(bundle, android=android, ios=ios, artefacts=artefact)
    if json_output:
        print_json(results)
        return
    for result in results:
        beside = f"; beside {', '.join(result.others)}" if result.others else ""
        say(
            f"{result.platform}: {', '.join(result.artefacts)} in {result.files} files, {megabytes(result.bytes)}, "
            f"to {result.folder}{beside}"
        )
