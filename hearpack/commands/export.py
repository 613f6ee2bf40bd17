"""`hearpack export`: a model to bundles for both platforms."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from converters.compress.recipe import PRECISION_NAMES
from hearpack.commands.shared import JsonOption, UsersWords, megabytes, print_json, progress_bars, say

if TYPE_CHECKING:
    from converters.export import ExportResult
    from runtimes.bundle import Manifest


def export(
    name: str = typer.Argument(..., help="A model of `hearpack models`, or path/net.py:build, model.keras, model.pt."),
    output: Path = typer.Option(Path(), "--output", "-o", help="Folder for the bundles."),
    hops: str | None = typer.Option(None, help="Hops per call; several make several bundles: 1,4."),
    buffer_ms: float | None = typer.Option(None, help="Buffer of a call in ms instead of --hops."),
    formats: str = typer.Option("litert,coreml", "--format", help="litert, coreml, coreai (experimental), by commas."),
    precisions: str = typer.Option(
        "fp32,fp16", "--precision", help=f"Any of {', '.join(PRECISION_NAMES)}; docs/precision.md says what each is."
    ),
    weights: Path | None = typer.Option(None, help="Your own checkpoint: .safetensors, or torch with weights only."),
    geometry: Path | None = typer.Option(None, help="geometry.toml of a custom net; the one beside it by default."),
    sample: Path | None = typer.Option(
        None, help="A clip of what a custom net without geometry.toml hears: one is guessed and written."
    ),
    allow_insensitive: bool = typer.Option(
        False, help="Go on with a net that hardly reacts to its input (random weights); the bundle says so."
    ),
    force: bool = typer.Option(False, help="Convert again even if the cache has this very export."),
    json_output: bool = JsonOption,
) -> None:
    """Convert, execute, compare with the original, and write a bundle; exit 1 if it lacks an artefact."""
    from converters.export import export as export_model
    from converters.export import open_model
    from converters.spec import FORMATS, PRECISIONS, hops_from_arguments, parse_choices
    from runtimes.bundle import Bundle

    words = UsersWords()
    with words.on_stderr():
        if sample is not None:
            geometry = _guessed(name, geometry, sample, output)
        model = open_model(name, geometry, weights, allow_insensitive)
    counts = hops_from_arguments(model, hops, buffer_ms)
    chosen_formats = parse_choices(formats, FORMATS, "--format")
    chosen_precisions = parse_choices(precisions, PRECISIONS, "--precision")
    rows = []
    for count in counts:
        began = time.perf_counter()
        with progress_bars(json_output) as progress, words.on_stderr():
            result = export_model(
                model,
                output,
                hops_per_call=count,
                formats=chosen_formats,
                precisions=chosen_precisions,
                weights=weights,
                force=force,
                progress=progress,
            )
        rows.append((result, Bundle.open(result.path).manifest, time.perf_counter() - began))
    if json_output:
        print_json(
            [
                {
                    "path": result.path,
                    "cached": result.cached,
                    "kept_decisions": result.kept_decisions,
                    "seconds": seconds,
                    "assumed": model.assumed,
                    "refused": result.refused,
                    "kept": result.kept,
                    "artefacts": [{"id": a.id, "path": a.path, "bytes": a.size_bytes} for a in manifest.artefacts],
                }
                for result, manifest, seconds in rows
            ]
        )
    else:
        for sentence in model.assumed:
            say(f"assumed: {sentence}")
        for row in rows:
            _show(*row)
    if any(result.refused for result, _, _ in rows):
        raise typer.Exit(1)


def _guessed(name: str, geometry: Path | None, sample: Path, output: Path) -> Path:
    """A geometry.toml for a net that has none, written into the folder of the bundles, and shown."""
    from converters.guess import guess_geometry
    from models.common.errors import UsageError
    from models.custom.loading import is_custom

    if geometry is not None or not is_custom(name):
        raise UsageError("--sample is for a custom net without a geometry.toml; leave it or --geometry out")
    path = guess_geometry(name, sample, output)
    say(f"guessed, and written to {path}; read it, and give it with --geometry once it is right:", err=True)
    for line in path.read_text(encoding="utf-8").splitlines():
        say(f"  {line}", err=True)
    return path


def _show(result: ExportResult, manifest: Manifest, seconds: float) -> None:
    """What was written, and what was not."""
    how = "unchanged, from the cache" if result.cached else "converted and compared with the original"
    say(f"{result.path}: {how} in {seconds:.1f} s")
    for artefact in manifest.artefacts:
        say(f"  {artefact.id:14} {megabytes(artefact.size_bytes):>9}  {artefact.path}")
    for sentence in result.kept:
        say(f"  {sentence}")
    if result.kept_decisions:
        say("  your edits of the manifest (decisions, dsp, playout) were kept")
    for reason, refused in itertools.groupby(result.refused, lambda r: r.reason):
        say(f"hearpack: left out {', '.join(r.artefact for r in refused)}: {reason}", err=True)
