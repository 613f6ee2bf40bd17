"""A device trace turned into a profile, and how well the profile predicts the trace it came from."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
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
from streaming.simulator.device.callbacks import Callback
from streaming.simulator.device.profile import SCHEMA, DeviceProfile, RateChange, figure_limits, load_profile
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.device.trace_file import DeviceTrace, read_trace
from streaming.simulator.replay import check_fits, other_artefact
from streaming.simulator.scenario import Scenario, Settings, calibration_of, silence

LEAST_CALLS = 20
LEAST_CALLBACKS = 20
LATE_MS = 10.0  # a callback this much later than usual, and five times the jitter, is an event of its own
_BINS = 6
_THROTTLED = 0.1  # below this change of the median no throttling is seen
RIGHT, RIGHT_NS = 0.25, 1_000_000  # a prediction within a quarter or a millisecond holds
_PIECES = 12  # of a stretch: the earliest callback of each is on time
_SURE_PPM = 20.0  # a clock's rate that is less certain than this is not told


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

    @property
    def holds(self) -> bool:
        """Whether the profile predicts it: within a quarter, or within a millisecond."""
        return abs(self.error) <= RIGHT or abs(self.predicted - self.recorded) <= RIGHT_NS


@dataclass(frozen=True)
class FittedProfile:
    """A profile, its TOML text, and its predictions.

    Attributes:
        profile, toml: the profile, and its text.
        predictions: figures of the trace, each beside what the profile's own run gives.
        warnings: what of the trace does not fit the bundle or could not be told, a line each.
    """

    profile: DeviceProfile
    toml: str
    predictions: list[Prediction]
    warnings: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What the profile predicts of this trace and what it does not, in a sentence."""
        kinds = {row.figure.rsplit(" ", 1)[0]: True for row in self.predictions}
        for row in self.predictions:
            kinds[row.figure.rsplit(" ", 1)[0]] &= row.holds
        right, wrong = ([k for k, held in kinds.items() if held is wanted] for wanted in (True, False))
        text = f"predicts {_listed(right)}" if right else "predicts nothing of this trace"
        missed = [f"{r.figure} {r.recorded / 1e6:.1f} ms, {r.predicted / 1e6:.1f} predicted" for r in self.predictions
                  if not r.holds]  # fmt: skip
        if wrong:
            text += (
                f"; does not predict {_listed(wrong)} ({'; '.join(missed)}): a profile has no figure for what did it"
            )
        return text

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
    untold = _untold(trace, like, source, figures)
    figures = {k: v for k, v in figures.items() if v is not None}
    sources = {**like.sources, **dict.fromkeys(figures, source), **untold}
    if not entry.paced_ns:
        sources["slowdown"] += "; against back-to-back times of this machine"
        figures["paced_penalty"], sources["paced_penalty"] = 1.0, "in the slowdown already"
    profile = dataclasses.replace(like, name=name, title=trace.name, sources=sources, **figures)  # type: ignore[arg-type]
    # The first block of the trace is where capture begins: what is lost before it is not in the trace.
    warm = dataclasses.replace(profile, cold_input_ms=0.0)
    scenario = Scenario(bundle, silence(trace.duration_s, warm.rate_hz), warm, settings).without_dsp()
    scenario = scenario.changed(ring_samples=max(scenario.ring_samples, trace.audio.ring_samples or 0))
    warnings = tuple(filter(None, [other_artefact(trace, bundle)]))
    return FittedProfile(profile, to_toml(profile), _predict(trace, scenario), warnings)


def _listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _hardware(trace: DeviceTrace) -> bool:
    """Whether each block of audio has its hardware time."""
    return all(c.hardware_time_ns is not None for c in trace.callbacks if c.frames)


