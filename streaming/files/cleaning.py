"""A file through an enhancer or a separator, as a phone's stream hears it, every delay taken out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.progress import Progress, silent
from runtimes.bundle import Bundle, Manifest
from streaming.core.bound import bounded
from streaming.core.dsp import InputChain, OutputChain
from streaming.core.loop import LoopOutput, make_loop
from streaming.core.resample import Resampler
from streaming.files.hearing import TimedRuntime, blocks
from streaming.files.reader import AudioReader
from streaming.files.wav import WavWriter, open_wav, spread

Array = NDArray[np.float32]
OpenWav = Callable[[Path, int, int], AbstractContextManager[WavWriter]]  # path, channels, rate


class _Aligned:
    """A resampler whose delay is cut off the front: output sample m lies at input time m * from / to."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._resampler = Resampler(from_hz, to_hz)
        self._skip = self._resampler.delay_out_samples

    def process(self, block: Array) -> Array:
        """float32 [n] in, what it completes out."""
        return self._cut(self._resampler.process(block))

    def flush(self) -> Array:
        """The rest."""
        return self._cut(self._resampler.flush())

    def _cut(self, samples: Array) -> Array:
        skip = min(self._skip, len(samples))
        self._skip -= skip
        return samples[skip:]


class _Voice:
    """One channel through an enhancer: to the model's rate, the net, the plain DSP, back; every delay taken out."""

    def __init__(self, manifest: Manifest, runtime: TimedRuntime, rate_hz: int) -> None:
        geometry, stages = manifest.geometry, manifest.dsp
        model_hz = geometry.sample_rate_hz
        self._to, self._back = _Aligned(rate_hz, model_hz), _Aligned(model_hz, rate_hz)
        self._before = InputChain(stages, model_hz)
        self._after = OutputChain(stages, model_hz, geometry.delay_samples)
        self._runtime, self._loop = runtime, make_loop(manifest, runtime.stream())
        self._skip = geometry.delay_samples

    def process(self, block: Array) -> Array:
        """float32 [n] of the file in, what it completes out."""
        return self._back.process(self._through(self._to.process(block)))

    def flush(self) -> Array:
        """The rest."""
        last = self._through(self._to.flush())
        rest = self._cleaned(self._loop.flush())
        self._runtime.limited += self._before.limited
        self._runtime.nan_outputs += self._loop.nan_outputs
        return np.concatenate([self._back.process(np.concatenate([last, rest])), self._back.flush()])

    def _through(self, block: Array) -> Array:
        block = self._before.process(block)
        self._after.feed(block)
        return self._cleaned(self._loop.push(block))

    def _cleaned(self, outputs: list[LoopOutput]) -> Array:
        if not outputs:
            return np.zeros(0, np.float32)
        samples = self._after.process(np.concatenate([o.values for o in outputs]))
        skip = min(self._skip, len(samples))
        self._skip -= skip
        return samples[skip:]


def clean(
    bundle: Bundle,
    runtime: TimedRuntime,
    reader: AudioReader,
    files: Sequence[Path],
    progress: Progress = silent,
    opened: OpenWav = open_wav,
) -> None:
    """A whole file through an enhancer or a separator, at the input's rate and length.

    Args:
        bundle: the net's.
        runtime: of one of its artefacts.
        reader: the file, opened; it is read to its end.
        files: the .wav to write; a separator's, one per source.
        progress: called with (what, fraction done).
        opened: opens a .wav to write.

    Raises:
        AudioError, ArtefactError, OutputError: as `run`.
    """
    if len(files) > 1 or bundle.manifest.sources or bundle.manifest.lanes > 1:
        _separate(bundle, runtime, reader, files, progress, opened)
    else:
        _enhance(bundle, runtime, reader, files[0], progress, opened)


def _enhance(
    bundle: Bundle, runtime: TimedRuntime, reader: AudioReader, file: Path, progress: Progress, opened: OpenWav
) -> None:
    """Every channel enhanced into a file at the input's rate and length."""
    voices = [_Voice(bundle.manifest, runtime, reader.sample_rate_hz) for _ in range(reader.channels)]
    with opened(file, reader.channels, reader.sample_rate_hz) as writer:
        taken = 0
        for block in blocks(reader, runtime, "enhancing", progress):
            taken += block.shape[1]
            writer.write(np.stack([voice.process(c) for voice, c in zip(voices, block, strict=True)]))
        rest = np.stack([voice.flush() for voice in voices])
        # Rounding up twice may give a sample too many, never one too few.
        writer.write(rest[:, : taken - writer.frames])


def _separate(
    bundle: Bundle,
    runtime: TimedRuntime,
    reader: AudioReader,
    files: Sequence[Path],
    progress: Progress,
    opened: OpenWav,
) -> None:
    """Each source, or what an enhancer of several channels gives, into its file, at the input's rate and length."""
    geometry, from_hz = bundle.manifest.geometry, reader.sample_rate_hz
    rate, channels = geometry.sample_rate_hz, geometry.channels
    loop = make_loop(bundle.manifest, runtime.stream())
    to = [_Aligned(from_hz, rate) for _ in range(bundle.manifest.lanes)]
    back = [[_Aligned(rate, from_hz) for _ in range(channels)] for _ in files]
    skip = geometry.delay_samples
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(opened(file, channels, from_hz)) for file in files]

        def write(outputs: list[LoopOutput], most: int | None = None) -> None:
            nonlocal skip
            empty = np.zeros((len(files), channels, 0), np.float32)
            samples = np.concatenate([empty, *(o.values.reshape(len(files), channels, -1) for o in outputs)], -1)
            cut = min(skip, samples.shape[-1])
            skip -= cut
            for writer, source, resamplers in zip(writers, samples[..., cut:], back, strict=True):
                found = [r.process(np.ascontiguousarray(c)) for r, c in zip(resamplers, source, strict=True)]
                if most is not None:
                    found = [np.concatenate([f, r.flush()]) for f, r in zip(found, resamplers, strict=True)]
                writer.write(np.stack(found)[:, : None if most is None else most - writer.frames])

        taken = 0
        for block in blocks(reader, runtime, "separating", progress):
            taken += block.shape[1]
            lanes = [*spread(block[: reader.channels], channels), *block[reader.channels :]]
            at_rate = np.stack([r.process(c) for r, c in zip(to, lanes, strict=True)])
            write(loop.push(bounded(at_rate).samples))
        write(loop.push(bounded(np.stack([r.flush() for r in to])).samples) + loop.flush(), taken)
        runtime.nan_outputs += loop.nan_outputs
