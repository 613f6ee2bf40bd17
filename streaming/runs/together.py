"""An audio file through two bundles at once, as one phone would run them: streaming/core/stages.py over a file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from models.common.files import as_path
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle, require_output
from runtimes.engines import choose, open_runtime
from streaming.core.decisions import SoundEvent
from streaming.core.resample import Resampler
from streaming.core.stages import StageGate, StageNet, StageOutput, Stages
from streaming.files.events import TimedEvent, timed_events
from streaming.files.reader import AudioReader
from streaming.files.wav import WavWriter, mono, open_wav

Array = NDArray[np.float32]


@dataclass(frozen=True)
class StageResult:
    """What one of the bundles did.

    Attributes:
        bundle, artefact, engine: what computed.
        calls: calls of its graph.
        spared: calls that a shut gate spared.
        events: what a classifier heard, in seconds of the file.
    """

    bundle: str
    artefact: str
    engine: str
    calls: int
    spared: int
    events: tuple[TimedEvent, ...]


@dataclass(frozen=True)
class TogetherResult:
    """What a run of several bundles over a file gave.

    Attributes:
        source: the audio file.
        duration_s: of the file.
        stages: of each bundle, in the order given.
        output: the file written: the last enhancer's sound at its own rate, delays taken out; None without one.
    """

    source: str
    duration_s: float
    stages: tuple[StageResult, ...]
    output: str | None


def run_together(
    first: Bundle | str | Path,
    second: Bundle | str | Path,
    audio: str | Path,
    *,
    behind: bool = False,
    gate: str = "",
    output: str | Path | None = None,
    progress: Progress = silent,
) -> TogetherResult:
    """Run two bundles over an audio file at once, in the order of calls that the apps have.

    Args:
        first: a bundle, or its folder.
        second: another.
        audio: file of any rate from 4,000 to 192,000 Hz; its channels are averaged.
        behind: the second hears what the first, an enhancer, gives; without it, both hear the file.
        gate: a label of the first, a classifier: the second is called only while it is on.
        output: .wav for the sound of the last enhancer; without it, none is written.
        progress: called with (what, fraction done).

    Returns:
        calls and events of each.

    Raises:
        UsageError: the bundles, the gate and the output do not fit each other.
        AudioError: the file is not usable.
        BundleError, ArtefactError, OutputError: as their names say.
    """
    bundles = [Bundle.of(first), Bundle.of(second)]
    for bundle in bundles:
        require_output(bundle.manifest, "run", "audio", "scores")
    labels = [labels_of(bundle) for bundle in bundles]
    switch = gate_of(bundles[0], gate)
    enhancers = [i for i, b in enumerate(bundles) if b.manifest.output_kind == "audio"]
    destination = as_path(output)
    if destination is not None and (not enhancers or destination.suffix.lower() != ".wav"):
        raise UsageError(f"--output: expected NAME.wav for the sound of an enhancer, got {destination.name!r}")
    picked = [choose(bundle) for bundle in bundles]
    with ExitStack() as stack:
        reader = stack.enter_context(AudioReader(Path(audio)))
        runtimes = [stack.enter_context(closing(open_runtime(b, c))) for b, c in zip(bundles, picked, strict=True)]
        nets = [
            StageNet(bundles[0].manifest, runtimes[0], labels[0]),
            StageNet(bundles[1].manifest, runtimes[1], labels[1], 0 if behind else None, switch),
        ]
        stages = Stages(nets, reader.sample_rate_hz)
        lags = _lags(nets, reader.sample_rate_hz)
        events: list[list[SoundEvent]] = [[], []]
        writer = None
        if destination is not None and enhancers:
            geometry = bundles[enhancers[-1]].manifest.geometry
            opened = stack.enter_context(open_wav(destination, 1, geometry.sample_rate_hz))
            frames = round(reader.duration_s * geometry.sample_rate_hz)
            writer = _Sound(opened, lags[enhancers[-1]] + geometry.delay_samples, frames)
        for given in _given(stages, reader, progress):
            events[given.stage] += [e for e in given.events if e.offset_sample is not None]
            if writer is not None and given.stage == enhancers[-1]:
                writer.take(given.values)
        results = [
            StageResult(
                bundle=str(bundle.path),
                artefact=choice.artefact.id,
                engine=choice.engine,
                calls=stages.calls[i],
                spared=stages.spared[i],
                events=timed_events(events[i], bundle.manifest, lags[i], reader.duration_s) if labels[i] else (),
            )
            for i, (bundle, choice) in enumerate(zip(bundles, picked, strict=True))
        ]
        written = None if destination is None else str(destination)
        return TogetherResult(reader.source, reader.duration_s, tuple(results), written)


def labels_of(bundle: Bundle) -> tuple[str, ...]:
    """A classifier's labels; () of an enhancer."""
    return tuple(bundle.labels()) if bundle.manifest.output_kind == "scores" else ()


def gate_of(first: Bundle, label: str) -> StageGate | None:
    """The gate that a label of the first of two bundles is; None for "".

    Raises:
        UsageError: it has no such label.
    """
    labels = labels_of(first)
    if not label:
        return None
    if label not in labels:
        near = difflib.get_close_matches(label, labels, n=3, cutoff=0.4) or labels[:3]
        raise UsageError(
            f"--gate: {first.path.name} has no label {label!r}; nearest: {', '.join(near) or 'none, no classifier'}"
        )
    return StageGate(0, labels.index(label))


class _Sound:
    """A stage's sound into a file, without what lags the file it heard, as long as that."""

    def __init__(self, writer: WavWriter, lag_samples: int, frames: int) -> None:
        self._writer, self._skip, self._frames = writer, lag_samples, frames

    def take(self, samples: Array) -> None:
        skip = min(self._skip, len(samples))
        self._skip -= skip
        self._writer.write(samples[None, skip:][:, : self._frames - self._writer.frames])


def _given(stages: Stages, reader: AudioReader, progress: Progress) -> Iterator[StageOutput]:
    what = f"running over {Path(reader.source).name}"
    done = 0
    for block in reader.blocks(reader.sample_rate_hz):
        done += len(block)
        yield from stages.push(mono(np.ascontiguousarray(block.T)))
        if reader.frames:
            progress(what, min(1.0, done / reader.frames))
    yield from stages.flush()
    progress(what, 1.0)


def _lags(nets: list[StageNet], rate_hz: int) -> list[int]:
    """How far each stage's stream lags the file by the resamplers on its way, at its rate."""
    lags: list[int] = []
    for net in nets:
        heard = rate_hz if net.hears is None else nets[net.hears].manifest.geometry.sample_rate_hz
        before = 0 if net.hears is None else lags[net.hears]
        rate = net.manifest.geometry.sample_rate_hz
        lags.append(round(before * rate / heard) + Resampler(heard, rate).delay_out_samples)
    return lags
