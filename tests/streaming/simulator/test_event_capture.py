"""Event times under losses: on every device profile an event begins within a hop of its sound in the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from runtimes.bundle import Bundle
from streaming.simulator.device.profile import load_profile, profile_names
from streaming.simulator.scenario import clip_sound
from tests.streaming.simulator.scenarios import probed, scenario_of

BURSTS_S = (5.0, 15.0, 25.0, 35.0, 45.0, 55.0)
RATE = 16_000


@pytest.mark.parametrize("name", profile_names())
def test_events_begin_within_a_hop_of_their_sound(exported: dict[str, Path], name: str) -> None:
    bundle = Bundle.open(exported["yamnet"])
    assert bundle.manifest.decisions is not None
    hop_s = bundle.manifest.hop_samples / bundle.manifest.geometry.sample_rate_hz
    window_s = bundle.manifest.buffer.samples / bundle.manifest.geometry.sample_rate_hz
    seconds = np.arange(60 * RATE) / RATE
    loud = np.zeros(len(seconds), np.float32)
    for begin in BURSTS_S:
        loud[(seconds >= begin) & (seconds < begin + 1.5)] = 0.9
    profile = dataclasses.replace(load_profile(name), dropouts_per_hour=0.0)  # one might take a burst
    faults = ("dropout@8:700ms", "dropout@28:300ms", "dropout@49:1s")
    record = probed(scenario_of(bundle, 60.0, profile, clip_sound(loud, RATE, "bursts"), faults))
    assert record.counts.lost > 0
    assert len(record.events) == len(BURSTS_S)
    for event, begin in zip(record.events, BURSTS_S, strict=True):
        assert event.onset_s is not None
        assert event.offset_s is not None
        assert -hop_s - 0.01 <= event.onset_s - begin <= 0.01
        assert begin + 1.5 - 0.01 <= event.offset_s <= min(60.0, begin + 1.5 + window_s + hop_s)
        assert event.emitted_at_ns / 1e9 > event.onset_s
