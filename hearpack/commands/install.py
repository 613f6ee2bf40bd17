"""`hearpack install`: a bundle into a sample app."""

from __future__ import annotations

from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, megabytes, print_json


def install(
    bundle: Path = typer.Argument(..., help="A bundle's folder."),
    android: Path | None = typer.Option(None, metavar="DIR", help="The folder android-sample: into its assets."),
    ios: Path | None = typer.Option(None, metavar="DIR", help="The folder ios-sample: into its resources."),
    artefact: list[str] = typer.Option([], help="Artefact id (see: hearpack inspect), repeatable; fp32 by default."),
    json_output: bool = JsonOption,
) -> None:
    """Put a bundle into the Android or iOS sample, its hashes and golden vectors checked first."""
    from converters.install.android import PLATFORMS
    from converters.install.android import install as put
    from models.common.errors import UsageError
    from runtimes.bundle import Bundle

    targets = {name: folder for name, folder in (("android", android), ("ios", ios)) if folder is not None}
    if not targets:
        raise UsageError("expected --android DIR or --ios DIR (or both), got neither; DIR is the sample's folder")
    if artefact and len(targets) > 1:
        raise UsageError("--artefact belongs to one platform; install for Android and iOS one after the other")
    opened = Bundle.open(bundle)
    results = [put(opened, PLATFORMS[name], folder, artefact) for name, folder in targets.items()]
    if json_output:
        print_json(results)
        return
    for result in results:
        beside = f"; beside {', '.join(result.others)}" if result.others else ""
        typer.echo(
            f"{result.platform}: {', '.join(result.artefacts)} in {result.files} files, {megabytes(result.bytes)}, "
            f"to {result.folder}{beside}"
        )