def _untold(trace: DeviceTrace, like: DeviceProfile, source: str, figures: dict[str, object]) -> dict[str, str]:
    """The sources of figures that this trace tells in part or not at all: an assumption is called one."""
    sources: dict[str, str] = {}
    if figures["input_latency_ms"] is None:
        sources["input_latency_ms"] = f"assumption: as {like.name}; the trace has no time stamps of the hardware"
    elif not _hardware(trace):
        sources["input_latency_ms"] = f"told by the system of {trace.name}, not measured"
    if not _hardware(trace):
        sources["scheduling_delay_us"] = f"{source}; above the earliest callback, for want of time stamps"
    if not any(c.hardware_frame is not None for c in trace.callbacks):
        counted = f"{source}; as the app noted, for want of the hardware's frame counter"
        sources["dropouts_per_hour"] = sources["dropout_ms"] = counted
    ppm = figures["output_clock_ppm"]
    if ppm is not None:
        sources["output_clock_ppm"] = (
            f"assumption: the output runs by the system's clock, against which capture was measured at "
            f"{-float(str(ppm)):+g} ppm in a trace of {trace.name}"
        )
    return sources


def _lateness_ns(trace: DeviceTrace) -> NDArray[np.float64]:
    """How late each callback came after its last frame was captured, as far as the trace tells; least is 0 without
    hardware times."""
    plan = trace.plan()
    if _hardware(trace):
        heard = [c for c in trace.callbacks if c.frames]
        since = np.array([c.time_ns - (c.hardware_time_ns or 0) for c in heard], np.float64)
        late: NDArray[np.float64] = since - np.array([c.frames * SECOND_NS / c.rate_hz for c in plan])
        return np.clip(late, 0.0, None)
    # Two clocks drift apart: the line of those on time is taken off, at each rate for itself.
    flat = [found[0] for found in map(_without_drift, _rates(plan))]
    return np.concatenate([lateness - lateness.min() for lateness in flat])


def _rates(plan: Sequence[Callback]) -> list[list[Callback]]:
    """The callbacks, those of one rate together."""
    return [list(group) for _, group in itertools.groupby(plan, key=lambda c: c.rate_hz)]


def _without_drift(plan: Sequence[Callback]) -> tuple[NDArray[np.float64], float, float]:
    """Callbacks of one rate: how late each came, ns, less a straight line through the earliest of `_PIECES` pieces;
    the line's slope, and the standard error of that."""
    times = np.array([c.time_ns for c in plan], np.float64)
    lateness = times - np.array([c.captured_ns + c.frames * SECOND_NS / c.rate_hz for c in plan])
    if len(plan) < LEAST_CALLBACKS:
        return lateness, 0.0, math.inf
    pieces = np.array_split(np.arange(len(plan)), _PIECES if len(plan) >= _PIECES * 4 else 3)
    first = np.array([piece[int(np.argmin(lateness[piece]))] for piece in pieces])
    x, y = times[first] - times[first].mean(), lateness[first]
    slope = float((x * y).sum() / (x * x).sum())
    left = y - y.mean() - slope * x
    error = math.sqrt(float((left**2).sum()) / (len(first) - 2) / float((x * x).sum()))
    return lateness - slope * (times - times[0]), slope, error


def _capture_ppm(trace: DeviceTrace) -> float | None:
    """How much faster capture runs than the system's clock, in parts per million; None where the trace is too short
    or too ragged to tell."""
    if _hardware(trace):
        heard = [c for c in trace.callbacks if c.frames]
        plan = [p._replace(time_ns=c.hardware_time_ns or 0, frames=0) for p, c in zip(trace.plan(), heard, strict=True)]
    else:
        plan = trace.plan()
    _, slope, error = _without_drift(max(_rates(plan), key=len))
    ppm, sure = -1e6 * slope / (1.0 + slope), 1e6 * error
    return round(ppm, 1) if sure <= _SURE_PPM and abs(ppm) > 3.0 * sure else None


