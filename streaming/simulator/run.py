"""One run of a scenario: driven to its end, put into words and figures, and written as a whole."""

from __future__ import annotations

import dataclasses
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from models.common.errors import ArtefactError, AudioError, HearpackError
from models.common.version import __version__
from runtimes.engines import open_runtime
from runtimes.protocol import Runtime
from streaming.measure.calibration import CalibrationEntry
from streaming.metrics.quantiles import summarise
from streaming.runs.record import (
    RUN_FILE,
    ComputeTimes,
    DelayCheck,
    EndReason,
    EventRecord,
    Pacing,
    RunRecord,
    run_folder,
)
from streaming.simulator.delay_check import check_delay
from streaming.simulator.device.callbacks import Callback
from streaming.simulator.device.compute import ComputeModel
from streaming.simulator.device.faults import check_faults
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.pipeline import NOBODY, Observer, Pipeline
from streaming.simulator.pipeline.recorders import Recorders
from streaming.simulator.realtime import Feeder, RealtimeRun
from streaming.simulator.scenario import Scenario, Settings


@dataclass(frozen=True)
class Recorded:
    """What takes the place of a profile's callbacks and compute times in the virtual clock.

    Attributes:
        callbacks: in order.
        compute: times of the calls; None: the scenario's.
        figures: what the record's `search` says, made from the rest of it.
    """

    callbacks: Sequence[Callback]
    compute: ComputeModel | None = None
    figures: Callable[[RunRecord], dict[str, float]] | None = None


@dataclass(frozen=True)
class End:
    """Why a run ended, what more there is to say, and when."""

    reason: EndReason
    message: str
    time_ns: int


def run_scenario(
    scenario: Scenario,
    *,
    output: Path | None = None,
    command: Sequence[str] = (),
    observer: Observer = NOBODY,
    runtime: Runtime | None = None,
    recorded: Recorded | None = None,
    live: Callable[[Feeder], Any] | None = None,
    search: Mapping[str, float] | None = None,
) -> RunRecord:
    """Run the loop of a phone over a sound.

    Args:
        scenario: what runs.
        output: NAME.run to write; None: nothing is written.
        command: the exact command line, for the record.
        observer: what looks on.
        runtime: instead of opening the artefact (tests, and runs without a net).
        recorded: instead of the profile's callbacks and times (replay).
        live: makes a context in which something feeds blocks, such as a sound card's stream; real time.
        search: figures for the record.

    Returns:
        the record, as read_run gives it. A Ctrl-C ends the run, not the record: `ended` is "interrupted" then.

    Raises:
        UsageError, AudioError, BundleError, ArtefactError, OutputError: as their names say.
    """
    settings, choice = scenario.settings, scenario.choice
    virtual = settings.clock == "virtual"
    check_length(scenario)
    ready_made = recorded is not None or live is not None
    cold_ns = 0 if ready_made else round(scenario.profile.cold_input_ms * 1e6)
    check_faults(settings.faults, scenario.total_ns, cold_ns, ready_made)
    compute = None if recorded is None else recorded.compute
    if virtual and compute is None:
        compute = scenario.compute()
    net = open_runtime(scenario.bundle, choice) if runtime is None else runtime
    try:
        with nullcontext(None) if output is None else run_folder(output) as folder:
            recorders = scenario.recorders(folder)
            try:
                watching = observer if virtual else dataclasses.replace(observer, metered=True)
                pipeline = scenario.pipeline(net, recorders, watching)
                end = _drive(scenario, pipeline, observer, recorded, compute, live)
            finally:
                recorders.close()
            check = (
                check_delay(scenario.changed(faults=()))
                if settings.check and virtual and recorded is None and end.reason != "interrupted"
                else None
            )
            record = make_record(scenario, net, pipeline, recorders, compute, end, check)
            record = dataclasses.replace(record, command=list(command), search=dict(search or {}))
            if recorded is not None and recorded.figures is not None:
                record = dataclasses.replace(record, search=recorded.figures(record))
            if folder is not None:
                write_record(folder, record, settings)
    finally:
        if runtime is None:
            net.close()
    return record


def check_length(scenario: Scenario) -> None:
    """Raise unless the sound has a hop of the net.

    Raises:
        AudioError: it is shorter.
    """
    rate, hop, name = scenario.rate_hz, scenario.hop_samples, scenario.bundle.manifest.name
    if scenario.total_ns * rate < hop * SECOND_NS:
        raise AudioError(
            f"{scenario.sound.audio.name}: {scenario.total_ns / 1e6:.1f} ms are shorter than one hop of "
            f"{name} ({1000 * hop / rate:.1f} ms); give a longer recording, or --seconds to repeat it"
        )


def write_record(folder: Path, record: RunRecord, settings: Settings) -> None:
    """A run's record into its folder, and the compute times that were drawn from."""
    (folder / RUN_FILE).write_text(record.dump(), encoding="utf-8")
    if settings.calibration is not None and settings.compute_ns is None:
        (folder / "calibration.json").write_text(settings.calibration.dump(), encoding="utf-8")


