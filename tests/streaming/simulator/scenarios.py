"""Sounds, calibrations and runs for the simulator's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtimes.bundle import Bundle
from runtimes.engines import choose
from runtimes.protocol import Runtime
from streaming.measure.calibration import Calibration, CalibrationEntry
from streaming.runs.record import RunRecord
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.faults import parse_fault
from streaming.simulator.device.profile import DeviceProfile, load_profile
from streaming.simulator.run import run_scenario
from streaming.simulator.scenario import Scenario, Settings, Sound, clip_sound

MS = 1_000_000
PLAIN = load_profile("this-machine")


def speech(seconds: float, rate: int = 48_000) -> np.ndarray:
    """Something with syllables: noise bursts and tones, the same every time."""
    generator = np.random.default_rng(11)
    n = round(seconds * rate)
    t = np.arange(n) / rate
    envelope = np.clip(np.sin(2 * np.pi * 2.3 * t) + 0.3 * np.sin(2 * np.pi * 0.7 * t), 0, None)
    voice = sum(np.sin(2 * np.pi * f * t) / k for k, f in enumerate((140, 280, 560, 1120, 2240), 1))
    return (0.2 * envelope * voice + 0.01 * generator.standard_normal(n)).astype(np.float32)


def sound_of(seconds: float) -> Sound:
    return clip_sound(speech(min(seconds, 20.0)), 48_000, "speech", seconds)


def calibration(bundle: Bundle, low_ns: int, high_ns: int) -> Calibration:
    choice = choose(bundle)
    points = np.linspace(low_ns, high_ns, 200).astype(int).tolist()
    samples = bundle.manifest.buffer.samples
    entry = CalibrationEntry(
        bundle.path.name, choice.artefact.id, "0", choice.engine, "1", 1, samples, 8 * MS, points, points, 200, 200
    )
    return Calibration("hearpack-calibration/1", "made for a test", "0", [entry])


def usual(bundle: Bundle) -> Calibration:
    """Times that fit the bundle's hop."""
    return (
        calibration(bundle, MS // 5, MS // 2)
        if bundle.manifest.task == "enhancer"
        else calibration(bundle, 9 * MS, 20 * MS)
    )


def scenario_of(
    bundle: Bundle,
    seconds: float,
    profile: DeviceProfile = PLAIN,
    sound: Sound | None = None,
    faults: tuple[str, ...] = (),
    **settings: Any,
) -> Scenario:
    """A scenario with the usual times and no check of the delay, unless `settings` say otherwise."""
    chosen = Settings(
        **{"calibration": usual(bundle), "check": False, "faults": tuple(map(parse_fault, faults)), **settings}
    )
    return Scenario(bundle, sound_of(seconds) if sound is None else sound, profile, chosen)


def probed(scenario: Scenario, runtime: Runtime | None = None) -> RunRecord:
    """A run with a probe for the net."""
    return run_scenario(scenario, runtime=runtime or ProbeRuntime(scenario.bundle.manifest))


def conserved(record: RunRecord) -> None:
    """Every sample and every nanosecond is accounted for."""
    counts, playout = record.counts, record.playout
    assert counts.written == counts.read + counts.held + counts.dropped
    if playout is not None:
        assert playout.offered == playout.written + playout.dropped
        assert playout.written == playout.consumed + playout.held
    for ledger in record.ledger:
        assert sum(ledger.mean_parts.values()) == pytest.approx(ledger.total.mean)
