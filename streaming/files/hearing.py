"""A file through a classifier or an embedder, as a phone's stream hears it; a runtime that counts, and outputs that
are kept call by call and written as a .npz."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from models.common.files import atomic_file
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle, Manifest
from runtimes.protocol import Outputs, Runtime, State
from streaming.core.bound import bounded
from streaming.core.decisions import DecisionTracker, SoundEvent
from streaming.core.dsp import InputChain, gated
from streaming.core.loop import LoopOutput, make_loop
from streaming.core.resample import Resampler
from streaming.files.events import TimedEvent, timed_events
from streaming.files.reader import BLOCK_FRAMES, AudioReader
from streaming.files.wav import mono, spread

Array = NDArray[np.float32]


class Recordings(AudioReader):
    """An AudioReader whose blocks have further files as channels behind its own.

    Args:
        path: the recording; `channels`, `frames` and the level are its own.
        others: files at the same rate, each heard as mono; silence where one has ended.

    Raises:
        AudioError: a file is not usable.
        UsageError: another rate.
    """

    def __init__(self, path: str | Path, others: Sequence[str | Path] = ()) -> None:
        self._others: list[AudioReader] = []
        super().__init__(path)
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            for other in others:
                self._others.append(AudioReader(other))
                rate = self._others[-1].sample_rate_hz
                if rate != self.sample_rate_hz:
                    raise UsageError(
                        f"--far: {other} is at {rate} Hz, {path} at {self.sample_rate_hz}; bring both to one rate"
                    )
            stack.pop_all()

    def blocks(self, frames: int = BLOCK_FRAMES) -> Iterator[Array]:
        """float32 [n, channels + others], the last one shorter."""
        streams = [other.blocks(frames) for other in self._others]
        for block in super().blocks(frames):
            lanes = [mono(np.ascontiguousarray(next(s, np.zeros((0, 1), np.float32)).T))[: len(block)] for s in streams]
            columns = [np.pad(lane, (0, len(block) - len(lane)))[:, None] for lane in lanes]
            yield np.concatenate([block, *columns], 1) if columns else block

    def close(self) -> None:
        """Close all of them."""
        for other in self._others:
            other.close()
        super().close()


class KeptOutputs:
    """A runtime, some of whose outputs are kept.

    Args:
        runtime: what computes.
        names: of the outputs.

    Attributes:
        values: by name, what each call gave.
    """

    def __init__(self, runtime: Runtime, names: Sequence[str]) -> None:
        self._runtime = runtime
        self.signature, self.info = runtime.signature, runtime.info
        self.reset, self.close = runtime.reset, runtime.close
        self.values: dict[str, list[Array]] = {name: [] for name in names}

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call; see runtimes.protocol.Runtime."""
        outputs, state = self._runtime.step(block, state)
        for name, values in self.values.items():
            values.append(outputs[name])
        return outputs, state

    def stacked(self) -> dict[str, Array]:
        """By name, float32 [calls, ...]."""
        return {name: np.stack(values) for name, values in self.values.items() if values}


def check_arrays_file(path: Path, option: str) -> None:
    """Raise UsageError unless arrays can be written under such a name."""
    if path.suffix.lower() != ".npz":
        raise UsageError(f"{option}: arrays go into a .npz, got {path.name!r}")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a .npz (numpy.load reads it). Raises OutputError; nothing is left behind."""
    with atomic_file(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # its stubs know no mapping


class TimedRuntime:
    """A runtime that counts its calls and the time inside them, and keeps what its streams counted and some outputs."""

    def __init__(self, runtime: Runtime, names: Sequence[str] = ()) -> None:
        self._runtime, self._names = runtime, names
        self._streams: list[KeptOutputs] = []
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

    def stream(self) -> Runtime:
        """It, for one more stream, whose outputs are kept for themselves."""
        if not self._names:
            return self
        self._streams.append(KeptOutputs(self, self._names))
        return self._streams[-1]

    def kept(self) -> dict[str, Array]:
        """Outputs that were kept, float32 [calls, ...]: NAME, or NAME.1, NAME.2 of several streams."""
        one = len(self._streams) == 1
        return {
            name if one else f"{name}.{number}": values
            for number, stream in enumerate(self._streams, 1)
            for name, values in stream.stacked().items()
        }


def blocks(reader: AudioReader, runtime: TimedRuntime, what: str, progress: Progress) -> Iterator[Array]:
    """The file in blocks of a second, float32 [channels, n], within what a net may be given."""
    done = 0
    what = f"{what} {Path(reader.source).name}"
    progress(what, 0.0)
    for block in reader.blocks(reader.sample_rate_hz):
        done += len(block)
        given = bounded(block)
        runtime.limited += given.limited
        yield np.ascontiguousarray(given.samples.T)
        if reader.frames:
            progress(what, min(1.0, done / reader.frames))
    progress(what, 1.0)


class Ears:
    """A file through a classifier or an embedder: the mean of its channels, resampled, filtered, windowed; or each of
    the channels that the net takes.

    Args:
        manifest: the classifier's.
        runtime: its runtime.
        reader: the file.

    Attributes:
        loop: the stream.
        lag_samples: how far it lags the file.
    """

    def __init__(self, manifest: Manifest, runtime: TimedRuntime, reader: AudioReader) -> None:
        rate = manifest.geometry.sample_rate_hz
        self._runtime, self._reader, self._channels = runtime, reader, manifest.geometry.channels
        self._resamplers = [Resampler(reader.sample_rate_hz, rate) for _ in range(self._channels)]
        self._before = InputChain(manifest.dsp, rate)
        self.loop = make_loop(manifest, gated(runtime.stream(), manifest.dsp, manifest.buffer.samples))
        self.lag_samples = self._resamplers[0].delay_out_samples

    def listen(self, progress: Progress) -> Iterator[LoopOutput]:
        """Every window's scores, but those that are not finite."""
        for block in blocks(self._reader, self._runtime, "listening to", progress):
            channels = [mono(block)] if self._channels == 1 else spread(block, self._channels)
            yield from self._push([r.process(c) for r, c in zip(self._resamplers, channels, strict=True)])
        yield from self._push([r.flush() for r in self._resamplers])
        yield from (heard for heard in self.loop.flush() if not heard.nan)

    def _push(self, channels: list[Array]) -> list[LoopOutput]:
        block = self._before.process(channels[0]) if len(channels) == 1 else bounded(np.stack(channels)).samples
        return [heard for heard in self.loop.push(block) if not heard.nan]

    def count(self) -> None:
        """Have the runtime keep what the stream counted."""
        self._runtime.limited += self._before.limited
        self._runtime.nan_outputs += self.loop.nan_outputs


