"""An audio file through a bundle, as a phone would hear it: the streaming resampler, the loop, the decisions, and the
plain DSP that the manifest asks for.

An enhancer's file comes back at the input's rate and length with every delay taken out; stereo is enhanced
channel by channel. A separator gives such a file for each source; mono goes into all its channels. A classifier hears
the mean of the channels; its events are in samples at the model's rate, counted from the stream's start as in an app,
so they lag the file by `resampler_delay_samples`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from models.common.files import as_path, save_text
from models.common.printable import csv_cell
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle, require_output
from runtimes.engines import choose, open_runtime
from runtimes.protocol import Outputs, Runtime, State
from streaming.core.bound import bounded
from streaming.core.decisions import SoundEvent, detect
from streaming.core.dsp import InputChain, OutputChain, gated
from streaming.core.loop import LoopOutput, make_loop
from streaming.core.resample import Resampler, resample
from streaming.files.wav import AudioClip, read_wav, write_wav

Array = NDArray[np.float32]

_BLOCK_S = 0.1


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
        outputs: a separator's files, one a source.
        events: what a classifier heard.
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
    events: tuple[SoundEvent, ...]
    outputs: tuple[str, ...] = ()
    limited_samples: int = 0
    nan_outputs: int = 0


def run(
    bundle: Bundle | str | Path,
    audio: str | Path,
    *,
    output: str | Path | None = None,
    artefact: str | None = None,
    engine: str | None = None,
    progress: Progress = silent,
) -> RunResult:
    """Run one artefact of a bundle over an audio file.

    Args:
        bundle: a bundle, or its folder.
        audio: file of any rate from 4,000 to 192,000 Hz, mono or stereo.
        output: an enhancer's .wav (default: beside nothing, in the working folder, named after both); a
            classifier's .csv or .json (default: none). A separator puts each source's name before .wav.
        artefact: id; the fp32 .tflite by default.
        engine: one of runtimes.engines.ENGINES that runs this artefact.
        progress: called with (what, fraction done).

    Returns:
        events or the written file, and how it was computed.

    Raises:
        AudioError: the file is not usable.
        UsageError: output and task do not fit, or the output would overwrite the input.
        BundleError, ArtefactError, OutputError: as their names say.
    """
    bundle, audio = Bundle.of(bundle), Path(audio)
    kind = bundle.manifest.output_kind
    require_output(bundle.manifest, "run", "audio", "scores", "sources")
    destination = _destination(bundle, audio, as_path(output))
    files = _source_files(bundle, audio, destination)
    clip = read_wav(audio)
    given = bounded(clip.samples)
    clip = dataclasses.replace(clip, samples=given.samples)
    choice = choose(bundle, artefact, engine)
    runtime = _Timed(open_runtime(bundle, choice))
    try:
        events: tuple[SoundEvent, ...] = ()
        if kind == "scores":
            events = _hear(bundle, runtime, clip, progress)
            if destination is not None:
                _write_events(destination, events, bundle.manifest.geometry.sample_rate_hz)
        elif kind == "sources":
            for file, samples in zip(files, _separate(bundle, runtime, clip, progress), strict=True):
                write_wav(file, samples, clip.sample_rate_hz)
        else:
            enhanced = np.stack([_enhance(bundle, runtime, channel, clip, progress) for channel in clip.samples])
            if destination is not None:
                write_wav(destination, enhanced, clip.sample_rate_hz)
    finally:
        runtime.close()
    rate = bundle.manifest.geometry.sample_rate_hz
    return RunResult(
        bundle=str(bundle.path),
        artefact=choice.artefact.id,
        engine=choice.engine,
        source=clip.source,
        input_rate_hz=clip.sample_rate_hz,
        channels=len(clip.samples),
        duration_s=clip.duration_s,
        sample_rate_hz=rate,
        resampler_delay_samples=Resampler(clip.sample_rate_hz, rate).delay_out_samples if kind == "scores" else 0,
        calls=runtime.calls,
        real_time_factor=runtime.seconds / clip.duration_s,
        output=None if destination is None or files else str(destination),
        events=events,
        outputs=tuple(map(str, files)),
        limited_samples=given.limited + runtime.limited,
        nan_outputs=runtime.nan_outputs,
    )


class _Timed:
    """A runtime that counts its calls and the time inside them, and keeps what its streams counted."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.signature, self.info = runtime.signature, runtime.info
        self.reset, self.close = runtime.reset, runtime.close
        self.calls = self.limited = self.nan_outputs = 0
        self.seconds = 0.0

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        began = time.perf_counter()
        result = self._runtime.step(block, state)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        return result


def _destination(bundle: Bundle, audio: Path, output: Path | None) -> Path | None:
    if bundle.manifest.output_kind == "scores":
        if output is not None and output.suffix.lower() not in {".csv", ".json"}:
            raise UsageError(f"--output: a classifier writes .csv or .json, got {output.name!r}")
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


def _blocks(samples: Array, rate_hz: int, what: str, progress: Progress) -> Iterator[Array]:
    size = max(1, round(_BLOCK_S * rate_hz))
    length = samples.shape[-1]
    for start in range(0, length, size):
        progress(what, start / length)
        yield samples[..., start : start + size]
    progress(what, 1.0)


