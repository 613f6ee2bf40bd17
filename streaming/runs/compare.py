"""Two runs side by side: how much later or faster the second is, with intervals.

Quantiles are those of the runs' ledgers, entry by entry; intervals are percentile bootstraps over blocks of entries
that follow each other (`BLOCK`), because call times carry each other's noise. Only like is compared with like: a
measured delay and a modelled one are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from streaming.metrics.intervals import bootstrap_difference
from streaming.runs.load import LedgerRows, LoadedRun, delay_kind

BLOCK = 50
SEED = 0
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True)
class ComparedFigure:
    """One quantile of both, ms; `shown` if the 95 % interval of the difference leaves zero out."""

    figure: str
    a_ms: float
    b_ms: float
    difference_ms: float
    low_ms: float
    high_ms: float
    shown: bool


@dataclass(frozen=True)
class ComparedCount:
    """A count of both runs."""

    figure: str
    a: int
    b: int


@dataclass(frozen=True)
class Comparison:
    """B against A.

    Attributes:
        kind: whether the delays and times compared were measured or modelled.
        figures: computing time and delay.
        counts: misses, drops and the like.
        apart: what differs in how the two were made (artefact, profile, policy, ...): name, A's, B's.
        why_not: why there are no figures, or "".
    """

    kind: str
    figures: tuple[ComparedFigure, ...]
    counts: tuple[ComparedCount, ...]
    apart: tuple[tuple[str, str, str], ...]
    why_not: str


def compare(a: LoadedRun, b: LoadedRun) -> Comparison:
    """Compare two runs.

    Raises:
        UsageError: they are of different tasks.
    """
    first, second = a.record, b.record
    if first.task != second.task:
        raise UsageError(
            f"{b.folder}: its task is {second.task}, that of {a.folder} {first.task}; expected two of the same task"
        )
    kinds = [delay_kind(record) for record in (first, second)]
    figures: tuple[ComparedFigure, ...] = ()
    why_not = ""
    pair = _common(a.ledger, b.ledger)
    if kinds[0] != kinds[1]:
        why_not = f"A's times were {kinds[0]}, B's {kinds[1]}: not comparable; simulate both on the same clock"
    elif pair is None:
        why_not = "the runs have no ledger entries of one kind in common"
    else:
        x, y = pair
        what, scale = "computing time of a call", (1.0, 1.0)
        if first.hop_samples != second.hop_samples:  # a call of one does not do what a call of the other does
            what = "computing time for 1 s of sound"
            scale = (first.model_rate_hz / first.hop_samples, second.model_rate_hz / second.hop_samples)
        figures = (
            *_figures(what, x.compute_ns * scale[0], y.compute_ns * scale[1]),
            *_figures(f"delay, {x.kind}", x.total_ns, y.total_ns),
        )
    names = ("misses", "dropped", "overruns", "skipped_hops", "lost", "failed_calls")
    counts = [ComparedCount(n, int(getattr(first.counts, n)), int(getattr(second.counts, n))) for n in names]
    if first.task == "classifier":
        counts.append(ComparedCount("events", len(first.events), len(second.events)))
    if first.playout is not None and second.playout is not None:
        counts.append(ComparedCount("playout underruns", first.playout.underruns, second.playout.underruns))
    return Comparison(kinds[0] if kinds[0] == kinds[1] else "mixed", figures, tuple(counts), _apart(a, b), why_not)


def _common(a: tuple[LedgerRows, ...], b: tuple[LedgerRows, ...]) -> tuple[LedgerRows, LedgerRows] | None:
    """Blocks or windows of both; events only if there is nothing else."""
    for kind in ("block", "window", "event"):
        x, y = (next((rows for rows in side if rows.kind == kind and len(rows.total_ns)), None) for side in (a, b))
        if x is not None and y is not None:
            return x, y
    return None


def _figures(what: str, a_ns: NDArray[np.float64], b_ns: NDArray[np.float64]) -> list[ComparedFigure]:
    result = []
    for name, quantile in QUANTILES:
        found = bootstrap_difference(a_ns / 1e6, b_ns / 1e6, quantile, block=BLOCK, seed=SEED)
        result.append(
            ComparedFigure(f"{what}, {name}", found.a, found.b, found.difference, found.low, found.high, found.shown)
        )
    return result


def _apart(a: LoadedRun, b: LoadedRun) -> tuple[tuple[str, str, str], ...]:
    sides = [
        {
            "bundle": r.bundle,
            "artefact": r.artefact,
            "engine": f"{r.engine} ({r.engine_detail})",
            "profile": r.profile.name,
            "policy": r.policy,
            "clock": r.clock,
            "compute times": r.calibration or "measured in the run",
            "audio": r.audio.name,
            "seed": str(r.seed),
        }
        for r in (a.record, b.record)
    ]
    return tuple((name, sides[0][name], sides[1][name]) for name in sides[0] if sides[0][name] != sides[1][name])