def _capture_figures(trace: DeviceTrace) -> dict[str, object]:
    plan = trace.plan()
    rates = _rates(plan)
    # What the recorder summed tells nothing of jitter.
    exact = np.array([c.exact for c in trace.callbacks if c.frames])
    lateness = _lateness_ns(trace)[exact]
    usual = float(np.median(lateness))
    spread = float(np.median(np.abs(lateness - usual))) * 1.4826
    late = lateness - usual > max(LATE_MS * 1e6, 5.0 * spread)
    on_time = lateness[~late]
    # |N(0, s)| on top of a constant: mean and deviation of a half-normal are 0.798 s and 0.603 s.
    jitter = float(on_time.std()) / 0.603
    constant = max(0.0, float(on_time.mean()) - 0.798 * jitter)
    minutes = max(trace.duration_s / 60.0, 1e-9)
    looked_at = minutes * float(exact.mean())
    reported = next((r.system_input_latency_ns for r in trace.routes if r.system_input_latency_ns is not None), None)
    route: float | None = constant
    if reported is not None:
        route = min(constant, float(reported)) if _hardware(trace) else float(reported)
    elif not _hardware(trace):
        route = None
    ppm = _capture_ppm(trace)
    begins = late & ~np.concatenate([[False], late[:-1]])  # what comes behind a late one is its burst
    losses = [(c.lost, c.rate_hz) for c in plan if c.reason == "dropout"]
    losses += [(g.samples, g.rate_hz) for g in trace.gaps if g.kind in ("capture_overrun", "capture_gap")] * (
        not losses
    )
    changes = tuple(_rate_change(a, b) for a, b in itertools.pairwise(rates))
    cold = trace.cold_start
    figures: dict[str, object] = {
        "rate_hz": trace.audio.granted.rate_hz,
        "block_frames": _block(rates[0]),
        "input_latency_ms": None if route is None else round(route / 1e6, 3),
        "scheduling_delay_us": round((constant - (route if _hardware(trace) and route else 0.0)) / 1e3, 1),
        "jitter_us": round(jitter / 1e3, 1),
        "late_per_minute": round(float(begins.sum()) / looked_at, 3),
        "late_ms": round(float((lateness[begins] - usual).mean()) / 1e6, 2) if begins.any() else 0.0,
        "dropouts_per_hour": round(len(losses) / minutes * 60.0, 2),
        "dropout_ms": round(1000.0 * float(np.mean([n / r for n, r in losses])), 2) if losses else 0.0,
        "rate_changes": changes,
        "output_clock_ppm": -ppm if ppm is not None and abs(ppm) <= 500.0 else None,
    }
    if cold.capture_begin_ns is not None and cold.first_callback_ns is not None:
        wait_ms = (cold.first_callback_ns - cold.capture_begin_ns) / 1e6 - 1000.0 * plan[0].frames / plan[0].rate_hz
        figures["cold_input_ms"] = round(max(0.0, wait_ms), 2)
    return figures


def _block(callbacks: Sequence[Callback]) -> tuple[int, int]:
    """Fewest and most frames of the callbacks of one rate; the last may have been cut short."""
    frames = [c.frames for c in callbacks[:-1]] or [callbacks[0].frames]
    return min(frames), max(frames)


def _rate_change(before: Sequence[Callback], after: Sequence[Callback]) -> RateChange:
    """From the last frame at the old rate to the first at the new one, which is taken to have come without delay."""
    ended_ns = before[-1].captured_ns + before[-1].frames * SECOND_NS // before[-1].rate_hz
    gap_ms = max(0.0, (after[0].captured_ns - ended_ns) / 1e6)
    block = _block(after)
    at_s = round(max(0.1, ended_ns / SECOND_NS), 3)
    return RateChange(at_s, after[0].rate_hz, round(gap_ms, 1), block if block != _block(before) else None)


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
        block = f", block_frames = {_toml(value.block_frames)}" if value.block_frames else ""
        return f"{{ at_s = {value.at_s}, rate_hz = {value.rate_hz}, gap_ms = {value.gap_ms}{block} }}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
