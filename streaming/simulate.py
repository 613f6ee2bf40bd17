"""A whole run: a bundle, a sound and a device go in, a record and its folder come out."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import AudioError, HearpackError, OutputError, UsageError
from models.version import __version__
from runtimes.bundle import Bundle
from runtimes.opening import Choice, choose, open_runtime
from runtimes.protocol import Runtime
from streaming.calibration import Calibration, CalibrationEntry
from streaming.capture import Callback, ClipSource, Source, device_callbacks
from streaming.compute import ComputeModel, fixed, from_calibration
from streaming.delay_check import check_delay
from streaming.device import DeviceProfile
from streaming.faults import Fault
from streaming.pipeline import Pipeline
from streaming.playout import prefill_at_device
from streaming.record import (
    RUN_FILE,
    AudioRecord,
    ComputeTimes,
    Counts,
    DelayCheck,
    EndReason,
    OccupancyPoint,
    Policy,
    RingRecord,
    RunRecord,
    run_folder,
)
from streaming.sinks import file_sinks, no_sinks
from streaming.sketch import summarise
from streaming.timeline import SECOND_NS
from streaming.virtual import run_virtual
from streaming.wall import Feeder, WallRun
from streaming.wav import read_wav

Array = NDArray[np.float32]
Tick = Callable[[Pipeline, int, int], None]

LONGEST_S = 86_400.0


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
    hop = manifest.buffer.samples
    if manifest.buffer.kind == "window" and manifest.decisions is not None:
        hop = manifest.decisions.window_hop_samples
    block = -(-profile.block_frames[1] * rate // profile.rate_hz)
    slack = max(rate // 2, 4 * hop, 2 * block)
    return manifest.buffer.samples + slack + (4 * rate if policy == "grow_delay" else 0)


def default_prefill(bundle: Bundle, profile: DeviceProfile) -> int:
    """At the output's rate: the manifest's, or one buffer and the longer of the two devices' blocks."""
    block = -(-profile.block_frames[1] * profile.output_rate_hz // profile.rate_hz)
    return prefill_at_device(bundle.manifest, profile.output_rate_hz, max(profile.output_block_frames, block))


def compute_model(settings: Settings, choice: Choice, buffer_samples: int) -> ComputeModel:
    """Times of the calls, afresh.

    Raises:
        UsageError: the settings have neither a calibration that fits nor a fixed time.
    """
    profile = settings.profile
    if settings.compute_ns is not None:
        return fixed(settings.compute_ns, profile, settings.slowdown)
    if settings.calibration is None:
        raise UsageError("the virtual clock needs the time of a call: a calibration or a fixed time")
    entry = settings.calibration.entry(choice.artefact.id, choice.engine, buffer_samples)
    return from_calibration(entry, profile, settings.seed, settings.calibration.machine, settings.slowdown)


def simulate(
    bundle: Bundle,
    sound: Sound,
    settings: Settings,
    *,
    output: Path | None = None,
    command: Sequence[str] = (),
    artefact: str | None = None,
    engine: str | None = None,
    tick: Tick | None = None,
    runtime: Runtime | None = None,
    callbacks: Iterator[Callback] | None = None,
    compute: ComputeModel | None = None,
    live: Callable[[Feeder], Any] | None = None,
    found: Callable[[RunRecord], dict[str, float]] | None = None,
) -> RunRecord:
    """Run the loop of a phone over a sound.

    Args:
        bundle, sound, settings: what runs.
        output: NAME.run to write; None: nothing is written.
        command: the exact command line, for the record.
        artefact, engine: as in runtimes.opening.choose.
        tick: called with (pipeline, time, total) now and then.
        runtime: instead of opening the artefact (tests, and runs without a net).
        callbacks, compute: instead of the profile's (replay).
        live: makes a context in which something feeds blocks, such as a sound card's stream; wall clock.
        found: figures for the record's `search`, made from the record before it is written.

    Returns:
        the record, as read_run gives it. A Ctrl-C ends the run, not the record: `ended` is "interrupted" then.

    Raises:
        UsageError, AudioError, BundleError, ArtefactError, OutputError: as their names say.
    """
    manifest, profile = bundle.manifest, settings.profile
    choice = choose(bundle, artefact, engine)
    rate = manifest.geometry.sample_rate_hz
    frames = sound.source.frames(profile.rate_hz)
    total_ns = frames * SECOND_NS // profile.rate_hz
    hop = manifest.buffer.samples if manifest.buffer.kind == "step" else manifest.geometry.hop_samples
    if total_ns * rate < hop * SECOND_NS:
        raise AudioError(
            f"{sound.audio.name}: {total_ns / 1e6:.1f} ms are shorter than one hop of {manifest.name} "
            f"({1000 * hop / rate:.1f} ms); give a longer recording, or --seconds to repeat it"
        )
    if settings.clock == "virtual" and compute is None:
        compute = compute_model(settings, choice, manifest.buffer.samples)
    labels = bundle.labels()
    own_runtime = runtime is None
    net = open_runtime(bundle, choice) if runtime is None else runtime
    ring = default_ring(bundle, profile, settings.policy) if settings.ring_samples is None else settings.ring_samples
    prefill = default_prefill(bundle, profile) if settings.prefill_samples is None else settings.prefill_samples
    try:
        with nullcontext(None) if output is None else run_folder(output) as folder:
            audio_out = manifest.task != "classifier"
            if folder is None:
                sinks = no_sinks(total_ns, rate)
            else:
                sinks = file_sinks(
                    folder,
                    total_ns,
                    rate,
                    profile.output_rate_hz,
                    audio_out,
                    settings.keep_audio,
                    settings.trace_limit,
                )
            try:
                pipeline = Pipeline(
                    manifest, labels, net, profile, settings.policy, ring, prefill, sinks, settings.faults
                )
                ended, message, end_ns = _run(pipeline, sound, settings, callbacks, compute, total_ns, tick, live)
            finally:
                sinks.close()
            check = None
            if settings.check and settings.clock == "virtual" and callbacks is None and compute is not None:
                fresh = compute_model(settings, choice, manifest.buffer.samples)
                check = check_delay(manifest, labels, profile, fresh, settings.policy, ring, prefill, settings.seed)
            record = _record(
                bundle, choice, net, sound, settings, pipeline, compute, check, (ended, message, end_ns), command
            )
            if found is not None:
                record = dataclasses.replace(record, search=found(record))
            if folder is not None:
                (folder / RUN_FILE).write_text(record.dump(), encoding="utf-8")
                if settings.calibration is not None and settings.compute_ns is None:
                    (folder / "calibration.json").write_text(settings.calibration.dump(), encoding="utf-8")
    finally:
        if own_runtime:
            net.close()
    return record


def _run(
    pipeline: Pipeline,
    sound: Sound,
    settings: Settings,
    callbacks: Iterator[Callback] | None,
    compute: ComputeModel | None,
    total_ns: int,
    tick: Tick | None,
    live: Callable[[Feeder], Any] | None,
) -> tuple[EndReason, str, int]:
    """Drive the pipeline to its end; why it ended, what more there is to say, and when."""
    last = [0]

    def note(time_ns: int) -> None:
        last[0] = time_ns
        if tick is not None:
            tick(pipeline, time_ns, total_ns)

    if callbacks is None:
        callbacks = device_callbacks(settings.profile, sound.source, settings.seed, settings.faults)
    try:
        if settings.clock == "virtual" and compute is not None:
            return "finished", "", run_virtual(pipeline, callbacks, sound.source, compute, settings.faults, note)
        slowdown = settings.profile.slowdown if settings.slowdown is None else settings.slowdown
        pipeline.metered = True
        run = WallRun(pipeline, settings.faults, slowdown)
        if live is not None:
            return "finished", "", run.run_live(live, total_ns / SECOND_NS, note)
        return "finished", "", run.run(callbacks, sound.source, note)
    except KeyboardInterrupt:
        pipeline.abandon(last[0])
        return "interrupted", f"interrupted after {last[0] / 1e9:.1f} s", last[0]
    except OutputError:
        raise
    except HearpackError as exc:
        pipeline.abandon(last[0])
        return "error", " ".join(str(exc).split()), last[0]


def _record(
    bundle: Bundle,
    choice: Choice,
    net: Runtime,
    sound: Sound,
    settings: Settings,
    pipeline: Pipeline,
    compute: ComputeModel | None,
    check: DelayCheck | None,
    end: tuple[EndReason, str, int],
    command: Sequence[str],
) -> RunRecord:
    manifest, ring, sinks = bundle.manifest, pipeline.ring, pipeline.sinks
    ended, message, end_ns = end
    return RunRecord(
        schema="hearpack-run/1",
        command=list(command),
        versions={
            "hearpack": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            net.info.engine: net.info.version,
        },
        bundle=bundle.path.resolve().name,
        task=manifest.task,
        artefact=choice.artefact.id,
        engine=net.info.engine,
        engine_detail=net.info.detail,
        model_rate_hz=pipeline.rate_hz,
        buffer_samples=manifest.buffer.samples,
        hop_samples=pipeline.loop.hop,
        profile=settings.profile.record(),
        clock="virtual" if settings.clock == "virtual" else "wall",
        seed=settings.seed,
        calibration="" if compute is None else compute.label,
        policy=settings.policy,
        audio=sound.audio,
        simulated_s=end_ns / SECOND_NS,
        ended=ended,
        message=message,
        counts=_counts(pipeline),
        compute=_compute_times(settings, choice, manifest.buffer.samples, pipeline, compute),
        ring=RingRecord(
            ring.capacity, ring.high_water, pipeline.rate_hz, [OccupancyPoint(*p) for p in sinks.occupancy.points]
        ),
        playout=None if pipeline.playback is None else pipeline.playback.record(),
        ledger=sinks.ledger.summaries(),
        delay_check=check,
        events=[] if pipeline.hearing is None else pipeline.hearing.events,
        faults=pipeline.log.kept,
        faults_total=pipeline.log.total,
        envelope=sinks.heard.envelope,
        envelope_step_samples=sinks.heard.step,
    )


def _counts(pipeline: Pipeline) -> Counts:
    ring = pipeline.ring
    return Counts(
        callbacks=pipeline.callbacks,
        captured=pipeline.captured,
        lost=pipeline.lost,
        nan_samples=pipeline.nan_samples,
        written=ring.written,
        read=ring.read,
        held=ring.held,
        dropped=ring.dropped,
        overruns=ring.overruns,
        calls=pipeline.calls,
        misses=pipeline.misses,
        skipped_hops=pipeline.skipped_hops,
        gated_windows=pipeline.gated_windows,
        failed_calls=pipeline.failed_calls,
        resets=pipeline.resets,
        rate_changes=pipeline.rate_changes,
    )


def _compute_times(
    settings: Settings, choice: Choice, buffer_samples: int, pipeline: Pipeline, compute: ComputeModel | None
) -> list[ComputeTimes]:
    times = []
    if pipeline.compute.count:
        summary = pipeline.compute.summary()
        if compute is None:
            slowdown = settings.profile.slowdown if settings.slowdown is None else settings.slowdown
            stretched = slowdown > 1.0
            label = f"this run, wall clock{f', stretched by {slowdown:g}' if stretched else ''}"
            times.append(ComputeTimes(label, "modelled" if stretched else "measured", "paced", summary))
        else:
            factor = compute.slowdown * compute.penalty
            label = f"this run: {compute.label}{f', times {factor:g}' if factor != 1.0 else ''}"
            times.append(ComputeTimes(label, compute.provenance, compute.pacing, summary))
    if settings.calibration is not None and settings.compute_ns is None:
        entry = settings.calibration.entry(choice.artefact.id, choice.engine, buffer_samples)
        times += _calibrated(entry, settings.calibration.machine)
    return times


def _calibrated(entry: CalibrationEntry, machine: str) -> list[ComputeTimes]:
    times = []
    for pacing, points, count in (
        ("paced", entry.paced_ns, entry.paced_count),
        ("back_to_back", entry.back_to_back_ns, entry.back_to_back_count),
    ):
        if points:
            summary = dataclasses.replace(summarise(np.array(points, np.int64)), count=count)
            kind = "paced" if pacing == "paced" else "back to back"
            times.append(
                ComputeTimes(
                    f"{machine}, {kind}", "measured", "paced" if pacing == "paced" else "back_to_back", summary
                )
            )
    return times
