"""A device's trace run again: its own callbacks and compute times, through this simulator's ring, net and decisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.common.errors import UsageError
from runtimes.bundle import Bundle
from streaming.metrics.quantiles import summarise
from streaming.runs.record import RunRecord
from streaming.simulator.device.compute import ComputeModel
from streaming.simulator.device.profile import DeviceProfile
from streaming.simulator.device.trace_file import DeviceTrace
from streaming.simulator.pipeline.output import Call
from streaming.simulator.pipeline.pipeline import Observer
from streaming.simulator.run import Recorded, run_scenario
from streaming.simulator.scenario import Scenario


class RecordedTimes(ComputeModel):
    """The calls of a trace one after the other, as late as they began; then their median, should more be made."""

    def __init__(self, trace: DeviceTrace, profile: DeviceProfile) -> None:
        times = [max(1, c.end_ns - c.begin_ns) for c in trace.calls]
        could, free_ns = trace.completed_ns().tolist(), 0
        self._late = []  # how much later than its buffer was complete and the call before it over each began
        for call, completed_ns in zip(trace.calls, could, strict=True):
            self._late.append(max(0, call.begin_ns - max(completed_ns, free_ns)) if completed_ns >= 0 else 0)
            free_ns = call.end_ns
        self._late.reverse()
        super().__init__(sorted(times), "paced", profile, 0, f"recorded on {trace.name}", 1.0)
        self.provenance = "measured"
        self._times = iter(times)
        self._median = sorted(times)[len(times) // 2]

    def late_ns(self) -> int:
        """How much later than it could the next call began."""
        return self._late.pop() if self._late else 0

    def next_ns(self, time_ns: int) -> int:  # noqa: ARG002 the recorded times are in order already
        """Time of the next call."""
        return next(self._times, self._median)


def check_fits(trace: DeviceTrace, bundle: Bundle) -> None:
    """Raise unless the trace is of this bundle.

    Raises:
        UsageError: another model or buffer, or no call in the trace whose audio is in it too.
    """
    manifest = bundle.manifest
    theirs, ours = (trace.bundle.name, trace.bundle.buffer_samples), (manifest.name, manifest.buffer.samples)
    if theirs != ours:
        raise UsageError(
            f"the trace is of {theirs[0]} with {theirs[1]} samples per call, the bundle is {ours[0]} with {ours[1]}; "
            f"give the bundle that ran on the device"
        )
    if not trace.calls:
        raise UsageError("the trace has no call of the model but warm-ups and failures: nothing to learn from")
    if not (trace.completed_ns() >= 0).any():
        raise UsageError("the trace's callbacks bring the audio of none of its calls: it was cut off or edited")


def other_artefact(trace: DeviceTrace, bundle: Bundle) -> str:
    """A warning where the device ran another file than this bundle's artefact; else ""."""
    files = bundle.artefact(trace.bundle.artefact_id).files
    ours = next((f.sha256 for f in files if f.path.endswith("model.mlmodel")), files[0].sha256)
    theirs = trace.bundle.artefact_sha256
    if theirs == ours:
        return ""
    return (
        f"the device ran another {trace.bundle.artefact_id} than the bundle holds (sha256 {theirs[:12]}…, here "
        f"{ours[:12]}…): its times are of that file; give the bundle that was installed, or record again"
    )


def replay_profile(trace: DeviceTrace, like: DeviceProfile) -> DeviceProfile:
    """The trace's capture, nothing added; playout as in `like`, for traces have none."""
    frames = [c.frames for c in trace.callbacks if c.frames]
    source = f"trace of {trace.name}"
    zeros = ("scheduling_delay_us", "jitter_us", "late_per_minute", "dropouts_per_hour", "input_latency_ms")
    figures: dict[str, object] = {**dict.fromkeys(zeros, 0.0), "cold_input_ms": 0.0, "slowdown": 1.0, "wakeup_us": 0.0}
    figures |= {"rate_hz": trace.audio.granted.rate_hz, "block_frames": (min(frames), max(frames))}
    sources = {**like.sources, **dict.fromkeys(figures, source)}
    return dataclasses.replace(
        like,
        name=f"replay-{trace.device.model}",
        title=f"replay of {trace.name}",
        rate_changes=(),
        throttle=((0.0, 1.0),),
        sources=sources,
        **figures,  # type: ignore[arg-type]
    )


def replay_run(
    scenario: Scenario, trace: DeviceTrace, output: Path | None = None, command: Sequence[str] = ()
) -> RunRecord:
    """Replay a trace.

    Args:
        scenario: the bundle that ran on the device, a sound (the trace holds none), policy, sizes and seed; its profile
            gives the playout.
        trace: what was recorded.
        output, command: as in streaming.simulator.run.run_scenario.

    Returns:
        the record; `search` has recorded_* and replayed_* times, ns: wait and delay are from a buffer's last callback
        to the call's begin and end.

    Raises:
        UsageError: the trace is of another bundle.
    """
    check_fits(trace, scenario.bundle)
    profile = replay_profile(trace, scenario.profile)
    ring = scenario.settings.ring_samples or trace.audio.ring_samples
    scenario = dataclasses.replace(scenario, profile=profile).changed(check=False, ring_samples=ring)
    waits, delays = map(summarise, trace.delays_ns())
    calls: list[tuple[int, int, int]] = []

    def note(call: Call) -> None:
        calls.append((call.ready_ns, call.start_ns, call.end_ns))

    def compared(record: RunRecord) -> dict[str, float]:
        if not record.ledger or not calls:
            return {}
        ready, starts, ends = np.array(calls, np.int64).T
        figures = {"recorded_wait": waits, "replayed_wait": summarise(starts - ready)}
        figures |= {"recorded_delay": delays, "replayed_delay": summarise(ends - ready)}
        found = {f"{name}_{p}_ns": float(getattr(q, p)) for name, q in figures.items() for p in ("p50", "p95")}
        return {**found, "replayed_compute_p50_ns": float(record.ledger[0].parts["compute"].p50)}

    recorded = Recorded(trace.plan(), RecordedTimes(trace, profile), compared)
    looking = Observer(on_call=note)
    return run_scenario(scenario, output=output, command=command, recorded=recorded, observer=looking)
