"""A device trace turned into a profile, and how well the profile predicts the trace it came from."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from models.common.files import atomic_file
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle
from runtimes.engines import choose
from streaming.measure.calibration import Calibration
from streaming.metrics.quantiles import summarise
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.profile import SCHEMA, DeviceProfile, RateChange, figure_limits, load_profile
from streaming.simulator.device.trace_file import DeviceTrace, read_trace
from streaming.simulator.replay import check_fits
from streaming.simulator.scenario import Scenario, Settings, calibration_of, silence
from streaming.simulator.timeline import SECOND_NS

LEAST_CALLS = 20
LEAST_CALLBACKS = 20
LATE_MS = 10.0  # a callback this much later than usual, and five times the jitter, is an event of its own
_BINS = 6
_THROTTLED = 0.1  # below this change of the median no throttling is seen


@dataclass(frozen=True)
class Prediction:
    """A figure of the trace beside the profile's prediction of it, in ns.

    Attributes:
        figure: its name.
        recorded, predicted: what each says.
        error: predicted / recorded - 1.
    """

    figure: str
    recorded: int
    predicted: int
    error: float


@dataclass(frozen=True)
class FittedProfile:
    """A profile, its TOML text, and its predictions."""

    profile: DeviceProfile
    toml: str
    predictions: list[Prediction]

    def save(self, path: str | Path) -> None:
        """Write the TOML text.

        Raises:
            OutputError: it cannot be written.
        """
        with atomic_file(Path(path)) as file:
            file.write(self.toml.encode())


def fit_device(
    trace: str | Path,
    bundle: Bundle | str | Path,
    *,
    output: str | Path | None = None,
    calibration: str | Path | None = None,
    like: str = "this-machine",
    engine: str | None = None,
    progress: Progress = silent,
) -> FittedProfile:
    """Turn a device's trace into a profile.

    Args:
        trace: file that a sample app wrote.
        bundle: the bundle that ran on the device, or its folder.
        output: the .toml to write; its name is the profile's.
        calibration: file of compute times of this machine; measured for 5 s without.
        like: device whose playout is assumed.
        engine: of the calibration's times.
        progress: called with (what, fraction done).

    Returns:
        the profile, its text, and how well it predicts the trace.

    Raises:
        UsageError: a trace, a bundle or a calibration that does not fit.
        OutputError: the profile cannot be written.
    """
    bundle, recorded = Bundle.of(bundle), read_trace(trace)
    file = None if output is None else Path(output)
    if file is not None and file.suffix != ".toml":
        raise UsageError(f"--output: a profile is a .toml file, got {file.name!r}")
    assumed = load_profile(like)
    check_fits(recorded, bundle)
    times = calibration_of(bundle, calibration, recorded.bundle.artefact_id, engine, progress)
    fitted = fit_profile(recorded, bundle, times, "device" if file is None else file.stem, assumed, engine)
    if file is not None:
        fitted.save(file)
    return fitted


def fit_profile(
    trace: DeviceTrace,
    bundle: Bundle,
    calibration: Calibration,
    name: str,
    like: DeviceProfile,
    engine: str | None = None,
    seed: int = 0,
) -> FittedProfile:
    """`fit_device` of what was read: a trace of at least 20 callbacks and calls, times of the same artefact here.

    Raises:
        UsageError: too short, an emulator's, of a debug build, or of another bundle.
    """
    check_fits(trace, bundle)
    if trace.device.emulated:
        raise UsageError("the trace is an emulator's: its times mean nothing for a device")
    if trace.app.build != "release":
        raise UsageError("the trace is of a debug build: its times are not for a profile; record a release build")
    if len(trace.calls) < LEAST_CALLS or len(trace.callbacks) < LEAST_CALLBACKS:
        raise UsageError(
            f"the trace has {len(trace.callbacks)} callbacks and {len(trace.calls)} calls; a profile needs at least "
            f"{LEAST_CALLBACKS} and {LEAST_CALLS}"
        )
    settings = Settings(seed=seed, calibration=calibration, artefact=trace.bundle.artefact_id, engine=engine)
    choice = choose(bundle, settings.artefact, engine)
    entry = calibration.entry(choice.artefact.id, choice.engine, bundle.manifest.buffer.samples)
    here = entry.paced_ns or entry.back_to_back_ns
    source = f"fitted from a trace of {trace.name}: {len(trace.callbacks)} callbacks, {len(trace.calls)} calls"
    figures = {**_capture_figures(trace), **_compute_figures(trace, here[len(here) // 2])}
    unknown = {k: v for k, v in like.sources.items() if k not in figures}
    sources = {**unknown, **dict.fromkeys(figures, source)}
    if not entry.paced_ns:
        sources["slowdown"] += "; against back-to-back times of this machine"
        figures["paced_penalty"], sources["paced_penalty"] = 1.0, "in the slowdown already"
    profile = dataclasses.replace(like, name=name, title=trace.name, sources=sources, **figures)  # type: ignore[arg-type]
    # The first block of the trace is where capture begins: what is lost before it is not in the trace.
    warm = dataclasses.replace(profile, cold_input_ms=0.0)
    scenario = Scenario(bundle, silence(trace.duration_s, warm.rate_hz), warm, settings).without_dsp()
    scenario = scenario.changed(ring_samples=max(scenario.ring_samples, trace.audio.ring_samples or 0))
    return FittedProfile(profile, to_toml(profile), _predict(trace, scenario))


def _lateness_ns(trace: DeviceTrace) -> NDArray[np.float64]:
    """How late each callback came after its last frame was captured, as far as the trace tells; least is 0 without
    hardware times."""
    plan = trace.plan()
    times = np.array([c.time_ns for c in plan], np.float64)
    ends = np.array([c.captured_ns + c.frames * SECOND_NS / c.rate_hz for c in plan])
    heard = [c for c in trace.callbacks if c.frames]
    if all(c.hardware_time_ns is not None for c in heard):
        since = np.array([c.time_ns - (c.hardware_time_ns or 0) for c in heard], np.float64)
        late: NDArray[np.float64] = since - np.array([c.frames * SECOND_NS / c.rate_hz for c in plan])
        return np.clip(late, 0.0, None)
    lateness = times - ends
    # Two clocks drift apart: a line is taken off, the earliest callbacks of each half being the ones on time.
    half = len(lateness) // 2
    a, b = float(lateness[:half].min()), float(lateness[half:].min())
    at = np.array([int(np.argmin(lateness[:half])), half + int(np.argmin(lateness[half:]))])
    slope = (b - a) / (times[at[1]] - times[at[0]])
    flat: NDArray[np.float64] = lateness - a - slope * (times - times[at[0]])
    flat -= flat.min()
    return flat


def _capture_figures(trace: DeviceTrace) -> dict[str, object]:
    plan = trace.plan()
    frames = [c.frames for c in plan[:-1]] or [plan[0].frames]
    lateness = _lateness_ns(trace)
    usual = float(np.median(lateness))
    spread = float(np.median(np.abs(lateness - usual))) * 1.4826
    late = lateness - usual > max(LATE_MS * 1e6, 5.0 * spread)
    on_time = lateness[~late]
    # |N(0, s)| on top of a constant: mean and deviation of a half-normal are 0.798 s and 0.603 s.
    jitter = float(on_time.std()) / 0.603
    constant = max(0.0, float(on_time.mean()) - 0.798 * jitter)
    minutes = max(trace.duration_s / 60.0, 1e-9)
    reported = next((r.system_input_latency_ns for r in trace.routes if r.system_input_latency_ns is not None), None)
    route = min(constant, float(reported)) if reported is not None else constant
    begins = late & ~np.concatenate([[False], late[:-1]])  # what comes behind a late one is its burst
    losses = [(c.lost, c.rate_hz) for c in plan if c.reason == "dropout"]
    losses += [(g.samples, g.rate_hz) for g in trace.gaps if g.kind in ("capture_overrun", "capture_gap")] * (
        not losses
    )
    changes = tuple(
        RateChange(round(max(0.1, b.captured_ns / SECOND_NS), 3), b.rate_hz, 0.0)
        for a, b in itertools.pairwise(plan)
        if b.rate_hz != a.rate_hz
    )
    cold = trace.cold_start
    figures: dict[str, object] = {
        "rate_hz": trace.audio.granted.rate_hz,
        "block_frames": (min(frames), max(frames)),
        "input_latency_ms": round(route / 1e6, 3),
        "scheduling_delay_us": round((constant - route) / 1e3, 1),
        "jitter_us": round(jitter / 1e3, 1),
        "late_per_minute": round(float(begins.sum()) / minutes, 3),
        "late_ms": round(float((lateness[begins] - usual).mean()) / 1e6, 2) if begins.any() else 0.0,
        "dropouts_per_hour": round(len(losses) / minutes * 60.0, 2),
        "dropout_ms": round(1000.0 * float(np.mean([n / r for n, r in losses])), 2) if losses else 0.0,
        "rate_changes": changes,
    }
    if cold.capture_begin_ns is not None and cold.first_callback_ns is not None:
        wait_ms = (cold.first_callback_ns - cold.capture_begin_ns) / 1e6 - 1000.0 * plan[0].frames / plan[0].rate_hz
        figures["cold_input_ms"] = round(max(0.0, wait_ms), 2)
    return figures


def _compute_figures(trace: DeviceTrace, here_ns: int) -> dict[str, object]:
    calls = trace.calls
    times = np.array([c.end_ns - c.begin_ns for c in calls], np.float64)
    begins = np.array([c.begin_ns for c in calls], np.float64)
    bins = min(_BINS, len(calls) // LEAST_CALLS)
    parts = np.array_split(np.arange(len(calls)), max(1, bins))
    medians = [float(np.median(times[p])) for p in parts]
    throttle: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    base = float(np.median(times))
    if len(parts) > 1 and max(medians) > (1.0 + _THROTTLED) * medians[0]:
        base = medians[0]
        at = [round((float(begins[p].mean()) - begins[0]) / 1e9, 3) for p in parts]
        throttle = tuple((t, round(m / base, 4)) for t, m in zip(at, medians, strict=True))
    completed = trace.completed_ns()
    previous = np.concatenate([[0.0], [float(c.end_ns) for c in calls[:-1]]])
    waits = begins - completed
    free = (completed >= 0) & (previous <= completed) & (waits >= 0)
    wakeup = float(np.median(waits[free])) if free.any() else 0.0
    return {
        "slowdown": round(base / here_ns, 5),
        "throttle": throttle,
        "wakeup_us": round(wakeup / 1e3, 1),
    }


def _predict(trace: DeviceTrace, scenario: Scenario) -> list[Prediction]:
    """The profile's own run, as long as the trace, with a probe for the net."""
    recorders = scenario.recorders()
    pipeline = scenario.pipeline(ProbeRuntime(scenario.bundle.manifest), recorders)
    plan = list(scenario.callbacks())
    scenario.run_virtual(pipeline, callbacks=plan)
    recorders.close()
    ledger, compute = recorders.ledger.summaries()[0], pipeline.compute_times
    if compute is None:
        raise UsageError("the trace is too short for a call of the model: nothing to predict")
    times = summarise(np.array([c.end_ns - c.begin_ns for c in trace.calls], np.int64))
    waits = summarise(np.maximum(0, trace.delays_ns()[0]))
    wait = ledger.parts["ring_wait"]
    recorded_steps = summarise(np.diff(np.array([c.time_ns for c in trace.callbacks], np.int64)))
    steps = summarise(np.diff(np.array([c.time_ns for c in plan], np.int64)))
    rows = [
        ("callback interval p50", recorded_steps.p50, steps.p50),
        ("callback interval p95", recorded_steps.p95, steps.p95),
        ("compute p50", times.p50, compute.p50),
        ("compute p95", times.p95, compute.p95),
        ("compute p99", times.p99, compute.p99),
        ("wait p50", waits.p50, wait.p50),
        ("wait p95", waits.p95, wait.p95),
    ]
    return [Prediction(n, a, b, round(b / a - 1.0, 4) if a else (0.0 if not b else 1.0)) for n, a, b in rows]


def to_toml(profile: DeviceProfile) -> str:
    """The text of a profile: every figure that has a source."""
    lines = [f"schema = {json.dumps(SCHEMA)}", f"title = {json.dumps(profile.title)}"]
    sections: dict[str, list[str]] = {"capture": [], "playout": [], "compute": []}
    for key, limits in figure_limits().items():
        if key in profile.sources:
            value = _toml(getattr(profile, key))
            source = json.dumps(profile.sources[key])
            sections[limits.section].append(f"{key} = {{ value = {value}, source = {source} }}")
    for name, entries in sections.items():
        if entries:
            lines += ["", f"[{name}]", *entries]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, RateChange):
        return f"{{ at_s = {value.at_s}, rate_hz = {value.rate_hz}, gap_ms = {value.gap_ms} }}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
