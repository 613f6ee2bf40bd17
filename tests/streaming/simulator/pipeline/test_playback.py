"""streaming.simulator.pipeline.playback: what is written is played once and in order, and every sample is counted."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.runs.record import PARTS, PlayoutRecord
from streaming.simulator.delay_check import KeptLedger
from streaming.simulator.device.faults import FaultLog
from streaming.simulator.pipeline.playback import Playback, Written
from tests.streaming.simulator.pipeline.small import HOP, PROFILE, RATE, config, figures, noise

BLOCK, PREFILL, MS = 80, 160, 1_000_000
# True: a result of a hop is written; False: the device reads a block.
STEPS = st.lists(st.booleans(), min_size=1, max_size=120)


class Device:
    """A playback with its device: what was read is kept."""

    def __init__(self, **changes: Any) -> None:
        self.heard: list[np.ndarray] = []
        self.log = FaultLog()
        self.ledger = KeptLedger()
        recorders = dataclasses.replace(figures(), ledger=self.ledger)
        self.playback = Playback(
            config(prefill_samples=PREFILL, **changes), HOP, recorders, self.log, lambda _, out: self.heard.append(out)
        )
        self.results = 0

    def write(self, values: np.ndarray, end_ns: int) -> None:
        rows = np.zeros((1, 3 + PARTS.index("compute") + 1), np.int64)
        rows[0, 0] = self.results
        self.results += 1
        self.playback.write(values, Written([len(values)], [end_ns], rows))

    def read(self) -> None:
        self.playback.read(self.playback.next_read_ns())

    def play_out(self) -> None:
        self.playback.finish(0)
        reads = 0
        while not (self.playback.finished and self.playback.drained):
            self.read()
            reads += 1
            assert reads < 1000


def conserved(record: PlayoutRecord) -> None:
    assert record.offered == record.written + record.dropped
    assert record.written == record.consumed + record.held
    assert record.high_water_samples <= record.capacity_samples


@given(steps=STEPS)
@settings(max_examples=40, deadline=None)
def test_every_sample_is_written_dropped_played_or_held_whatever_comes_first(steps: list[bool]) -> None:
    device, signal = Device(), noise(HOP * len(steps), 3)
    at = 0
    for step in steps:
        if step:
            device.write(signal[at : at + HOP], 0)
            at += HOP
        else:
            device.read()
        conserved(device.playback.record())
    device.play_out()
    record = device.playback.record()
    conserved(record)
    assert record.offered == at
    assert (record.held, record.dropped) == (0, 0)
    outputs = BLOCK * len(device.heard)
    assert outputs == record.played + record.silence + record.underrun + record.tail
    if not record.underruns and record.adjust_ppm == 0.0:
        heard = np.concatenate([*device.heard, np.zeros(0, np.float32)])
        assert np.array_equal(heard[record.silence : record.silence + at], signal[:at])
    assert record.underruns == sum(f.kind == "playout_underrun" for f in device.log.kept)


@given(steps=STEPS)
@settings(max_examples=30, deadline=None)
def test_every_result_has_one_entry_in_the_ledger_when_all_is_played(steps: list[bool]) -> None:
    device = Device()
    for step in steps:
        device.write(noise(HOP), 0) if step else device.read()
    device.play_out()
    assert len(device.ledger.kept["block"]) == device.results == sum(steps)


def test_a_sample_is_played_after_the_prefill_and_the_entry_says_how_long_it_waited() -> None:
    device = Device()
    for number in range(4):
        device.write(noise(HOP, number), number * MS)
        if number < 2:
            device.read()  # less than the prefill: silence
    for _ in range(3):
        device.read()
    assert not np.concatenate(device.heard[:2]).any()
    assert np.array_equal(np.concatenate(device.heard[2:])[: 2 * HOP], np.concatenate([noise(HOP, 0), noise(HOP, 1)]))
    # Read at 20 ms (the third block); the first came at 0 ms, the second at 1 ms and lies 8 ms later in the block.
    totals = [total for _, total in device.ledger.kept["block"]]
    route = round(PROFILE.output_latency_ms * MS)
    assert totals[:2] == [20 * MS + route, 20 * MS + 8 * MS - MS + route]


def test_what_finds_no_room_is_dropped_logged_and_has_no_entry() -> None:
    device = Device()
    capacity = device.playback.ring.capacity_samples
    for number in range(capacity // HOP + 4):
        device.write(noise(HOP, number), 0)
    record = device.playback.record()
    conserved(record)
    assert record.dropped == record.offered - capacity > 0
    assert sum(f.samples for f in device.log.kept if f.kind == "playout_overflow") == record.dropped
    for _ in range(10):
        device.read()
    ahead_ns = device.playback.ring.level * 1_000_000_000 // RATE
    now_ns = device.playback.next_read_ns()
    device.write(noise(HOP), now_ns)  # there is room again: it waits for what lies before it, not for what was dropped
    device.play_out()
    route_ns = round(PROFILE.output_latency_ms * MS)
    assert device.ledger.kept["block"][-1][1] == pytest.approx(ahead_ns + route_ns, abs=MS)
    lost = device.results - len(device.ledger.kept["block"])
    assert lost == 4 - (capacity % HOP > 0)


def test_a_delay_that_grew_is_shrunk_and_what_was_cut_is_counted() -> None:
    """The net is late for half a second, then what was pending comes at once."""
    device = Device()
    playback, number = device.playback, 0
    for block in range(1000):
        now_ns = playback.next_read_ns()
        if not 300 <= block < 350:
            while (number + 1) * HOP * 1_000_000_000 <= now_ns * RATE:
                device.write(noise(HOP, number), now_ns)
                number += 1
        device.read()
    record = playback.record()
    conserved(record)
    assert record.offered == HOP * device.results
    assert record.trimmed == sum(f.samples for f in device.log.kept if f.kind == "playout_trim") > 0.3 * RATE
    assert playback.ring.level < 2 * PREFILL
    totals = [total for _, total in device.ledger.kept["block"]]
    usual, last = np.median(totals[100:300]), np.median(totals[-200:])
    assert abs(last - usual) < 10 * MS
    assert max(totals) > usual + 300 * MS


@pytest.mark.parametrize("ppm", [-300.0, 0.0, 300.0])
def test_the_device_reads_by_its_own_clock(ppm: float) -> None:
    device = Device(profile=dataclasses.replace(PROFILE, output_clock_ppm=ppm))
    for _ in range(1000):
        device.read()
    expected = 1000 * BLOCK * 1e9 / (RATE * (1.0 + ppm * 1e-6))
    assert device.playback.next_read_ns() == pytest.approx(expected, abs=1)
