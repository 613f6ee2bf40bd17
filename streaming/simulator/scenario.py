"""What a run is made of besides its bundle: settings, a sound, and the sizes that are chosen where none is given."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from runtimes.bundle import Bundle
from streaming.core.playout import prefill_at_device
from streaming.files.wav import read_wav
from streaming.measure.calibration import Calibration
from streaming.runs.record import AudioRecord, Policy
from streaming.simulator.device.callbacks import ClipSource, Source
from streaming.simulator.device.faults import Fault
from streaming.simulator.device.profile import LONGEST_S, DeviceProfile

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """What a run is made of besides bundle and sound.

    Attributes:
        profile: the device.
        clock: "virtual" or "wall".
        seed: of everything random.
        policy: what an overload does.
        ring_samples: capacity at the model's rate; None: see `default_ring`.
        prefill_samples: at the output's rate; None: the manifest's, or one buffer and the longest block.
        calibration: compute times of this machine (virtual clock).
        compute_ns: instead of them: each call takes this, on the device.
        slowdown: instead of the profile's.
        seconds: length; the sound is repeated or cut. None: the sound's own.
        faults: put in on purpose.
        keep_audio: whether heard.wav and output.wav are written.
        trace_limit: slices of the trace.
        check: whether the ledger is held against a measured delay (virtual clock).
    """

    profile: DeviceProfile
    clock: str = "virtual"
    seed: int = 0
    policy: Policy = "drop_oldest"
    ring_samples: int | None = None
    prefill_samples: int | None = None
    calibration: Calibration | None = None
    compute_ns: int | None = None
    slowdown: float | None = None
    seconds: float | None = None
    faults: tuple[Fault, ...] = ()
    keep_audio: bool = True
    trace_limit: int = 200_000
    check: bool = True


@dataclass(frozen=True)
class Sound:
    """What the microphone hears: a source, and what a record says of it."""

    source: Source
    audio: AudioRecord


def file_sound(path: Path, seconds: float | None = None) -> Sound:
    """A file, mono: the mean of its channels.

    Raises:
        AudioError: not usable.
        UsageError: an absurd length.
    """
    if seconds is not None and not 0.0 < seconds <= LONGEST_S:
        raise UsageError(f"--seconds: expected more than 0 and at most {LONGEST_S:g}, got {seconds:g}")
    clip = read_wav(path)
    return clip_sound(clip.mono(), clip.sample_rate_hz, path.name, seconds)


def clip_sound(samples: Array, rate_hz: int, name: str, seconds: float | None = None) -> Sound:
    """Samples float32 [n] as a sound, repeated or cut to `seconds`."""
    if seconds is not None:
        samples = samples[: max(1, round(seconds * rate_hz))]
    source = ClipSource(samples, rate_hz, seconds)
    digest = hashlib.sha256(np.ascontiguousarray(samples, "<f4").tobytes()).hexdigest()
    duration = len(samples) / rate_hz if seconds is None else seconds
    return Sound(source, AudioRecord(name, digest, rate_hz, duration))


def default_ring(bundle: Bundle, profile: DeviceProfile, policy: Policy) -> int:
    """Capacity at the model's rate: a buffer, and half a second, four hops or two blocks, whichever is most; with
    "grow_delay" four seconds more."""
    manifest = bundle.manifest
    rate = manifest.geometry.sample_rate_hz
    block = -(-profile.block_frames[1] * rate // profile.rate_hz)
    slack = max(rate // 2, 4 * manifest.hop_samples, 2 * block)
    return manifest.buffer.samples + slack + (4 * rate if policy == "grow_delay" else 0)


def default_prefill(bundle: Bundle, profile: DeviceProfile) -> int:
    """At the output's rate: the manifest's, or one buffer and the longer of the two devices' blocks."""
    block = -(-profile.block_frames[1] * profile.output_rate_hz // profile.rate_hz)
    return prefill_at_device(bundle.manifest, profile.output_rate_hz, max(profile.output_block_frames, block))
