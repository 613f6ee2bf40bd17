"""Pairs of clean and noisy speech, made on the spot from pinned packages: the same seeds give the same samples.

Speech: clips in nine languages with pauses between them, at a level of its own. Noise: the street recording from
anywhere, other speakers (babble), or pink noise, at an SNR of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters.bundle.test_audio import street, to_rate
from models.common.errors import AudioError, UsageError
from models.common.progress import Progress, silent
from models.weights.assets import pull_asset
from streaming.files.reader import AudioReader
from streaming.files.wav import mono, read_wav
from streaming.metrics.quality import mix_at_snr

Signal = NDArray[np.float32]

RATE_HZ = 16000
SECONDS = 4.0
# The published list: pair n is made from seed SEEDS[n], whatever else is made.
SEEDS: tuple[int, ...] = tuple(range(1301, 1421))
USUAL_PAIRS = 60
SNR_DB = (-2.5, 17.5)
LEVEL_DB = (-36.0, -16.0)
PAUSE_S = (0.2, 0.8)
NOISES = ("street", "babble", "pink")
_TALKERS = 4
_FULL_SCALE = 0.98
# A clip below this is silent: nothing can be judged by it.
_SILENT = 1e-6


@dataclass(frozen=True)
class Pair:
    """Clean speech and the same in noise.

    Attributes:
        name: "1301 street 4.2 dB", or a file's name.
        clean, noisy: float32 [n] at `sample_rate_hz`, of one length.
        sample_rate_hz: of both.
    """

    name: str
    clean: Signal
    noisy: Signal
    sample_rate_hz: int


def made_pairs(sample_rate_hz: int, count: int = USUAL_PAIRS, progress: Progress = silent) -> tuple[Pair, ...]:
    """The first pairs of the list.

    Args:
        sample_rate_hz: rate of the result; all are made at 16 kHz.
        count: 1 to 120.
        progress: told how many are there.

    Raises:
        UsageError: too few or too many.
        FetchError: a package is not in the cache and cannot be fetched.
    """
    if not 1 <= count <= len(SEEDS):
        raise UsageError(f"pairs: expected 1 to {len(SEEDS)}, got {count}")
    clips = _clips()
    noise = street(RATE_HZ)
    pairs = []
    for done, seed in enumerate(SEEDS[:count]):
        progress("pairs of clean and noisy speech", done / count)
        pairs.append(_pair(seed, clips, noise, sample_rate_hz))
    progress("pairs of clean and noisy speech", 1.0)
    return tuple(pairs)


def read_pairs(folder: Path, sample_rate_hz: int) -> tuple[Pair, ...]:
    """The user's own pairs: FOLDER/clean/NAME and FOLDER/noisy/NAME, any rate, as VoiceBank+DEMAND has them.

    Raises:
        UsageError: no such folders, no files, or a file without its twin.
        AudioError: a file cannot be read, is silent, or its twin has another length.
    """
    files = sorted(f for f in (folder / "noisy").glob("*") if f.is_file() and not f.name.startswith("."))
    if not files:
        raise UsageError(f"{folder}: expected pairs, FOLDER/noisy/NAME.wav and FOLDER/clean/NAME.wav; found none")
    pairs = []
    for file in files:
        twin = folder / "clean" / file.name
        if not twin.is_file():
            raise UsageError(f"{file}: expected the clean recording of the same name in {twin.parent}; it is missing")
        clean, noisy = (read_mono(f, sample_rate_hz) for f in (twin, file))
        if clean.size != noisy.size:
            raise AudioError(f"{file}: expected {clean.size} samples, as the clean one has, got {noisy.size}")
        pairs.append(Pair(file.stem, clean, noisy, sample_rate_hz))
    return tuple(pairs)


def read_mono(file: Path, sample_rate_hz: int) -> Signal:
    """A whole file as one channel at a rate, float32 [n].

    Raises:
        AudioError: it cannot be read, or is silent.
    """
    with AudioReader(file) as reader:
        blocks = [mono(block.T) for block in reader.blocks()]
        samples = to_rate(np.concatenate(blocks), reader.sample_rate_hz, sample_rate_hz)
    if float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) < _SILENT:
        raise AudioError(f"{file}: is silent, so nothing can be judged by it; take it out or record it again")
    return samples


def _clips() -> list[Signal]:
    clips = [read_wav(file).samples[0] for file in sorted(pull_asset("speech").rglob("*.wav"))]
    if not clips:
        raise AudioError("the speech package holds no .wav; fetch it again with: hearpack pull --all")
    return clips


def _pair(seed: int, clips: Sequence[Signal], recorded: Signal, sample_rate_hz: int) -> Pair:
    generator = np.random.default_rng(seed)
    length = round(SECONDS * RATE_HZ)
    clean = _at_level(_talk(generator, clips, length), float(generator.uniform(*LEVEL_DB)))
    kind = NOISES[seed % len(NOISES)]
    snr_db = float(generator.uniform(*SNR_DB))
    noisy = mix_at_snr(clean, _noise(generator, kind, clips, recorded, length), snr_db)
    over = max(1.0, float(np.abs(noisy).max()) / _FULL_SCALE)
    signals = [to_rate((signal / over).astype(np.float32), RATE_HZ, sample_rate_hz) for signal in (clean, noisy)]
    return Pair(f"{seed} {kind} {snr_db:.1f} dB", signals[0], signals[1], sample_rate_hz)


def _talk(generator: np.random.Generator, clips: Sequence[Signal], length: int) -> Signal:
    """Clips by chance with pauses between them; the first begins within the first pause."""
    parts: list[Signal] = []
    while sum(map(len, parts)) < length:
        parts.append(np.zeros(round(float(generator.uniform(*PAUSE_S)) * RATE_HZ), np.float32))
        parts.append(clips[int(generator.integers(len(clips)))])
    return np.concatenate(parts)[:length]


def _noise(generator: np.random.Generator, kind: str, clips: Sequence[Signal], recorded: Signal, length: int) -> Signal:
    if kind == "street":
        start = int(generator.integers(recorded.size - length))
        cut: Signal = recorded[start : start + length]
        return cut
    if kind == "babble":
        babble: Signal = np.sum([_talk(generator, clips, length) for _ in range(_TALKERS)], axis=0)
        return babble
    spectrum = np.fft.rfft(generator.standard_normal(length))
    spectrum[1:] /= np.sqrt(np.arange(1, spectrum.size))
    pink: Signal = np.fft.irfft(spectrum, length).astype(np.float32)
    return pink


def _at_level(samples: Signal, level_db: float) -> Signal:
    """At a root mean square in dB of full scale, never past full scale."""
    power = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    gain = min(10.0 ** (level_db / 20.0) / power, _FULL_SCALE / float(np.abs(samples).max()))
    scaled: Signal = (gain * samples).astype(np.float32)
    return scaled
