"""The ledger agrees with a delay that was measured in the sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtimes.bundle import Bundle
from streaming.simulator.delay_check import check_delay
from streaming.simulator.device.profile import load_profile, profile_names
from tests.streaming.simulator.scenarios import MS, scenario_of


@pytest.mark.parametrize("name", profile_names())
@pytest.mark.parametrize("kind", ["dtln", "yamnet"])
def test_ledger_agrees_with_a_measured_delay_on_every_profile(exported: dict[str, Path], kind: str, name: str) -> None:
    scenario = scenario_of(Bundle.open(exported[kind]), 1.0, load_profile(name), seed=5)
    for policy in ("drop_oldest", "grow_delay"):
        check = check_delay(scenario.changed(policy=policy))
        assert check is not None
        assert check.ledger_ns > 20 * MS
        assert check.passed, check
        # The onset's place in its hop is taken into account; 8 kHz leave a sample of 16 kHz open.
        assert abs(check.mismatch_samples) < (0.1 if kind == "dtln" else 1.5)


@pytest.mark.parametrize("fault", ["stall@1:700ms", "dropout@1:80ms", "rate@1:16000hz", "capture_stall@1:300ms"])
@pytest.mark.parametrize("policy", ["drop_oldest", "grow_delay", "skip_hop"])
def test_ledger_agrees_after_losses_too(dtln: Bundle, fault: str, policy: str) -> None:
    """The pulse comes while the stream still suffers from what happened before, and when a grown delay was shrunk."""
    scenario = scenario_of(dtln, 1.0, faults=(fault,), policy=policy, ring_samples=4000, seed=1)
    times = (6.0,) if policy == "grow_delay" else (2.0, 6.0)  # amid its cross-fades sound is blurred
    checks = [check_delay(scenario, at_s) for at_s in times]
    found = [c for c in checks if c is not None]
    assert found
    assert all(c.passed for c in found), found
