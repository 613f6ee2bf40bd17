"""A stream against the whole: random blocks, rates and resets must give what one push of everything gives.

Each trial cuts a clip into random blocks at some rate, streams them through resampler and loop, and compares with the
same clip resampled and pushed whole. After a random reset the rest must be what it is by itself. Bit-equal is
expected; where it is not, the first diverging sample says where to look.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError, UsageError
from runtimes.bundle import Bundle, Manifest, require_mono, require_output
from runtimes.engines import choose, open_runtime
from runtimes.protocol import Runtime
from streaming.core.loop import StreamLoop, make_loop
from streaming.core.resample import Resampler, resample
from streaming.files.wav import read_wav
from streaming.metrics.parity import ratio_db

Array = NDArray[np.float32]

RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
LONGEST_BLOCK_S = 0.12
NONE = -1


@dataclass(frozen=True)
class Trial:
    """One partition.

    Attributes:
        rate_hz: of the blocks.
        blocks: how many.
        reset_at: block at which the stream was reset, or -1.
        first_diverging: value (of all calls in order) that differs first, or -1.
        diverging: values that differ.
        error_db: energy of the whole by that of the difference; 200 where all are equal.
        edge_click_db: for audio, how much rougher the stream is at the edges of calls than inside them: RMS of the
            second difference there by that elsewhere; about 0 without clicks. 0 for scores.
    """

    rate_hz: int
    blocks: int
    reset_at: int
    first_diverging: int
    diverging: int
    error_db: float
    edge_click_db: float


@dataclass(frozen=True)
class PartitionReport:
    """All trials, and whether all of them were bit-equal."""

    trials: list[Trial]
    equal: bool


def check_partitions(
    bundle: Bundle | str | Path,
    audio: str | Path | None,
    *,
    trials: int = 10,
    seed: int = 0,
    artefact: str | None = None,
    engine: str | None = None,
) -> PartitionReport:
    """Random partitions, rates and resets of a sound against one push of the whole.

    Args:
        bundle: a bundle, or its folder.
        audio: file of the sound.
        trials: partitions.
        seed: of them.
        artefact, engine: as in `run`.

    Returns:
        the trials; `equal` where every stream was the whole, bit for bit.

    Raises:
        UsageError: no audio file, or an absurd number of trials.
        AudioError, BundleError, ArtefactError: as their names say.
    """
    bundle = Bundle.of(bundle)
    if audio is None:
        raise UsageError("--parity: expected an audio file")
    if not 1 <= trials <= 10_000:
        raise UsageError(f"--parity: expected 1 to 10000 trials, got {trials}")
    require_output(bundle.manifest, "simulate --parity", "audio", "scores")
    require_mono(bundle.manifest, "simulate --parity")
    clip = read_wav(audio)
    with closing(open_runtime(bundle, choose(bundle, artefact, engine))) as runtime:
        return partition_trials(bundle.manifest, runtime, clip.mono(), clip.sample_rate_hz, trials, seed)


def partition_trials(
    manifest: Manifest,
    runtime: Runtime,
    clip: Array,
    rate_hz: int,
    trials: int,
    seed: int,
    rates: Sequence[int] = RATES_HZ,
) -> PartitionReport:
    """`check_partitions` of an open runtime and a clip, float32 [n], two buffers or more; by turns over `rates`."""
    if len(clip) * manifest.geometry.sample_rate_hz < 2 * manifest.buffer.samples * rate_hz:
        raise AudioError(f"parity: the clip must hold two buffers of {manifest.name}, it has {len(clip)} samples")
    generator = np.random.default_rng(seed)
    loop = make_loop(manifest, runtime)
    at_rate = {rate: resample(clip, rate_hz, rate) for rate in rates}
    found = []
    for number in range(trials):
        rate = rates[number % len(rates)]
        found.append(_trial(loop, at_rate[rate], rate, manifest.geometry.sample_rate_hz, generator))
    return PartitionReport(found, all(t.first_diverging == NONE for t in found))


def _trial(loop: StreamLoop, clip: Array, rate: int, model_rate: int, generator: np.random.Generator) -> Trial:
    cuts = [0]
    longest = int(LONGEST_BLOCK_S * rate)
    while cuts[-1] < len(clip):
        cuts.append(min(len(clip), cuts[-1] + int(generator.integers(0, longest))))
    blocks = [clip[a:b] for a, b in itertools.pairwise(cuts)]
    # Half of the trials are reset somewhere in the first half.
    reset_at = int(generator.integers(1, max(2, len(blocks) // 2))) if generator.random() < 0.5 else NONE
    streamed = _stream(loop, Resampler(rate, model_rate), blocks, reset_at)
    rest = clip[cuts[reset_at] :] if reset_at != NONE else clip
    whole = _stream(loop, Resampler(rate, model_rate), [rest], NONE)
    length = max(len(streamed), len(whole))
    a, b = (np.pad(v, (0, length - len(v))).astype(np.float64) for v in (whole, streamed))
    different = np.flatnonzero(a != b)
    return Trial(
        rate_hz=rate,
        blocks=len(blocks),
        reset_at=reset_at,
        first_diverging=int(different[0]) if len(different) else NONE,
        diverging=len(different),
        error_db=ratio_db(float(np.dot(a, a)), float(np.dot(b - a, b - a))),
        edge_click_db=round(edge_click_db(streamed, loop.buffer_samples), 3) if loop.audio_out else 0.0,
    )


def _stream(loop: StreamLoop, resampler: Resampler, blocks: Sequence[Array], reset_at: int) -> Array:
    """Every value of every call since the last reset, float32 [n]."""
    loop.reset()
    values: list[Array] = []
    for number, block in enumerate(blocks):
        if number == reset_at:
            loop.reset()
            resampler.reset()
            values.clear()
        values.extend(r.values for r in loop.push(resampler.process(block)))
    values.extend(r.values for r in loop.push(resampler.flush()))
    values.extend(r.values for r in loop.flush())
    return np.concatenate(values) if values else np.zeros(0, np.float32)


def edge_click_db(audio: Array, hop: int) -> float:
    """RMS of the second difference across the edges of calls by that elsewhere, in dB; 0 where there is too little.

    Args:
        audio: float32 [n], calls of `hop` samples one after the other.
        hop: samples per call.
    """
    rough = np.abs(np.diff(audio.astype(np.float64), 2))
    place = (np.arange(len(rough)) + 2) % hop  # the second difference at n looks at n, n+1, n+2
    edge = (place == 0) | (place == 1)
    if hop < 4 or not edge.any() or edge.all():
        return 0.0
    return ratio_db(float(np.mean(rough[edge] ** 2)), float(np.mean(rough[~edge] ** 2)))
