"""The search itself: what each part loses by itself, the cheapest bytes first, then whole plans measured.

It knows nothing of nets: what measures is given. `Trial` is one plan, measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from converters.search.budget import Budget

FLOAT = "fp32"
# A part by itself may use so much of an allowance if it is protected, and if it is not.
_PROTECTED_SHARE, _SHARE = 0.5, 1.0
# Where nothing is lost that can be measured, a byte still costs something: so that large parts go first.
_LEAST_COST = 1e-3
# A step that saves less of the whole is none: the same bits with other arithmetic.
_LEAST_SAVED = 1e-3
_MENDS = 12

Choices = Mapping[str, str]  # part -> precision
Measure = Callable[[Choices, bool], "Trial"]  # (choices, on all clips) -> what came


@dataclass(frozen=True)
class Trial:
    """One plan, measured.

    Attributes:
        choices: part -> precision.
        size_bytes: of the artefact.
        losses: figure -> mean loss against float32, positive where it is worse.
        tie: a loss without a unit, finer than the figures; 0 where they are fine enough.
    """

    choices: Choices
    size_bytes: int
    losses: Mapping[str, float]
    tie: float = 0.0


@dataclass(frozen=True)
class PartOf:
    """What the search knows of a part: its name, the precisions it may take, and whether it is protected."""

    name: str
    precisions: tuple[str, ...]
    protected: bool


@dataclass(frozen=True)
class Found:
    """What a search ends with.

    Attributes:
        chosen: the plan, measured on all clips; the nearest where the budget is not met.
        met: whether it is within the budget.
        tried: every plan that was measured on all clips, by size.
        sensitivity: every part by itself, at every precision.
    """

    chosen: Trial
    met: bool
    tried: tuple[Trial, ...]
    sensitivity: tuple[Trial, ...]


def search(
    parts: Sequence[PartOf],
    measure: Measure,
    budget: Budget,
    weights: Mapping[str, float],
    starts: Sequence[Choices] = (),
) -> Found:
    """Find a plan within a budget.

    Args:
        parts: of the net.
        measure: gives a trial of choices; on a few clips, or on all of them.
        budget: bytes and losses.
        weights: figure -> loss that counts as one when a part is tried by itself on few clips.
        starts: plans that are measured whatever comes, such as int8 everywhere.

    Returns:
        the smallest plan within the losses; where a size is given, the one nearest to float32 within that size.
    """
    plain = measure({}, False)
    singles = _sensitivity(parts, measure)
    worth = _Worth(parts, singles, plain.size_bytes, Budget(None, weights))
    path = worth.path()
    others = [measure(choices, True) for choices in starts]
    tried: dict[int, Trial] = {}

    def at(index: int) -> Trial:
        if index not in tried:
            tried[index] = measure(path[index], True)
        return tried[index]

    def keeps(trial: Trial) -> bool:
        return budget.used(trial.losses) <= 1.0

    def small(trial: Trial) -> bool:
        return budget.size_bytes is None or trial.size_bytes <= budget.size_bytes

    def best() -> Trial | None:
        within = [trial for trial in (*tried.values(), *others) if keeps(trial)]
        fitting = [trial for trial in within if small(trial)]
        if budget.size_bytes is not None and fitting:
            return min(fitting, key=lambda trial: (budget.apart(trial.losses), trial.size_bytes))
        return min(within, key=lambda trial: trial.size_bytes, default=None)

    last = len(path) - 1
    if budget.size_bytes is not None:
        first = _first(last, lambda index: small(measure(path[index], False)))
        if first is not None:
            at(first)
    chosen = best()
    if budget.size_bytes is None or chosen is None or not small(chosen):
        _first(last, lambda index: not keeps(at(index)))  # every plan it looks at is kept
        chosen = best()
        if chosen is not None:
            others += _mend(measure, budget, chosen, worth)
            chosen = best()
    everything = (*tried.values(), *others)
    if chosen is None:
        return _found(min(everything, key=lambda trial: budget.used(trial.losses)), False, everything, singles)
    return _found(chosen, small(chosen), everything, singles)


def _sensitivity(parts: Sequence[PartOf], measure: Measure) -> tuple[Trial, ...]:
    return tuple(measure({part.name: precision}, False) for part in parts for precision in part.precisions)


class _Worth:
    """What each part at each precision saves in bytes, and the share of the budget that it uses by itself."""

    def __init__(self, parts: Sequence[PartOf], singles: Sequence[Trial], plain_bytes: int, budget: Budget) -> None:
        self.parts = parts
        self.least_bytes = _LEAST_SAVED * plain_bytes
        self.saved: dict[tuple[str, str], int] = {}
        self.cost: dict[tuple[str, str], float] = {}
        singles = [trial for trial in singles if trial.losses]  # the others cannot be made
        used = {id(trial): max(0.0, budget.used(trial.losses)) for trial in singles}
        ties = sum(trial.tie for trial in singles)
        # Shares of windows are coarse: a part's own share, and what its tie lets expect, count half each.
        rate = sum(used.values()) / ties if ties > 0.0 else 0.0
        for trial in singles:
            (key,) = trial.choices.items()
            own = used[id(trial)]
            self.saved[key] = plain_bytes - trial.size_bytes
            self.cost[key] = 0.5 * (own + rate * trial.tie) if ties > 0.0 else own

    def steps(self, now: Choices) -> list[tuple[float, str, str]]:
        """(bytes for what is lost, part, precision) of every part that can be made smaller than it is."""
        found = []
        for part in self.parts:
            held = (part.name, now.get(part.name, FLOAT))
            for precision in part.precisions:
                key = (part.name, precision)
                if key not in self.cost:
                    continue
                saved = self.saved[key] - self.saved.get(held, 0)
                if saved <= self.least_bytes or self.cost[key] > (_PROTECTED_SHARE if part.protected else _SHARE):
                    continue
                lost = max(0.0, self.cost[key] - self.cost.get(held, 0.0))
                found.append((saved / (lost + _LEAST_COST), part.name, precision))
        return found

    def path(self) -> list[dict[str, str]]:
        """Plans from float32 to the smallest, a step each: what saves most bytes for what it loses comes first."""
        now = {part.name: FLOAT for part in self.parts}
        plans = [dict(now)]
        while steps := self.steps(now):
            _, name, precision = max(steps)
            now[name] = precision
            plans.append(dict(now))
        return plans


def _first(last: int, holds: Callable[[int], bool]) -> int | None:
    """The first of 0 to `last` from which on something holds, by bisection; None if it does not at the last."""
    if not holds(last):
        return None
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def _mend(measure: Measure, budget: Budget, chosen: Trial, worth: _Worth) -> list[Trial]:
    """Further parts made smaller one at a time, cheapest first, for as long as the losses on all clips stay within."""
    refused: set[tuple[str, str]] = set()
    tried: list[Trial] = []
    while len(tried) < _MENDS and (budget.size_bytes is None or chosen.size_bytes > budget.size_bytes):
        steps = [step for step in worth.steps(chosen.choices) if step[1:] not in refused]
        if not steps:
            break
        _, name, precision = max(steps)
        tried.append(measure({**chosen.choices, name: precision}, True))
        if budget.used(tried[-1].losses) <= 1.0:
            chosen = tried[-1]
        else:
            refused.add((name, precision))
    return tried


def _found(chosen: Trial, met: bool, tried: Sequence[Trial], singles: Sequence[Trial]) -> Found:
    unique = {str(sorted(trial.choices.items())): trial for trial in tried}
    return Found(chosen, met, tuple(sorted(unique.values(), key=lambda t: t.size_bytes)), tuple(singles))
