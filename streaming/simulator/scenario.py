"""What a run is made of: a bundle, a sound, a device and settings; and what follows from them.

scenario = Scenario(bundle, sound, load_profile("iphone-tap"), Settings(compute_ns=2_000_000))
pipeline = scenario.pipeline(runtime, scenario.recorders())
end_ns = scenario.run_virtual(pipeline)
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError, UsageError
from models.common.progress import Progress
from runtimes.bundle import Bundle
from runtimes.engines import Choice, choose
from runtimes.protocol import Runtime
from streaming.core.playout import JITTERS, LEAST_JITTER_US, prefill_at_device
from streaming.files.reader import AudioReader
from streaming.files.wav import mono
from streaming.measure.calibration import Calibration, CalibrationEntry, read_calibration
from streaming.runs.record import AudioRecord, ClockKind, Policy
from streaming.simulator.device.callbacks import (
    AudioSource,
    Callback,
    ClipSource,
    Stretch,
    device_callbacks,
    device_stretches,
    stretches,
)
from streaming.simulator.device.compute import ComputeModel, fixed, from_calibration
from streaming.simulator.device.faults import Fault
from streaming.simulator.device.file_source import FileSource
from streaming.simulator.device.profile import LONGEST_S, DeviceProfile
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.config import PipelineConfig
from streaming.simulator.pipeline.pipeline import NOBODY, Observer, Pipeline
from streaming.simulator.pipeline.recorders import Recorders, make_recorders
from streaming.simulator.virtual import run_virtual

Array = NDArray[np.float32]

CALIBRATION_S = 5.0
IN_MEMORY_FRAMES = 1 << 23  # of a file: three minutes at 44.1 kHz, 32 MB
_CALLS_AT_ONCE = 64


@dataclass(frozen=True)
class Settings:
    """How a scenario runs: what a mode says (streaming/simulator/modes.py), read and in samples and ns.

    Attributes:
        ring_samples, prefill_samples: at the model's and at the output's rate; None: see Scenario.
        calibration, compute_ns: times of the calls: one of them in the virtual clock.
        first_call_ns: of the first call, as a cold start has it.
        check: whether the ledger is compared with a measured delay (virtual clock).
    """

    clock: ClockKind = "virtual"
    seed: int = 0
    policy: Policy = "drop_oldest"
    ring_samples: int | None = None
    prefill_samples: int | None = None
    calibration: Calibration | None = None
    compute_ns: int | None = None
    first_call_ns: int | None = None
    slowdown: float | None = None
    faults: tuple[Fault, ...] = ()
    artefact: str | None = None
    engine: str | None = None
    keep_audio: bool = True
    check: bool = True


@dataclass(frozen=True)
class Sound:
    """What the microphone hears: a source, and what a record says of it."""

    source: AudioSource
    audio: AudioRecord


def file_sound(path: Path, seconds: float | None = None) -> Sound:
    """A file, mono: the mean of its channels; a long one is decoded again as it is heard.

    Raises:
        AudioError: not usable.
        UsageError: an absurd length.
    """
    if seconds is not None and not 0.0 < seconds <= LONGEST_S:
        raise UsageError(f"--seconds: expected more than 0 and at most {LONGEST_S:g}, got {seconds:g}")
    with AudioReader(path) as reader:
        rate, digest, frames = reader.sample_rate_hz, hashlib.sha256(), 0
        parts: list[Array] = []
        wanted = sys.maxsize if seconds is None else max(1, round(seconds * rate))
        for block in reader.blocks():
            samples = mono(block.T)[: wanted - frames]
            frames += len(samples)
            digest.update(np.ascontiguousarray(samples, "<f4").tobytes())
            parts.append(samples)
            if frames > IN_MEMORY_FRAMES:
                parts.clear()
            if frames == wanted:  # the rest would not be heard
                break
        level, warnings = reader.level().line(), list(reader.warnings)
    source: AudioSource = (
        ClipSource(np.concatenate(parts), rate, seconds) if parts else FileSource(path, frames, rate, seconds)
    )
    duration_s = frames / rate if seconds is None else seconds
    audio = AudioRecord(path.name, digest.hexdigest(), rate, duration_s, level=level, warnings=warnings)
    return Sound(source, audio)


def clip_sound(samples: Array, rate_hz: int, name: str, seconds: float | None = None) -> Sound:
    """Samples float32 [n] as a sound, repeated or cut to `seconds`."""
    if seconds is not None:
        samples = samples[: max(1, round(seconds * rate_hz))]
    source = ClipSource(samples, rate_hz, seconds)
    digest = hashlib.sha256(np.ascontiguousarray(samples, "<f4").tobytes()).hexdigest()
    duration = len(samples) / rate_hz if seconds is None else seconds
    return Sound(source, AudioRecord(name, digest, rate_hz, duration))


def silence(seconds: float, rate_hz: int = 48_000) -> Sound:
    """So many seconds of silence.

    Raises:
        AudioError: an absurd length.
    """
    if not 0.0 < seconds <= LONGEST_S:
        raise AudioError(f"replay: a trace of {seconds:g} s cannot be replayed")
    return clip_sound(np.zeros(rate_hz, np.float32), rate_hz, "silence", seconds)


def calibration_of(
    bundle: Bundle, file: str | Path | None, artefact: str | None, engine: str | None, progress: Progress
) -> Calibration:
    """A file's compute times, or those of a bundle measured now.

    Raises:
        UsageError: the file is missing, not JSON, or invalid.
    """
    if file is not None:
        return read_calibration(file)
    from streaming.measure.calibrate import calibrate

    choice = choose(bundle, artefact, engine)
    found, _ = calibrate(
        bundle, artefacts=[choice.artefact.id], engine=choice.engine, seconds=CALIBRATION_S, progress=progress
    )
    return found


@dataclass(frozen=True)
class Scenario:
    """A bundle, a sound, a device and settings, which do not change."""

    bundle: Bundle
    sound: Sound
    profile: DeviceProfile
    settings: Settings = Settings()

    def changed(self, **settings: Any) -> Scenario:
        """The same with other settings."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **settings))

    def without_dsp(self) -> Scenario:
        """The same without the manifest's `dsp`: for a probe, at whose sound a gate would look."""
        manifest = self.bundle.manifest.model_copy(update={"dsp": None})
        return dataclasses.replace(self, bundle=Bundle(self.bundle.path, manifest))

    @property
    def choice(self) -> Choice:
        """Artefact and engine."""
        return choose(self.bundle, self.settings.artefact, self.settings.engine)

    @property
    def rate_hz(self) -> int:
        """The model's rate."""
        return self.bundle.manifest.geometry.sample_rate_hz

    @property
    def hop_samples(self) -> int:
        """How far the stream moves a call."""
        return self.bundle.manifest.hop_samples

    @property
    def total_ns(self) -> int:
        """Length of the sound."""
        return self.sound.source.frames(self.profile.rate_hz) * SECOND_NS // self.profile.rate_hz

    @property
    def slowdown(self) -> float:
        """How many times longer a call takes on the device than here."""
        return self.profile.slowdown if self.settings.slowdown is None else self.settings.slowdown

    @property
    def ring_samples(self) -> int:
        """Capacity at the model's rate. By default a buffer, and half a second, four hops or two blocks, whichever is
        most; with "grow_delay" four seconds more."""
        if self.settings.ring_samples is not None:
            return self.settings.ring_samples
        rate = self.rate_hz
        block = -(-self.profile.block_frames[1] * rate // self.profile.rate_hz)
        slack = max(rate // 2, 4 * self.hop_samples, 2 * block)
        return self.bundle.manifest.buffer.samples + slack + (4 * rate if self.settings.policy == "grow_delay" else 0)

    @property
    def prefill_samples(self) -> int:
        """At the output's rate. By default the manifest's, or what the apps hold on such a device (docs/dsp.md): one
        buffer, a block of the speaker, what of the microphone comes at once, and six times its jitter."""
        if self.settings.prefill_samples is not None:
            return self.settings.prefill_samples
        profile, rate = self.profile, self.profile.output_rate_hz
        at_once = -(-profile.block_frames[1] * rate // profile.rate_hz)
        jitter = round(JITTERS * max(profile.jitter_us, LEAST_JITTER_US) * 1e-6 * rate)
        return prefill_at_device(self.bundle.manifest, rate, profile.output_block_frames + at_once + jitter)

    @property
    def calibrated(self) -> CalibrationEntry | None:
        """The compute times that calls are drawn from; None where a fixed time is set, or none is known.

        Raises:
            UsageError: the calibration has none for this artefact.
        """
        calibration, choice = self.settings.calibration, self.choice
        if calibration is None or self.settings.compute_ns is not None:
            return None
        return calibration.entry(choice.artefact.id, choice.engine, self.bundle.manifest.buffer.samples)

    def compute(self) -> ComputeModel:
        """Times of the calls, afresh.

        Raises:
            UsageError: the settings have neither a calibration that fits nor a fixed time.
        """
        settings = self.settings
        if settings.compute_ns is not None:
            return fixed(settings.compute_ns, self.profile, settings.slowdown, settings.first_call_ns)
        entry = self.calibrated
        if entry is None or settings.calibration is None:
            raise UsageError("the virtual clock needs the time of a call: a calibration or a fixed time")
        return from_calibration(
            entry,
            self.profile,
            settings.seed,
            settings.calibration.machine,
            settings.slowdown,
            settings.first_call_ns,
        )

    def plan(self) -> Iterator[Stretch]:
        """The device's callbacks, stretch by stretch."""
        return device_stretches(self.profile, self.sound.source, self.settings.seed, self.settings.faults)

    def callbacks(self) -> Iterator[Callback]:
        """The device's callbacks, one by one."""
        return device_callbacks(self.profile, self.sound.source, self.settings.seed, self.settings.faults)

    def recorders(self, folder: Path | None = None) -> Recorders:
        """Where results go: the files of a run's folder, or nowhere but into figures."""
        enhancer, rates = self.bundle.manifest.gives_audio, (self.rate_hz, self.profile.output_rate_hz)
        return make_recorders(folder, self.total_ns, *rates, enhancer, self.settings.keep_audio)

    def pipeline(
        self,
        runtime: Runtime,
        recorders: Recorders | None = None,
        observer: Observer = NOBODY,
        calls_at_once: int | None = None,
    ) -> Pipeline:
        """A pipeline for one run.

        Args:
            runtime: the net.
            recorders: where results go; None: into figures only.
            observer: what looks on.
            calls_at_once: virtual clock: calls between two looks at their results; None: as many as do.

        Raises:
            UsageError: a ring that cannot hold a buffer, or a bundle that is not for streaming to ear or to events.
        """
        if self.settings.clock == "realtime":
            calls_at_once = None
        elif calls_at_once is None:  # with playout no more than a second: its ring is to hold them
            scores = self.bundle.manifest.decisions is not None
            calls_at_once = _CALLS_AT_ONCE if scores else max(1, self.rate_hz // self.hop_samples)
        config = PipelineConfig(
            manifest=self.bundle.manifest,
            labels=self.bundle.labels(),
            profile=self.profile,
            policy=self.settings.policy,
            ring_samples=self.ring_samples,
            prefill_samples=self.prefill_samples,
            faults=self.settings.faults,
            calls_at_once=calls_at_once,
        )
        return Pipeline(config, runtime, self.recorders() if recorders is None else recorders, observer)

    def run_virtual(
        self,
        pipeline: Pipeline,
        *,
        compute: ComputeModel | None = None,
        callbacks: Iterable[Callback] | None = None,
        tick: Callable[[int], None] | None = None,
    ) -> int:
        """Run a pipeline to the end in the virtual clock.

        Args:
            pipeline: a fresh one.
            compute: times of the calls; None: the scenario's.
            callbacks: instead of the device's.
            tick: called with the time, now and then.

        Returns:
            when the run ended, ns.

        Raises:
            as streaming.simulator.virtual.run_virtual.
        """
        plan = self.plan() if callbacks is None else stretches(callbacks)
        times = self.compute() if compute is None else compute
        return run_virtual(pipeline, plan, self.sound.source, times, self.settings.faults, tick)
