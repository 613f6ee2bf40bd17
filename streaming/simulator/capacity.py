"""Limits of a set-up, found by runs of the virtual clock without the net: a probe takes its place, its times stay.

- "slowdown": the largest slowdown at which no call misses its deadline, nothing is dropped and playout never runs dry.
- "ring": the smallest ring that drops nothing; exact, because a ring that never drops does not change the run.
- "prefill": the smallest prefill with which playout never runs dry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from models.common.errors import UsageError
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle
from streaming.core.ring import LARGEST_CAPACITY
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.scenario import Scenario

SearchKind = Literal["slowdown", "ring", "prefill"]
LARGEST_SLOWDOWN = 10_000.0
_STEPS = 24
_CLOSE = 0.002


@dataclass(frozen=True)
class Trouble:
    """What went wrong in a run.

    Attributes:
        misses, dropped, underruns: calls past their deadline, samples dropped by the ring, playout reads run dry.
        high_water: most samples the ring held.
    """

    misses: int
    dropped: int
    underruns: int
    high_water: int

    @property
    def clean(self) -> bool:
        """Nothing did."""
        return not (self.misses or self.dropped or self.underruns)


@dataclass(frozen=True)
class Limit:
    """What a search found.

    Attributes:
        figures: for RunRecord.search.
        settings: what to change in the settings to run at the limit.
    """

    figures: dict[str, float]
    settings: dict[str, Any]


def trouble(scenario: Scenario) -> Trouble:
    """A run without the net: the same callbacks and times, only counted.

    Raises:
        UsageError: see streaming.simulator.scenario.
    """
    # The gate looks at the sound, the probe does not: without it every window costs its full time. Nor does the probe
    # fail, or mind NaN.
    faults = tuple(f for f in scenario.settings.faults if f.kind not in ("nan", "raise"))
    scenario = scenario.without_dsp().changed(faults=faults)
    pipeline = scenario.pipeline(ProbeRuntime(scenario.bundle.manifest))
    scenario.run_virtual(pipeline)
    counts, playout = pipeline.counts, pipeline.playout_record
    return Trouble(
        misses=counts.misses,
        dropped=counts.dropped + counts.skipped_hops,
        underruns=0 if playout is None else playout.underruns,
        high_water=pipeline.ring_record.high_water_samples,
    )


def search_limit(scenario: Scenario, what: SearchKind, progress: Progress = silent) -> Limit:
    """Find a limit.

    Args:
        scenario: the set-up; its faults count too.
        what: "slowdown", "ring" or "prefill".
        progress: called with (what, fraction done).

    Raises:
        UsageError: a bundle it is not for, or a set-up in trouble at any value.
    """

    def run(**changes: Any) -> Trouble:
        return trouble(scenario.changed(**changes))

    if what == "slowdown":
        return _largest_slowdown(run, progress)
    if what == "ring":
        return _smallest_ring(run, scenario.bundle)
    if scenario.bundle.manifest.output_kind == "scores":
        raise UsageError("--search prefill is for enhancers: a classifier plays nothing")
    return _smallest_prefill(run, 2 * scenario.profile.output_rate_hz)


def _largest_slowdown(run: Callable[..., Trouble], progress: Progress) -> Limit:
    """Doubling, then halving of the interval, to 0.2 %."""
    good, bad = 0.0, 1.0
    while run(slowdown=bad).clean:
        good, bad = bad, 2.0 * bad
        if bad > LARGEST_SLOWDOWN:
            return Limit({"largest_slowdown": good}, {"slowdown": good})
    if good == 0.0:
        good = 1e-3
        if not run(slowdown=good).clean:
            raise UsageError(
                "--search slowdown: the set-up is in trouble whatever the speed; look at its buffers first "
                "(--search ring, --search prefill), or at the device's losses"
            )
    for step in range(_STEPS):
        if bad / good < 1.0 + _CLOSE:
            break
        progress("searching the largest slowdown", step / _STEPS)
        middle = (good * bad) ** 0.5
        good, bad = (middle, bad) if run(slowdown=middle).clean else (good, middle)
    progress("searching the largest slowdown", 1.0)
    beyond = run(slowdown=bad)
    figures = {
        "largest_slowdown": good,
        "first_miss_at": bad,
        "misses_beyond": float(beyond.misses),
        "dropped_beyond": float(beyond.dropped),
        "underruns_beyond": float(beyond.underruns),
    }
    return Limit(figures, {"slowdown": good})


def _smallest_ring(run: Callable[..., Trouble], bundle: Bundle) -> Limit:
    """The high water of a ring that never drops."""
    found = run(ring_samples=LARGEST_CAPACITY)
    ring = max(found.high_water, bundle.manifest.buffer.samples)
    return Limit({"smallest_ring_samples": float(ring)}, {"ring_samples": ring})


def _smallest_prefill(run: Callable[..., Trouble], most: int) -> Limit:
    if run(prefill_samples=most).underruns:
        raise UsageError("--search prefill: playout runs dry even with 2 s of prefill; the device cannot keep up")
    low, high = -1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if not run(prefill_samples=middle).underruns else (middle, high)
    return Limit({"smallest_prefill_samples": float(high)}, {"prefill_samples": high})
