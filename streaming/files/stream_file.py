"""An audio file through a bundle, as a phone would hear it: the streaming resampler, the loop, the decisions, and the
plain DSP that the manifest asks for.

An enhancer's file comes back at the input's rate and length with every delay taken out; stereo is enhanced
channel by channel, or together by a net that takes several. A separator gives such a file for each source; mono goes
into all its channels. A classifier hears the mean of the channels, or all that it takes; its events are in seconds of
the file, and in samples at the model's rate, counted from the stream's start as in an app, which lag the file by
`resampler_delay_samples`. Memory does not grow with the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from models.common.files import as_path
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle, Manifest
from runtimes.engines import choose, open_runtime
from streaming.core.decisions import SoundEvent
from streaming.files.cleaning import clean
from streaming.files.events import TimedEvent, check_event_file, write_events
from streaming.files.hearing import Recordings, TimedRuntime, check_arrays_file, embed, hear, write_arrays
from streaming.files.levels import InputLevel

Array = NDArray[np.float32]


@dataclass(frozen=True)
class RunResult:
    """What a run over a file gave.

    Attributes:
        bundle, artefact, engine: what computed.
        source: the audio file.
        input_rate_hz, channels, duration_s: of the file.
        sample_rate_hz: the model's rate, that of the events' samples.
        resampler_delay_samples: how far the model's stream lags the file, at the model's rate.
        calls: calls of the graph.
        real_time_factor: time spent in the graph by duration of the audio, measured here, back to back.
        output: file written, if any.
        outputs: a separator's files, one per source.
        extras: the .npz of outputs beside the task's own, if one was asked for.
        events: what a classifier heard.
        level: what the input looks like.
        warnings: what a person has to know of the file.
        limited_samples: samples beyond what a net may be given (streaming/core/bound.py), limited before it.
        nan_outputs: calls whose output was not finite: silence, or no scores; each reset the net's state.
    """

    bundle: str
    artefact: str
    engine: str
    source: str
    input_rate_hz: int
    channels: int
    duration_s: float
    sample_rate_hz: int
    resampler_delay_samples: int
    calls: int
    real_time_factor: float
    output: str | None
    events: tuple[TimedEvent, ...]
    outputs: tuple[str, ...]
    level: InputLevel
    warnings: tuple[str, ...]
    limited_samples: int = 0
    nan_outputs: int = 0
    extras: str | None = None


def run(
    bundle: Bundle | str | Path,
    audio: str | Path,
    *,
    output: str | Path | None = None,
    artefact: str | None = None,
    engine: str | None = None,
    extras: str | Path | None = None,
    far: Sequence[str | Path] = (),
    progress: Progress = silent,
) -> RunResult:
    """Run one artefact of a bundle over an audio file.

    Args:
        bundle: a bundle, or its folder.
        audio: file of any rate from 4,000 to 192,000 Hz, mono or stereo.
        output: an enhancer's .wav (default: beside nothing, in the working folder, named after both); a
            classifier's .csv, .json or .txt (default: none). A separator puts each source's name before .wav. An
            embedder's .npz: `embedding` [windows, d] and `end_sample` [windows], at the model's rate.
        artefact: id; the fp32 .tflite by default.
        engine: one of runtimes.engines.ENGINES that runs this artefact.
        extras: a .npz for the outputs beside the task's own, each [calls, ...] under its name; those of a stereo file
            whose channels go through the net one by one are called NAME.1 and NAME.2.
        far: a file for each input beside `audio`, in the manifest's order, at the rate of `audio`; heard as mono, its
            end filled up with silence.
        progress: called with (what, fraction done).

    Returns:
        events or the written file, and how it was computed.

    Raises:
        AudioError: the file is not usable.
        UsageError: output and task do not fit, or the output would overwrite the input.
        BundleError, ArtefactError, OutputError: as their names say.
    """
    bundle, audio = Bundle.of(bundle), Path(audio)
    beside = _extras_file(bundle.manifest, as_path(extras))
    destination = _destination(bundle, audio, as_path(output))
    files = _source_files(bundle, audio, destination)
    choice = choose(bundle, artefact, engine)
    names = [t.name for t in bundle.manifest.extra_outputs] if beside else []
    _check_far(bundle.manifest, far)
    with Recordings(audio, far) as reader, closing(TimedRuntime(open_runtime(bundle, choice), names)) as runtime:
        events: tuple[TimedEvent, ...] = ()
        lag = 0
        if bundle.manifest.output_kind == "scores":
            events, lag = hear(bundle, runtime, reader, progress)
            if destination is not None:
                write_events(destination, events, bundle.manifest.geometry.sample_rate_hz)
        elif bundle.manifest.output_kind == "embedding":
            vectors, ends, _ = embed(bundle.manifest, runtime, reader, progress)
            write_arrays(cast(Path, destination), {"embedding": vectors, "end_sample": ends})
        else:
            clean(bundle, runtime, reader, files or [cast(Path, destination)], progress)
        if beside is not None:
            write_arrays(beside, runtime.kept())
        return RunResult(
            bundle=str(bundle.path),
            artefact=choice.artefact.id,
            engine=choice.engine,
            source=reader.source,
            input_rate_hz=reader.sample_rate_hz,
            channels=reader.channels,
            duration_s=reader.duration_s,
            sample_rate_hz=bundle.manifest.geometry.sample_rate_hz,
            resampler_delay_samples=lag,
            calls=runtime.calls,
            real_time_factor=runtime.seconds / reader.duration_s,
            output=None if destination is None or files else str(destination),
            events=events,
            outputs=tuple(map(str, files)),
            level=reader.level(),
            warnings=reader.warnings,
            limited_samples=runtime.limited,
            nan_outputs=runtime.nan_outputs,
            extras=None if beside is None else str(beside),
        )


def _check_far(manifest: Manifest, far: Sequence[str | Path]) -> None:
    wanted = [t.name for t in manifest.far]
    if len(far) != len(wanted):
        what = f"a file for each of: {', '.join(wanted)}" if wanted else "nothing: the model takes `audio` alone"
        raise UsageError(f"--far: {manifest.name} needs {what}; got {len(far)}")
    if wanted and manifest.output_kind in ("scores", "embedding"):
        raise UsageError(f"run: {manifest.name} gives no audio, and run feeds {wanted[0]} only to nets that do")


def _extras_file(manifest: Manifest, extras: Path | None) -> Path | None:
    if extras is None:
        return None
    if not manifest.extra_outputs:
        raise UsageError(
            f"--extras: {manifest.name} has no output beside {', '.join(t.name for t in manifest.outputs)}"
        )
    check_arrays_file(extras, "--extras")
    return extras


def _destination(bundle: Bundle, audio: Path, output: Path | None) -> Path | None:
    if bundle.manifest.output_kind == "scores":
        if output is not None:
            check_event_file(output)
    elif bundle.manifest.output_kind == "embedding":
        output = Path(f"{audio.stem}.{bundle.manifest.name}.npz") if output is None else output
        check_arrays_file(output, "--output")
    else:
        if output is None:
            output = Path(f"{audio.stem}.{bundle.manifest.name}.wav")
        if output.suffix.lower() != ".wav":
            what = "a separator" if bundle.manifest.sources else "an enhancer"
            raise UsageError(f"--output: {what} writes .wav, got {output.name!r}")
    if output is not None and output.exists() and audio.exists() and output.samefile(audio):
        raise UsageError(f"--output: {output} is the input itself; choose another name, nothing was changed")
    return output


def _source_files(bundle: Bundle, audio: Path, destination: Path | None) -> list[Path]:
    """Where a separator's sources go; nothing for other nets."""
    if destination is None:
        return []
    files = [destination.with_name(f"{destination.stem}.{name}.wav") for name in bundle.manifest.sources]
    for file in files:
        if file.exists() and audio.exists() and file.samefile(audio):
            raise UsageError(f"--output: {file} is the input itself; choose another name, nothing was changed")
    return files


def event_fields(event: SoundEvent) -> dict[str, object]:
    """An event as golden.json and traces store it: without emitted_at, which is for people."""
    return {k: v for k, v in dataclasses.asdict(event).items() if k != "emitted_at_sample"}
