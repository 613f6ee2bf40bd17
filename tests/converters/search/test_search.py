"""The search on a made-up net whose losses are known: it finds what can be worked out, and says what cannot be met."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from converters.search.budget import Budget
from converters.search.search import FLOAT, Choices, Found, PartOf, Trial, search

# part -> precision -> (bytes, PESQ lost)
NET: Mapping[str, Mapping[str, tuple[int, float]]] = {
    "front": {FLOAT: (400, 0.0), "int8": (100, 0.03)},
    "wide": {FLOAT: (4000, 0.0), "int8": (1000, 0.001), "int4": (500, 0.02)},
    "narrow": {FLOAT: (800, 0.0), "int8": (200, 0.002), "int4": (100, 0.09)},
    "last": {FLOAT: (400, 0.0), "int8": (100, 0.001), "int4": (50, 0.04)},
}
PARTS = tuple(
    PartOf(name, tuple(p for p in precisions if p != FLOAT), name in ("front", "last"))
    for name, precisions in NET.items()
)


class Measured:
    """Losses add up; together they are a little worse than the sum."""

    def __init__(self, together: float = 1.2) -> None:
        self.together, self.asked = together, 0

    def __call__(self, choices: Choices, whole: bool) -> Trial:
        self.asked += whole
        rows = [NET[name][choices.get(name, FLOAT)] for name in NET]
        lost = sum(loss for _, loss in rows) * (self.together if whole else 1.0)
        return Trial(dict(choices), sum(size for size, _ in rows), {"pesq": lost})


def _search(size: int | None, loss: float | None, together: float = 1.2) -> Found:
    budget = Budget(size, {} if loss is None else {"pesq": loss})
    return search(PARTS, Measured(together), budget, {"pesq": loss or 0.1})


def test_the_cheapest_bytes_go_first_and_what_is_protected_stays() -> None:
    found = _search(None, 0.05)
    assert found.met
    assert found.chosen.choices == {"front": FLOAT, "wide": "int4", "narrow": "int8", "last": "int8"}
    assert found.chosen.size_bytes == 1200
    assert len(found.sensitivity) == 7


def test_within_a_size_the_best_is_taken_and_nothing_smaller() -> None:
    found = _search(1750, 0.05)
    assert found.met
    assert found.chosen.choices == {"front": FLOAT, "wide": "int8", "narrow": "int8", "last": "int8"}
    assert found.chosen.losses["pesq"] == pytest.approx(0.0048)


def test_a_size_alone_is_met_whatever_is_lost() -> None:
    found = _search(1100, None)
    assert found.met
    assert found.chosen.size_bytes <= 1100


def test_the_nearest_is_told_where_nothing_meets_the_budget() -> None:
    small = _search(600, 0.05)
    assert not small.met
    assert small.chosen.losses["pesq"] <= 0.05  # the smallest that keeps what is heard
    assert small.chosen.size_bytes == min(t.size_bytes for t in small.tried if t.losses["pesq"] <= 0.05) > 600
    hopeless = _search(1200, 0.05, together=4.0)
    assert not hopeless.met
    assert hopeless.chosen.losses["pesq"] <= 0.05


def test_few_plans_are_measured_on_all_clips() -> None:
    measured = Measured()
    found = search(PARTS, measured, Budget(None, {"pesq": 0.05}), {"pesq": 0.05})
    assert measured.asked < 25
    assert [t.size_bytes for t in found.tried] == sorted(t.size_bytes for t in found.tried)
