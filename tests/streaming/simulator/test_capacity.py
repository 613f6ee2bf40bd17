"""Searches for limits: what is found is the edge."""

from __future__ import annotations

from runtimes.bundle import Bundle
from streaming.simulator.capacity import search_limit, trouble
from streaming.simulator.device.profile import load_profile
from tests.streaming.simulator.scenarios import scenario_of


def test_largest_slowdown_is_the_edge(dtln: Bundle) -> None:
    scenario = scenario_of(dtln, 6.0, load_profile("android-burst-192"))
    found = search_limit(scenario, "slowdown")
    good, bad = found.figures["largest_slowdown"], found.figures["first_miss_at"]
    assert 2.0 < good < bad < 1.003 * good  # a hop is 8 ms, the longest call 0.5 ms
    assert found.figures["underruns_beyond"] + found.figures["misses_beyond"] > 0
    assert trouble(scenario.changed(slowdown=good)).clean
    assert not trouble(scenario.changed(slowdown=bad)).clean


def test_smallest_ring_and_prefill_are_edges(dtln: Bundle) -> None:
    scenario = scenario_of(dtln, 5.0, load_profile("iphone-tap"))
    ring = int(search_limit(scenario, "ring").figures["smallest_ring_samples"])
    assert ring >= 1600  # a tap of 100 ms
    assert trouble(scenario.changed(ring_samples=ring)).dropped == 0
    assert trouble(scenario.changed(ring_samples=ring - 1)).dropped > 0
    prefill = int(search_limit(scenario, "prefill").figures["smallest_prefill_samples"])
    assert trouble(scenario.changed(prefill_samples=prefill)).underruns == 0
    assert trouble(scenario.changed(prefill_samples=prefill - 1)).underruns > 0
