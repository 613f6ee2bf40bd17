"""What a cold start's figures say: its waterfall, and warm-up advice that follows from them and from nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from streaming.measure.cold_start import ColdRun, ColdStart, Condition
from streaming.metrics.intervals import Difference, Spread, digits, paired_difference, spread

# What a reader sees for each stage, in the order in which stages can come.
STAGES = {
    "interpreter": "process and Python interpreter",
    "imports": "imports (numpy, manifest reader)",
    "bundle_opened": "bundle opened, manifest read",
    "file_mapped": "file mapped, every page touched",
    "file_checked": "file checked against its sha256",
    "runtime_imported": "runtime library imported",
    "environment_made": "runtime environment made",
    "model_loaded": "model loaded, weights packed",
    "tensors_allocated": "tensors allocated",
    "ready": "state reset: ready",
}
STEADY_FROM = 5  # calls after the fifth are taken as the steady ones
WORTH = 1.25  # a call this many times slower than the steady ones is worth a warm-up call
LEAST_PAIRS = 5  # runs from which a difference is reported
LOADING = ("file_mapped", "file_checked", "environment_made", "model_loaded", "tensors_allocated")


@dataclass(frozen=True)
class Bar:
    """One stage of a waterfall, medians over the runs, ms since the launch."""

    name: str
    title: str
    begin_ms: float
    end_ms: float
    duration: Spread


@dataclass(frozen=True)
class ConditionSummary:
    """One condition's figures, in ms and bytes, all measured."""

    name: str
    page_cache: str
    weight_cache: str
    ready_ms: Spread
    ready_cpu_ms: Spread
    loading_ms: Spread
    first_call_ms: Spread
    steady_call_ms: Spread
    first_decision_ms: Spread
    audio_lost_ms: Spread
    peak_memory_bytes: Spread
    bars: tuple[Bar, ...]
    calls_ms: tuple[Spread, ...]


def loading_ms(run: ColdRun) -> float:
    """The model's own part of a start: file, check, load, allocation; without Python and imports."""
    return sum(run.stage_ms(stage) for stage in LOADING)


def summarise(condition: Condition) -> ConditionSummary:
    """Medians and spreads of one condition.

    `audio_lost_ms` is the audio that came before the model was ready: lost, unless a ring holds it.
    """
    runs = condition.runs
    ready = spread([r.ready_ms for r in runs])
    return ConditionSummary(
        name=condition.name,
        page_cache=condition.page_cache,
        weight_cache=condition.weight_cache,
        ready_ms=ready,
        ready_cpu_ms=spread([r.ready_cpu_ms for r in runs]),
        loading_ms=spread([loading_ms(r) for r in runs]),
        first_call_ms=spread([r.calls_ms[0] for r in runs]),
        steady_call_ms=spread([c for r in runs for c in r.calls_ms[STEADY_FROM:]]),
        first_decision_ms=spread([r.first_decision_ms for r in runs]),
        audio_lost_ms=ready,
        peak_memory_bytes=spread([r.peak_memory_bytes for r in runs]),
        bars=_bars(runs),
        calls_ms=tuple(spread(column) for column in np.array([r.calls_ms for r in runs]).T),
    )


def _bars(runs: tuple[ColdRun, ...]) -> tuple[Bar, ...]:
    bars = []
    ends = np.array([[at for _, at in run.stages] for run in runs])
    begins = np.concatenate([np.zeros((len(runs), 1)), ends[:, :-1]], axis=1)
    for column, (name, _) in enumerate(runs[0].stages):
        begin, end = (float(np.median(m[:, column])) for m in (begins, ends))
        bars.append(Bar(name, STAGES.get(name, name), begin, end, spread(ends[:, column] - begins[:, column])))
    decided = np.array([run.first_decision_ms for run in runs])
    bars.append(
        Bar(
            "first_decision",
            "audio awaited, calls made: first decision",
            float(np.median(ends[:, -1])),
            float(np.median(decided)),
            spread(decided - ends[:, -1]),
        )
    )
    return tuple(bars)


def warm_up_calls(summary: ConditionSummary) -> int:
    """How many calls at the start take at least `WORTH` times the steady ones, counted from the first without a gap."""
    count = 0
    for call in summary.calls_ms[:STEADY_FROM]:
        if call.median < WORTH * summary.steady_call_ms.median:
            break
        count += 1
    return count