def _drive(
    scenario: Scenario,
    pipeline: Pipeline,
    observer: Observer,
    recorded: Recorded | None,
    compute: ComputeModel | None,
    live: Callable[[Feeder], Any] | None,
) -> End:
    """Drive the pipeline to its end."""
    last, total_ns = [0], scenario.total_ns

    def note(time_ns: int) -> None:
        last[0] = time_ns
        if interrupted.is_set():
            raise KeyboardInterrupt
        if observer.on_tick is not None:
            observer.on_tick(pipeline, time_ns, total_ns)

    try:
        with deferred_interrupt() as interrupted:
            if scenario.settings.clock == "virtual":
                callbacks = None if recorded is None else recorded.callbacks
                return End(
                    "finished", "", scenario.run_virtual(pipeline, compute=compute, callbacks=callbacks, tick=note)
                )
            run = RealtimeRun(pipeline, scenario.settings.faults, scenario.slowdown)
            if live is not None:
                return End("finished", "", run.run_live(live, total_ns / SECOND_NS, note))
            return End("finished", "", run.run(scenario.callbacks(), scenario.sound.source, note))
    except KeyboardInterrupt:
        pipeline.abandon(last[0])
        return End("interrupted", f"interrupted after {last[0] / 1e9:.1f} s", last[0])
    except Exception as exc:
        # A microphone that cannot be opened: nothing was heard that could be kept.
        unheard = live is not None and isinstance(exc, AudioError) and not last[0]
        if unheard or (scenario.settings.clock == "virtual" and not isinstance(exc, ArtefactError)):
            raise
        pipeline.abandon(last[0])  # in real time what was heard cannot be had again: whatever failed, it is kept
        said = " ".join(str(exc).split())
        return End("error", said if isinstance(exc, HearpackError) else f"{type(exc).__name__}: {said}", last[0])


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """A first Ctrl-C is pending until nothing is half done; a second one is not. Only where Python's own handler is."""
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


def make_record(
    scenario: Scenario,
    net: Runtime,
    pipeline: Pipeline,
    recorders: Recorders,
    compute: ComputeModel | None,
    end: End,
    check: DelayCheck | None,
) -> RunRecord:
    """The record of a run that has ended, without its command line and figures of a search."""
    settings, manifest = scenario.settings, scenario.bundle.manifest
    return RunRecord(
        schema="hearpack-run/1",
        command=[],
        versions={
            "hearpack": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            net.info.engine: net.info.version,
        },
        bundle=scenario.bundle.path.resolve().name,
        task=manifest.task,
        artefact=scenario.choice.artefact.id,
        artefact_sha256=scenario.choice.artefact.digest,
        engine=net.info.engine,
        engine_detail=net.info.detail,
        model_rate_hz=scenario.rate_hz,
        buffer_samples=manifest.buffer.samples,
        hop_samples=scenario.hop_samples,
        profile=scenario.profile.record(),
        clock=settings.clock,
        seed=settings.seed,
        calibration="" if compute is None else compute.label,
        policy=settings.policy,
        audio=scenario.sound.audio,
        simulated_s=end.time_ns / SECOND_NS,
        ended=end.reason,
        message=end.message,
        counts=pipeline.counts,
        compute=_compute_times(scenario, pipeline, compute),
        ring=pipeline.ring_record,
        playout=pipeline.playout_record,
        ledger=recorders.ledger.summaries(),
        delay_check=check,
        events=_inside(pipeline.events, scenario.sound.audio.duration_s),
        faults=pipeline.log.kept,
        faults_total=pipeline.log.total,
        first_late_ns=pipeline.first_late_ns,
        injected=[fault.words() for fault in settings.faults],
        envelope=recorders.heard.envelope,
        envelope_step_samples=recorders.heard.step,
        hiccups=[] if recorders.ledger.hiccups is None else recorders.ledger.hiccups.records(),
    )


def _inside(events: list[EventRecord], duration_s: float) -> list[EventRecord]:
    """No event is after the sound: resampling rounds up."""
    return [
        dataclasses.replace(e, onset_s=min(e.onset_s or 0.0, duration_s), offset_s=min(e.offset_s or 0.0, duration_s))
        for e in events
    ]


def _compute_times(scenario: Scenario, pipeline: Pipeline, compute: ComputeModel | None) -> list[ComputeTimes]:
    times, summary = [], pipeline.compute_times
    if summary is not None and compute is None:
        stretched = scenario.slowdown > 1.0
        label = f"this run, real time{f', stretched by {scenario.slowdown:g}' if stretched else ''}"
        times.append(ComputeTimes(label, "modelled" if stretched else "measured", "paced", summary))
    elif summary is not None and compute is not None:
        factor = compute.slowdown * compute.penalty
        label = f"this run: {compute.label}{f', times {factor:g}' if factor != 1.0 else ''}"
        times.append(ComputeTimes(label, compute.provenance, compute.pacing, summary))
    entry, calibration = scenario.calibrated, scenario.settings.calibration
    if entry is not None and calibration is not None:
        times += _calibrated(entry, calibration.machine)
    return times


def _calibrated(entry: CalibrationEntry, machine: str) -> list[ComputeTimes]:
    rows: tuple[tuple[Pacing, str, list[int], int], ...] = (
        ("paced", "paced", entry.paced_ns, entry.paced_count),
        ("back_to_back", "back to back", entry.back_to_back_ns, entry.back_to_back_count),
    )
    return [
        ComputeTimes(
            f"{machine}, {words}",
            "measured",
            pacing,
            dataclasses.replace(summarise(np.array(points, np.int64)), count=count),
        )
        for pacing, words, points, count in rows
        if points
    ]
