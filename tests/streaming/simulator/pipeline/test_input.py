"""streaming.simulator.pipeline.input: samples go through in order, all accounted for, each with its time."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.resample import Resampler
from streaming.runs.record import Policy
from streaming.simulator.device.faults import FaultLog, parse_fault
from streaming.simulator.pipeline.input import InputStage
from tests.streaming.simulator.pipeline.small import PROFILE, RATE, SAMPLE_NS, callback, config, figures, noise

BLOCKS = st.lists(st.integers(1, 300), min_size=1, max_size=20)


def stage(**changes: Any) -> tuple[InputStage, FaultLog]:
    log = FaultLog()
    return InputStage(config(**changes), figures(), log), log


def captured(entry: InputStage, samples: np.ndarray, blocks: list[int], first: int = 0) -> None:
    at = 0
    for frames in blocks:
        entry.capture(callback(first + at, frames), samples[at : at + frames])
        at += frames


def conserved(entry: InputStage) -> None:
    ring = entry.ring
    assert ring.written == ring.read + ring.held + ring.dropped


@given(blocks=BLOCKS, pulls=st.lists(st.integers(1, 200), max_size=30))
@settings(max_examples=40, deadline=None)
def test_what_was_captured_comes_out_in_order_whatever_the_blocks(blocks: list[int], pulls: list[int]) -> None:
    samples = noise(sum(blocks))
    entry, _ = stage(ring_samples=6000)
    captured(entry, samples, blocks)
    came, position = [], 0
    for count in pulls:
        pulled = entry.pull(count)
        if pulled is None:
            assert entry.ring.held < count
            continue
        view, first, arrival, ready = pulled
        assert first == position
        ends = np.cumsum(blocks)
        # the callback that brought a sample is the first whose end lies behind it
        assert arrival == int(ends[np.searchsorted(ends, first, "right")]) * SAMPLE_NS
        assert ready == int(ends[np.searchsorted(ends, first + count - 1, "right")]) * SAMPLE_NS
        came.append(view)
        position += count
    got = np.concatenate([*came, np.zeros(0, np.float32)])
    assert np.array_equal(got, samples[:position])
    assert (entry.callbacks, entry.captured, entry.lost) == (len(blocks), sum(blocks), 0)
    conserved(entry)
    assert entry.ring.held == sum(blocks) - position


@given(blocks=BLOCKS, policy=st.sampled_from(["drop_oldest", "skip_hop", "grow_delay"]))
@settings(max_examples=40, deadline=None)
def test_a_full_ring_drops_old_samples_or_refuses_new_ones_and_counts_them(blocks: list[int], policy: Policy) -> None:
    capacity, total = 500, sum(blocks)
    samples = noise(total)
    entry, log = stage(ring_samples=capacity, policy=policy)
    captured(entry, samples, blocks)
    conserved(entry)
    assert entry.ring.written == total
    assert entry.ring.dropped == max(0, total - capacity)
    assert sum(f.samples for f in log.kept) == entry.ring.dropped
    pulled = entry.pull(min(capacity, total))
    assert pulled is not None
    kept = samples[:capacity] if policy == "grow_delay" else samples[-capacity:]
    assert np.array_equal(pulled[0], kept)


@given(blocks=BLOCKS)
@settings(max_examples=20, deadline=None)
def test_at_another_rate_it_is_the_resampler_of_the_whole(blocks: list[int]) -> None:
    samples = noise(sum(blocks))
    entry, _ = stage(profile=dataclasses.replace(PROFILE, rate_hz=48_000), ring_samples=6000)
    at = 0
    for frames in blocks:
        entry.capture(callback(at, frames, rate=48_000), samples[at : at + frames])
        at += frames
    entry.end_capture(10**9)
    resampler = Resampler(48_000, RATE)
    whole = np.concatenate([resampler.process(samples), resampler.flush()])
    pulled = entry.pull(entry.ring.held)
    assert pulled is not None
    assert np.array_equal(pulled[0], whole)
    assert entry.resampler_ns == resampler.delay_out_samples * 1_000_000_000 // RATE > 0


def test_every_sample_has_the_time_at_which_it_was_captured() -> None:
    entry, log = stage()
    captured(entry, noise(400), [80] * 5)
    entry.capture(callback(1000, 80, lost=600, reason="dropout"), noise(80))
    times = [entry.captured_at(k) for k in range(480)]
    assert times[:400] == [k * SAMPLE_NS for k in range(400)]
    assert times[400:] == [k * SAMPLE_NS for k in range(1000, 1080)]
    assert entry.captured_at_each(np.arange(480)).tolist() == times
    assert (entry.captured, entry.lost) == (480, 600)
    assert [(f.kind, f.samples) for f in log.kept] == [("dropout", 600)]


def test_after_refused_samples_time_goes_on_behind_them() -> None:
    entry, _ = stage(ring_samples=100, policy="grow_delay")
    captured(entry, noise(160), [80, 80])
    assert entry.pull(80) is not None
    entry.capture(callback(160, 80), noise(80))
    assert entry.captured_at(99) == 99 * SAMPLE_NS
    assert [entry.captured_at(k) for k in (100, 179)] == [160 * SAMPLE_NS, 239 * SAMPLE_NS]
    conserved(entry)


def test_nan_is_silenced_and_counted_whether_it_came_or_was_put_in() -> None:
    entry, log = stage(faults=(parse_fault("nan@0.02"),))
    spoilt = noise(80)
    spoilt[[3, 5]] = np.nan, np.inf
    entry.capture(callback(0, 80), spoilt)
    captured(entry, np.ones(240, np.float32), [80] * 3, first=80)
    assert entry.nan_samples == 2 + 8
    assert [(f.kind, f.samples) for f in log.kept] == [("nan", 2), ("nan", 8)]
    pulled = entry.pull(320)
    assert pulled is not None
    samples = pulled[0]
    assert samples[[3, 5]].tolist() == [0.0, 0.0]
    assert np.flatnonzero(samples[80:] == 0.0).tolist() == list(range(80, 88))  # the first block from 20 ms on
    assert np.isfinite(samples).all()


def test_a_change_of_rate_loses_nothing_but_what_the_device_lost() -> None:
    entry, log = stage()
    captured(entry, noise(800), [80] * 10)
    high = callback(4800, 480, lost=12, rate=48_000, reason="rate_change")
    for k in range(10):
        now = high._replace(
            time_ns=high.time_ns + k * 10_000_000,
            captured_ns=high.captured_ns + k * 10_000_000,
            first_frame=4800 + 480 * k,
            lost=high.lost if k == 0 else 0,
        )
        entry.capture(now, noise(480, seed=k))
    entry.end_capture(10**9)
    assert (entry.rate_changes, entry.lost, entry.captured) == (1, 12, 800 + 4800)
    assert [f.kind for f in log.kept] == ["rate_change"]
    assert entry.ring.written == pytest.approx(1600, abs=1)
    times = entry.captured_at_each(np.arange(entry.ring.written))
    assert all(b > a for a, b in pairwise(times.tolist()))
    assert int(times[800]) == high.captured_ns


def test_the_longest_block_is_remembered() -> None:
    entry, _ = stage()
    assert entry.block_ns == 80 * SAMPLE_NS
    captured(entry, noise(280), [80, 120, 80])
    assert entry.block_ns == 120 * SAMPLE_NS
