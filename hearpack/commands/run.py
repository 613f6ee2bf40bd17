"""`hearpack run`: a bundle over an audio file, as a phone would hear it."""

from __future__ import annotations

from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json, progress_bars, say, say_input, second_of
from models.common.errors import UsageError
from models.common.printable import counted


def run(
    bundle: Path = typer.Argument(..., help="A bundle's folder."),
    audio: Path = typer.Argument(..., help="Audio file, 4 to 192 kHz, mono or stereo."),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="Enhancer: the .wav to write (separator: one per source). Classifier: .csv, .json or .txt (Audacity). "
        "Embedder: .npz.",
    ),
    artefact: str | None = typer.Option(None, help="Artefact id (see: hearpack inspect); litert-fp32 by default."),
    engine: str | None = typer.Option(None, help="litert-interpreter, litert-compiled, coreml, mil-fp32, mil-fp16."),
    extras: Path | None = typer.Option(None, help="A .npz for outputs beside the task's own (see: hearpack inspect)."),
    far: list[Path] = typer.Option([], help="A file for each input beside audio (the far end), in the bundle's order."),
    beside: Path | None = typer.Option(None, help="A second bundle that hears the same, at once."),
    then: Path | None = typer.Option(None, help="A second bundle that hears what the first, an enhancer, gives."),
    gate: str = typer.Option("", help="With --beside: call the second only while the first hears this label."),
    json_output: bool = JsonOption,
) -> None:
    """Enhance a file, or list what is heard in it and when."""
    second = second_of(beside, then, gate)
    if second is not None:
        _together(bundle, second, audio, output, then is not None, gate, (artefact, engine, extras, *far), json_output)
        return
    from streaming.files.stream_file import run as run_file

    with progress_bars(json_output) as progress:
        result = run_file(
            bundle, audio, output=output, artefact=artefact, engine=engine, extras=extras, far=far, progress=progress
        )
    if json_output:
        print_json(result)
        return
    say_input(result.level, result.warnings)
    for event in result.events:
        say(f"{event.onset_s:9.3f} s  {event.offset_s:9.3f} s  {event.confidence:5.2f}  {event.label}")
    written = result.outputs or ((result.output,) if result.output else ())
    heard = "" if written and written[0].endswith((".wav", ".npz")) else f"{counted(len(result.events), 'event')}; "
    written += () if result.extras is None else (result.extras,)
    where = f"; wrote {', '.join(written)}" if written else ""
    say(
        f"{heard}{result.duration_s:.1f} s of audio in {counted(result.calls, 'call')} of {result.artefact} on "
        f"{result.engine}, {result.real_time_factor:.4f} of real time on this machine{where}",
        err=bool(result.events),
    )
    if result.limited_samples:
        say(
            f"{result.limited_samples} samples were more than 12 dB over full scale and were limited to 4.0 before the "
            "model; is the file scaled as integers?",
            err=True,
        )
    if result.nan_outputs:
        say(
            f"{counted(result.nan_outputs, 'call')} gave no finite output: left out, the state was reset each time",
            err=True,
        )


def _together(
    bundle: Path,
    second: Path,
    audio: Path,
    output: Path | None,
    behind: bool,
    gate: str,
    chosen: tuple[str | Path | None, ...],
    json_output: bool,
) -> None:
    """Two bundles at once."""
    from streaming.runs.together import run_together

    if any(option is not None for option in chosen):
        raise UsageError(
            "--artefact, --engine, --extras and --far are for one bundle; --beside and --then run both as they are"
        )
    with progress_bars(json_output) as progress:
        result = run_together(bundle, second, audio, behind=behind, gate=gate, output=output, progress=progress)
    if json_output:
        print_json(result)
        return
    for stage in result.stages:
        for event in stage.events:
            say(f"{event.onset_s:9.3f} s  {event.offset_s:9.3f} s  {event.confidence:5.2f}  {event.label}")
        spared = f", {stage.spared} spared by the gate" if stage.spared else ""
        say(
            f"{Path(stage.bundle).name}: {counted(len(stage.events), 'event')}, {counted(stage.calls, 'call')} of "
            f"{stage.artefact} on {stage.engine}{spared}",
            err=True,
        )
    if result.output is not None:
        say(f"wrote {result.output}", err=True)
