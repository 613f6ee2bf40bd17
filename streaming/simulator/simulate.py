"""A whole run: a bundle, a sound and a device go in, a record and its folder come out."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from models.common.errors import ArtefactError, AudioError, UsageError
from runtimes.bundle import Bundle
from runtimes.engines import Choice, choose, open_runtime
from runtimes.protocol import Runtime
from streaming.runs.record import RUN_FILE, EndReason, RunRecord, run_folder
from streaming.simulator.delay_check import check_delay
from streaming.simulator.device.callbacks import Callback, device_callbacks, device_stretches, stretches
from streaming.simulator.device.compute import ComputeModel, fixed, from_calibration
from streaming.simulator.device.profile import LONGEST_S as LONGEST_S
from streaming.simulator.pipeline.pipeline import Pipeline
from streaming.simulator.pipeline.recorders import file_recorders, no_recorders
from streaming.simulator.realtime import Feeder, RealtimeRun
from streaming.simulator.run_record import run_record
from streaming.simulator.scenario import Settings as Settings
from streaming.simulator.scenario import Sound as Sound
from streaming.simulator.scenario import clip_sound as clip_sound
from streaming.simulator.scenario import default_prefill as default_prefill
from streaming.simulator.scenario import default_ring as default_ring
from streaming.simulator.scenario import file_sound as file_sound
from streaming.simulator.timeline import SECOND_NS
from streaming.simulator.virtual import run_virtual

Tick = Callable[[Pipeline, int, int], None]


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
        artefact, engine: as in runtimes.engines.choose.
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
    hop = manifest.hop_samples
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
                recorders = no_recorders(total_ns, rate)
            else:
                recorders = file_recorders(
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
                    manifest, labels, net, profile, settings.policy, ring, prefill, recorders, settings.faults
                )
                ended, message, end_ns = _run(pipeline, sound, settings, callbacks, compute, total_ns, tick, live)
            finally:
                recorders.close()
            check = None
            if settings.check and settings.clock == "virtual" and callbacks is None and compute is not None:
                fresh = compute_model(settings, choice, manifest.buffer.samples)
                check = check_delay(manifest, labels, profile, fresh, settings.policy, ring, prefill, settings.seed)
            record = run_record(
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
        if interrupted.is_set():
            raise KeyboardInterrupt
        if tick is not None:
            tick(pipeline, time_ns, total_ns)

    profile, source = settings.profile, sound.source
    try:
        with _deferred_interrupt() as interrupted:
            if settings.clock == "virtual" and compute is not None:
                if callbacks is None:
                    plan = device_stretches(profile, source, settings.seed, settings.faults)
                else:
                    plan = stretches(callbacks)
                return "finished", "", run_virtual(pipeline, plan, source, compute, settings.faults, note)
            slowdown = profile.slowdown if settings.slowdown is None else settings.slowdown
            pipeline.input_stage.metered = True
            run = RealtimeRun(pipeline, settings.faults, slowdown)
            if live is not None:
                return "finished", "", run.run_live(live, total_ns / SECOND_NS, note)
            if callbacks is None:
                callbacks = device_callbacks(profile, source, settings.seed, settings.faults)
            return "finished", "", run.run(callbacks, source, note)
    except KeyboardInterrupt:
        pipeline.abandon(last[0])
        return "interrupted", f"interrupted after {last[0] / 1e9:.1f} s", last[0]
    except ArtefactError as exc:
        pipeline.abandon(last[0])
        return "error", " ".join(str(exc).split()), last[0]


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """A first Ctrl-C waits until nothing is half done; a second one does not. Only where Python's own handler rules."""
    interrupted = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupted
        return

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    previous = signal.signal(signal.SIGINT, on_signal)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
