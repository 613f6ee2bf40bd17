"""A pipeline that has run, put into words and figures: its RunRecord."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence

import numpy as np

from models.common.version import __version__
from runtimes.bundle import Bundle
from runtimes.engines import Choice
from runtimes.protocol import Runtime
from streaming.measure.calibration import CalibrationEntry
from streaming.metrics.quantiles import summarise
from streaming.runs.record import ComputeTimes, Counts, DelayCheck, EndReason, OccupancyPoint, RingRecord, RunRecord
from streaming.simulator.device.compute import ComputeModel
from streaming.simulator.pipeline.pipeline import Pipeline
from streaming.simulator.scenario import Settings, Sound
from streaming.simulator.timeline import SECOND_NS


def run_record(
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
    manifest, ring, recorders = bundle.manifest, pipeline.ring, pipeline.recorders
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
            ring.capacity, ring.high_water, pipeline.rate_hz, [OccupancyPoint(*p) for p in recorders.occupancy.points]
        ),
        playout=None if pipeline.playback is None else pipeline.playback.record(),
        ledger=recorders.ledger.summaries(),
        delay_check=check,
        events=[] if pipeline.event_stage is None else pipeline.event_stage.events,
        faults=pipeline.log.kept,
        faults_total=pipeline.log.total,
        envelope=recorders.heard.envelope,
        envelope_step_samples=recorders.heard.step,
    )


def _counts(pipeline: Pipeline) -> Counts:
    ring = pipeline.ring
    return Counts(
        callbacks=pipeline.input_stage.callbacks,
        captured=pipeline.input_stage.captured,
        lost=pipeline.input_stage.lost,
        nan_samples=pipeline.input_stage.nan_samples,
        written=ring.written,
        read=ring.read,
        held=ring.held,
        dropped=ring.dropped,
        overruns=ring.overruns,
        calls=pipeline.calls,
        misses=pipeline.output_stage.misses,
        skipped_hops=pipeline.skipped_hops,
        gated_windows=pipeline.gated_windows,
        failed_calls=pipeline.failed_calls,
        resets=pipeline.resets,
        rate_changes=pipeline.input_stage.rate_changes,
    )


def _compute_times(
    settings: Settings, choice: Choice, buffer_samples: int, pipeline: Pipeline, compute: ComputeModel | None
) -> list[ComputeTimes]:
    times = []
    if pipeline.output_stage.compute.count:
        summary = pipeline.output_stage.compute.summary()
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