def _hear(bundle: Bundle, runtime: _Timed, clip: AudioClip, progress: Progress) -> tuple[SoundEvent, ...]:
    decisions = bundle.manifest.decisions
    if decisions is None:
        raise UsageError(f"{bundle.path}: the manifest of a classifier must have `decisions`; export the bundle again")
    heard = hear_scores(bundle, runtime, clip, progress)
    runtime.limited += heard.limited
    runtime.nan_outputs += heard.nan_outputs
    rate = bundle.manifest.geometry.sample_rate_hz
    return detect(decisions, bundle.labels(), rate, heard.ends, heard.scores, heard.samples)


@dataclass(frozen=True)
class HeardScores:
    """A classifier's scores over a whole recording, as a phone's stream gives them.

    Attributes:
        ends: int64 [n], each window's end at the model's rate, counted from reset.
        scores: float32 [n, labels].
        samples: of the stream, at the model's rate.
        delay_samples: how far that stream lags the file (the resampler's delay).
        limited, nan_outputs: samples that were limited after the stages before the net; windows without finite
            scores, which are left out here.
    """

    ends: NDArray[np.int64]
    scores: Array
    samples: int
    delay_samples: int
    limited: int = 0
    nan_outputs: int = 0


def hear_scores(bundle: Bundle, runtime: Runtime, clip: AudioClip, progress: Progress = silent) -> HeardScores:
    """Stream a recording through a classifier: the mean of its channels, resampled, filtered, windowed.

    Raises:
        AudioError: the clip is not finite.
        ArtefactError: the runtime failed.
    """
    manifest = bundle.manifest
    rate = manifest.geometry.sample_rate_hz
    resampler, before = Resampler(clip.sample_rate_hz, rate), InputChain(manifest.dsp, rate)
    loop = make_loop(manifest, gated(runtime, manifest.dsp, manifest.buffer.samples))
    heard: list[LoopOutput] = []
    for block in _blocks(clip.mono(), clip.sample_rate_hz, f"listening to {Path(clip.source).name}", progress):
        heard += loop.push(before.process(resampler.process(block)))
    heard += loop.push(before.process(resampler.flush()))
    heard += loop.flush()
    heard = [h for h in heard if not h.nan]
    ends = np.array([h.end_sample for h in heard], np.int64)
    scores = np.stack([h.values for h in heard]) if heard else np.zeros((0, len(bundle.labels())), np.float32)
    return HeardScores(ends, scores, loop.in_samples, resampler.delay_out_samples, before.limited, loop.nan_outputs)


def _enhance(bundle: Bundle, runtime: _Timed, samples: Array, clip: AudioClip, progress: Progress) -> Array:
    geometry = bundle.manifest.geometry
    loop = make_loop(bundle.manifest, runtime)
    before = InputChain(bundle.manifest.dsp, geometry.sample_rate_hz)
    after = OutputChain(bundle.manifest.dsp, geometry.sample_rate_hz, geometry.delay_samples)
    out: list[LoopOutput] = []
    at_rate = resample(samples, clip.sample_rate_hz, geometry.sample_rate_hz)
    for block in _blocks(at_rate, geometry.sample_rate_hz, f"enhancing {Path(clip.source).name}", progress):
        block = before.process(block)
        after.feed(block)
        out += loop.push(block)
    out += loop.flush()
    runtime.limited += before.limited
    runtime.nan_outputs += loop.nan_outputs
    enhanced = after.process(np.concatenate([o.values for o in out]))[geometry.delay_samples :]
    back = resample(enhanced, geometry.sample_rate_hz, clip.sample_rate_hz)
    # Rounding up twice may give a sample too many, never one too few.
    return back[: len(samples)]


def _separate(bundle: Bundle, runtime: _Timed, clip: AudioClip, progress: Progress) -> Array:
    """Each source, float32 [sources, channels, n] at the clip's rate, its delay taken out."""
    geometry, from_hz = bundle.manifest.geometry, clip.sample_rate_hz
    rate = geometry.sample_rate_hz
    loop = make_loop(bundle.manifest, runtime)
    at_rate = np.stack([resample(channel, from_hz, rate) for channel in clip.spread(geometry.channels)])
    out: list[LoopOutput] = []
    for block in _blocks(at_rate, rate, f"separating {Path(clip.source).name}", progress):
        out += loop.push(bounded(block).samples)
    out += loop.flush()
    runtime.nan_outputs += loop.nan_outputs
    separated = np.concatenate([o.values for o in out], -1)[..., geometry.delay_samples :]
    back = np.stack([resample(c, rate, from_hz) for c in separated.reshape(-1, separated.shape[-1])])
    length = clip.samples.shape[1]
    return back[:, :length].reshape(*separated.shape[:2], length)


def _write_events(path: Path, events: tuple[SoundEvent, ...], sample_rate_hz: int) -> None:
    fields = ("label", "index", "onset_sample", "offset_sample", "confidence")
    rows = [{f: getattr(e, f) for f in fields} for e in events]
    if path.suffix.lower() == ".json":
        text = json.dumps({"sample_rate_hz": sample_rate_hz, "events": rows}, indent=2) + "\n"
    else:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, [*fields, "sample_rate_hz"], lineterminator="\n")
        writer.writeheader()
        cells = ({**row, "label": csv_cell(str(row["label"])), "sample_rate_hz": sample_rate_hz} for row in rows)
        writer.writerows(cells)
        text = buffer.getvalue()
    save_text(path, text)


def event_fields(event: SoundEvent) -> dict[str, object]:
    """An event as golden.json and traces store it: without emitted_at, which is for people."""
    return {k: v for k, v in dataclasses.asdict(event).items() if k != "emitted_at_sample"}