def advice(report: ColdStart) -> tuple[str, ...]:
    """What to do about this cold start, each sentence with the figures it follows from."""
    worst = summarise(report.conditions[0])  # the coldest of all comes first
    lines = [_load_early(report, worst), _warm_up(report, worst)]
    by_caches = {(c.page_cache, c.weight_cache): c for c in report.conditions}
    if ("warm", "cold") in by_caches:
        lines.append(_weight_cache(by_caches[("warm", "cold")], by_caches[("warm", "warm")]))
        lines.append(_page_cache(by_caches[("cold", "warm")], by_caches[("warm", "warm")]))
    else:
        lines.append(_page_cache(by_caches[("cold", "none")], by_caches[("warm", "none")]))
    lines.append(_decision(report, worst))
    return tuple(lines)


def _load_early(report: ColdStart, worst: ConditionSummary) -> str:
    samples = math.ceil(worst.ready_ms.most * report.sample_rate_hz / 1000.0)
    return (
        f"Load the model before the microphone is opened, or let a ring hold what comes meanwhile: ready after "
        f"{_ms(worst.ready_ms)} ({worst.name}), so a ring of {samples:,} samples "
        f"({1000.0 * samples / report.sample_rate_hz:,.0f} ms, the slowest run) would have lost nothing here."
    )


def _warm_up(report: ColdStart, worst: ConditionSummary) -> str:
    first, steady = worst.first_call_ms, worst.steady_call_ms
    hop_ms = 1000.0 * report.hop_samples / report.sample_rate_hz
    calls = warm_up_calls(worst)
    said = f"call 1 takes {_ms(first)}, the later ones {_ms(steady)}"
    if not calls:
        return f"No warm-up call is needed: {said}."
    throwaway = f"{calls} throwaway call{'s' if calls > 1 else ''} with zeros after loading, then a reset"
    if first.p75 > hop_ms:
        return f"Make {throwaway}: {said}, and a quarter of the first calls or more misses its hop of {hop_ms:.4g} ms."
    return (
        f"Here no warm-up call is needed: {said}; three quarters of the first calls fit their hop of {hop_ms:.4g} ms "
        f"well. On a device more than {hop_ms / first.p75:.0f} times slower they would not: make {throwaway}."
    )


def _weight_cache(cold: Condition, warm: Condition) -> str:
    if len(cold.runs) < LEAST_PAIRS:
        return _not_judged("XNNPACK's weight cache", cold)
    found = _loading_difference(warm, cold)
    if not found.shown:
        return f"XNNPACK's weight cache: no difference shown in loading ({_interval(found)}); leave it out."
    if found.difference > 0:
        return f"Keep XNNPACK's weight cache: loading takes {_interval(found)} less when it is found."
    return f"Leave XNNPACK's weight cache out: loading takes {_interval(found)} less without it."


def _page_cache(cold: Condition, warm: Condition) -> str:
    if len(cold.runs) < LEAST_PAIRS:
        return _not_judged("First start after a boot", cold)
    found = _loading_difference(warm, cold)
    if not found.shown:
        return (
            f"First start after a boot: no difference shown in loading with the file's pages cold ({_interval(found)})."
        )
    sign = "longer" if found.difference > 0 else "less"
    return f"First start after a boot: loading takes {_interval(found)} {sign} when the file's pages are cold."


def _decision(report: ColdStart, worst: ConditionSummary) -> str:
    awaited = 1000.0 * report.buffer_samples / report.sample_rate_hz
    said = f"The first decision comes at {_ms(worst.first_decision_ms)}"
    spare = awaited - worst.ready_ms.median
    if spare > 0:
        return (
            f"{said}: the model is ready {spare:.0f} ms before the first buffer of {awaited:.4g} ms is full, so "
            f"audio is what it waits for, and loading faster would not help."
        )
    return f"{said}: its first buffer of {awaited:.4g} ms was full long before, so loading is what it waits for."


def _not_judged(what: str, condition: Condition) -> str:
    return f"{what}: not judged from {len(condition.runs)} runs; --runs {LEAST_PAIRS} or more can tell."


def _loading_difference(a: Condition, b: Condition) -> Difference:
    return paired_difference([loading_ms(r) for r in a.runs], [loading_ms(r) for r in b.runs])


def _ms(figure: Spread) -> str:
    return f"{digits(figure.median)} ms (quartiles {digits(figure.p25)} to {digits(figure.p75)})"


def _interval(found: Difference) -> str:
    low, high = sorted((abs(found.low), abs(found.high)))
    if not found.shown:
        return f"{found.difference:+.1f} ms, 95 % interval {found.low:+.1f} to {found.high:+.1f}"
    return f"{abs(found.difference):.1f} ms (95 % interval {low:.1f} to {high:.1f})"
