"""Limits of a set-up, found by runs of the virtual clock without the net: a probe takes its place, its times stay.

- "slowdown": the largest slowdown at which no call misses its deadline, nothing is dropped and playout never runs dry.
- "ring": the smallest ring that drops nothing; exact, because a ring that never drops does not change the run.
- "prefill": the smallest prefill with which playout never runs dry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.common.errors import UsageError
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle
from runtimes.engines import choose
from streaming.core.ring import LARGEST_CAPACITY
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.callbacks import device_stretches
from streaming.simulator.pipeline.pipeline import Pipeline
from streaming.simulator.pipeline.recorders import no_recorders
from streaming.simulator.scenario import Settings, Sound, default_prefill, default_ring
from streaming.simulator.simulate import compute_model
from streaming.simulator.timeline import SECOND_NS
from streaming.simulator.virtual import run_virtual

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
        settings: what to replace in the settings to run at the limit.
    """

    figures: dict[str, float]
    settings: dict[str, Any]


def trouble(
    bundle: Bundle, sound: Sound, settings: Settings, artefact: str | None = None, engine: str | None = None
) -> Trouble:
    """A run without the net: the same callbacks and times, only counted.

    Raises:
        UsageError: see streaming.simulator.simulate.
    """
    manifest, profile = bundle.manifest, settings.profile
    choice = choose(bundle, artefact, engine)
    # The gate looks at the sound, the probe does not: without it every window costs its full time.
    manifest = manifest.model_copy(update={"dsp": None})
    total_ns = sound.source.frames(profile.rate_hz) * SECOND_NS // profile.rate_hz
    ring = default_ring(bundle, profile, settings.policy) if settings.ring_samples is None else settings.ring_samples
    prefill = default_prefill(bundle, profile) if settings.prefill_samples is None else settings.prefill_samples
    recorders = no_recorders(total_ns, manifest.geometry.sample_rate_hz)
    probe = ProbeRuntime(manifest)
    pipeline = Pipeline(manifest, bundle.labels(), probe, profile, settings.policy, ring, prefill, recorders)
    plan = device_stretches(profile, sound.source, settings.seed, settings.faults)
    compute = compute_model(settings, choice, manifest.buffer.samples)
    run_virtual(pipeline, plan, sound.source, compute, settings.faults)
    return Trouble(
        misses=pipeline.output_stage.misses,
        dropped=pipeline.ring.dropped + pipeline.skipped_hops,
        underruns=0 if pipeline.playback is None else pipeline.playback.ring.counts.underruns,
        high_water=pipeline.ring.high_water,
    )


def search_limit(
    bundle: Bundle,
    sound: Sound,
    settings: Settings,
    what: str,
    *,
    artefact: str | None = None,
    engine: str | None = None,
    progress: Progress = silent,
) -> Limit:
    """Find a limit.

    Args:
        bundle, sound, settings: the set-up; its faults count too.
        what: "slowdown", "ring" or "prefill".
        artefact, engine: whose times are drawn.
        progress: called with (what, fraction done).

    Raises:
        UsageError: an unknown search, a bundle it is not for, or a set-up in trouble at any value.
    """

    def run(**changes: Any) -> Trouble:
        return trouble(bundle, sound, dataclasses.replace(settings, **changes), artefact, engine)

    if what == "slowdown":
        return _largest_slowdown(run, progress)
    if what == "ring":
        return _smallest_ring(run, bundle)
    if what == "prefill":
        if bundle.manifest.task == "classifier":
            raise UsageError("--search prefill is for enhancers: a classifier plays nothing")
        return _smallest_prefill(run, settings)
    raise UsageError(f"--search: expected slowdown, ring or prefill, got {what!r}")


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


def _smallest_prefill(run: Callable[..., Trouble], settings: Settings) -> Limit:
    most = 2 * settings.profile.output_rate_hz
    if run(prefill_samples=most).underruns:
        raise UsageError("--search prefill: playout runs dry even with 2 s of prefill; the device cannot keep up")
    low, high = -1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if not run(prefill_samples=middle).underruns else (middle, high)
    return Limit({"smallest_prefill_samples": float(high)}, {"prefill_samples": high})
