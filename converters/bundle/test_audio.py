"""The real audio that golden vectors and verification use: a street with bicycle bells, and speech in it.

Both come from pinned packages through models.pretrained (docs/weights.md) at 16 kHz and are brought to the
net's rate offline; nothing random, so that the same packages give the same samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError
from models.entry import Material, ModelEntry
from models.weights.assets import pull_asset
from streaming.files.wav import read_wav
from streaming.metrics.quality import mix_at_snr

Signal = NDArray[np.float32]

SPEECH_GAP_S = 0.25
MIX_SNR_DB = 5.0
ECHO, ECHO_S = 0.3, 0.05  # of what a further input plays, in the microphone
GOLDEN_SECONDS = 10.0
VERIFY_SECONDS = 60.0


def to_rate(samples: Signal, from_hz: int, to_hz: int) -> Signal:
    """Offline resampling of a whole file (soxr, very high quality); what streams uses streaming.core.resample."""
    if from_hz == to_hz:
        return samples
    import soxr

    return np.ascontiguousarray(soxr.resample(samples, from_hz, to_hz, quality="VHQ"), np.float32)


def street(sample_rate_hz: int) -> Signal:
    """60 s of a real street with bicycle bells, float32 [n], full scale 1.0."""
    clip = read_wav(pull_asset("street-wav"))
    return to_rate(clip.samples[0], clip.sample_rate_hz, sample_rate_hz)


def speech(sample_rate_hz: int) -> Signal:
    """About 78 s of clean speech in nine languages, float32 [n], clips in the order of their paths."""
    parts: list[Signal] = []
    for file in sorted(pull_asset("speech").rglob("*.wav")):
        clip = read_wav(file)
        parts += [to_rate(clip.samples[0], clip.sample_rate_hz, sample_rate_hz)]
        parts += [np.zeros(round(SPEECH_GAP_S * sample_rate_hz), np.float32)]
    if not parts:
        raise AudioError("the speech package holds no .wav; fetch it again with: hearpack pull --all")
    return np.concatenate(parts)


def noisy_speech(sample_rate_hz: int, seconds: float, snr_db: float = MIX_SNR_DB) -> tuple[Signal, Signal]:
    """Speech in the street at a given SNR.

    Args:
        sample_rate_hz: rate of both results.
        seconds: length; at most what the street recording lasts.
        snr_db: speech over street, over the whole length.

    Returns:
        (clean, noisy), float32 [n] each.
    """
    noise = street(sample_rate_hz)
    n = min(round(seconds * sample_rate_hz), noise.size)
    clean = speech(sample_rate_hz)[:n]
    return clean, mix_at_snr(clean, noise[: clean.size], snr_db)


def programme(material: Material, sample_rate_hz: int, seconds: float) -> Signal:
    """Real audio: the street, or speech in the street."""
    if material == "street":
        return street(sample_rate_hz)[: round(seconds * sample_rate_hz)]
    return noisy_speech(sample_rate_hz, seconds)[1]


def several_channels(sample_rate_hz: int, seconds: float, channels: int) -> Signal:
    """Speech in the street, softer from channel to channel (of two: half as loud in the right one), float32
    [channels, n]: no two are the same."""
    clean, noisy = noisy_speech(sample_rate_hz, seconds)
    return np.stack([noisy - np.float32(place / channels) * clean for place in range(channels)])


@dataclass(frozen=True)
class Programme:
    """What a net is tried with.

    Attributes:
        samples: float32 [n]; [lanes, n] of several channels or inputs, and of a separator.
        also: what is special about it, for people: ", in stereo".
    """

    samples: Signal
    also: str = ""


def stream_programme(model: ModelEntry, sample_rate_hz: int, seconds: float) -> Programme:
    """Real audio for every channel that a net takes."""
    channels = model.geometry.channels
    if model.far:
        clean, noisy = noisy_speech(sample_rate_hz, seconds)
        apart = len(clean) // (len(model.far) + 1)
        others = np.stack([np.roll(clean, -apart * (place + 1)) for place in range(len(model.far))])
        echo = np.float32(ECHO) * np.pad(others, ((0, 0), (round(ECHO_S * sample_rate_hz), 0)))[:, : len(clean)].sum(0)
        return Programme(np.stack([noisy + echo] * channels + list(others)), f", and an echo of {', '.join(model.far)}")
    if channels == 1:
        samples = programme(model.test_material, sample_rate_hz, seconds)
        return Programme(samples[None] if model.sources else samples)
    also = ", in stereo" if channels == 2 else f", in {channels} channels"
    return Programme(several_channels(sample_rate_hz, seconds, channels), also)


def golden_input(model: ModelEntry, sample_rate_hz: int) -> Signal:
    """The ten seconds of the golden vectors, at the net's rate or at a device's, as `stream_programme` has them."""
    rate = model.geometry.sample_rate_hz
    samples = stream_programme(model, rate, GOLDEN_SECONDS).samples
    if samples.ndim == 1:
        return to_rate(samples, rate, sample_rate_hz)
    return np.stack([to_rate(lane, rate, sample_rate_hz) for lane in samples])
