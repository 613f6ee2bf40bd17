"""`hearpack batch`: a bundle over whole collections."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hearpack.commands.shared import JsonOption, console, say, to_plain
from models.common.printable import counted

if TYPE_CHECKING:
    from hearpack.batch.job import Seen

_EVERY_S = 10.0  # between two lines where no bar is drawn


def batch(
    bundle: str = typer.Argument(..., help="A bundle's folder, or a catalogue net's name."),
    inputs: list[str] = typer.Argument(
        ..., metavar="INPUT...", help="Folders, files, globs, lists (.csv, .tsv, .jsonl, .parquet), .tar files, URLs."
    ),
    output: Path = typer.Option(..., "--output", "-o", help="The run's folder; the same one goes on with a run."),
    column: str = typer.Option("path", help="Column of a list that holds the paths."),
    artefact: str | None = typer.Option(None, help="Artefact id (see: hearpack inspect); litert-fp32 by default."),
    engine: str | None = typer.Option(None, help="litert-interpreter, litert-compiled, coreml, mil-fp32, mil-fp16."),
    scores: int = typer.Option(0, help="Classifier: labels kept of every window, the best first."),
    audio: str = typer.Option("wav", help="Enhancer, separator: wav (float) or flac (24 bits)."),
    workers: int | None = typer.Option(None, help="Processes; one per core by default."),
    shard_files: int = typer.Option(64, help="Recordings whose rows appear together."),
    retry_failed: bool = typer.Option(False, help="Do what failed before once more, too."),
    json_output: bool = JsonOption,
) -> None:
    """Classify, enhance, separate or embed whole collections, each recording once; stopped, it goes on."""
    from hearpack.batch.batch import batch as run_batch

    with _telling(json_output) as progress:
        result = run_batch(
            bundle,
            inputs,
            output,
            column=column,
            artefact=artefact,
            engine=engine,
            scores=scores,
            audio=audio,
            workers=workers,
            files_per_shard=shard_files,
            retry_failed=retry_failed,
            progress=progress,
        )
    if json_output:
        _json_line("summary", {"output": result.output, "resumed": result.resumed, **to_plain(result.seen)})
        return
    summary, seen = result.summary, result.seen
    if result.resumed:
        say(f"went on with a run: {seen.files - seen.now:,} of {seen.total:,} recordings were there", err=True)
    for kind, failures in summary.failures:
        say(f"failed: {counted(failures.count, 'recording')}: {kind}", err=True)
    for label, count, seconds, files in summary.labels[:10]:
        say(f"{count:7,d} x {label}, {seconds:,.1f} s in {counted(files, 'file')}")
    say(
        f"{counted(summary.files, 'recording')}, {summary.failed:,} failed, {summary.audio_s / 3600:.2f} h of audio; "
        f"now {seen.now:,} in {seen.seconds:.1f} s, {seen.times_real_time:.0f} x real time on this machine"
    )
    say(f"rows: {result.output / 'files'}; summary: {result.page}", err=True)


def _json_line(kind: str, values: dict[str, object]) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **{k: to_plain(v) for k, v in values.items()}}, sort_keys=True) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _telling(json_output: bool) -> Iterator[Callable[[Seen], None]]:
    """What to call after every shard: a line of JSON, a bar, or now and then a line."""
    if json_output:
        yield lambda seen: _json_line("progress", to_plain(seen))
        return
    if not sys.stderr.isatty():
        told = [time.monotonic()]

        def line(seen: Seen) -> None:
            if time.monotonic() - told[0] >= _EVERY_S:
                told[0] = time.monotonic()
                say(f"  {_words(seen)}", err=True)

        yield line
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(),
                  console=console(err=True)) as bars:  # fmt: skip
        task = bars.add_task("opening", total=1.0)
        yield lambda seen: bars.update(task, description=_words(seen), total=seen.total, completed=seen.files)


def _words(seen: Seen) -> str:
    left = "" if seen.left_s is None else f", {seen.left_s / 60:.1f} min left"
    return (
        f"{seen.files:,} of {seen.total:,} files, {seen.audio_s / 3600:.2f} h, {seen.times_real_time:.0f} x real time, "
        f"{seen.failed:,} failed{left}"
    )