@dataclass(frozen=True)
class HeardScores:
    """A classifier's scores over a whole recording, as a phone's stream gives them.

    Attributes:
        ends: int64 [n], each window's end at the model's rate, counted from reset.
        scores: float32 [n, labels].
        samples: of the stream, at the model's rate.
        delay_samples: how far that stream lags the file (the resampler's delay).
    """

    ends: NDArray[np.int64]
    scores: Array
    samples: int
    delay_samples: int


def hear_scores(bundle: Bundle, runtime: Runtime, reader: AudioReader, progress: Progress = silent) -> HeardScores:
    """Stream a recording through a classifier.

    Raises:
        AudioError: the file is not usable.
        ArtefactError: the runtime failed.
    """
    ears = Ears(bundle.manifest, TimedRuntime(runtime), reader)
    heard = list(ears.listen(progress))
    ends = np.array([h.end_sample for h in heard], np.int64)
    scores = np.stack([h.values for h in heard]) if heard else np.zeros((0, len(bundle.labels())), np.float32)
    return HeardScores(ends, scores, ears.loop.in_samples, ears.lag_samples)


def hear(
    bundle: Bundle,
    runtime: TimedRuntime,
    reader: AudioReader,
    progress: Progress = silent,
    keep: Callable[[LoopOutput], None] | None = None,
) -> tuple[tuple[TimedEvent, ...], int]:
    """A whole file through a classifier.

    Args:
        bundle: the classifier's.
        runtime: of one of its artefacts.
        reader: the file, opened; it is read to its end.
        progress: called with (what, fraction done).
        keep: called with every window's finite scores.

    Returns:
        events, and how far the model's stream lags the file, in samples at the model's rate.

    Raises:
        AudioError, ArtefactError, UsageError: as `run`.
    """
    manifest = bundle.manifest
    if manifest.decisions is None:
        raise UsageError(f"{bundle.path}: the manifest of a classifier must have `decisions`; export the bundle again")
    tracker = DecisionTracker(manifest.decisions, bundle.labels(), manifest.geometry.sample_rate_hz)
    ears = Ears(manifest, runtime, reader)
    events: list[SoundEvent] = []
    for heard in ears.listen(progress):
        events += tracker.push(heard.values, heard.end_sample)
        if keep is not None:
            keep(heard)
    ears.count()
    events += tracker.flush(ears.loop.in_samples)
    closed = [event for event in events if event.offset_sample is not None]
    return timed_events(closed, manifest, ears.lag_samples, reader.duration_s), ears.lag_samples


def embed(
    manifest: Manifest, runtime: TimedRuntime, reader: AudioReader, progress: Progress = silent
) -> tuple[Array, NDArray[np.int64], int]:
    """A whole file through an embedder.

    Returns:
        float32 [windows, d]; int64 [windows], each window's end at the model's rate; how far that stream lags the file.

    Raises:
        AudioError, ArtefactError: as `run`.
    """
    ears = Ears(manifest, runtime, reader)
    heard = list(ears.listen(progress))
    ears.count()
    width = manifest.outputs[0].shape[-1]
    vectors = np.stack([h.values for h in heard]) if heard else np.zeros((0, width), np.float32)
    return vectors, np.array([h.end_sample for h in heard], np.int64), ears.lag_samples
