"""Callbacks: every frame of the sound comes once or is counted as lost, in order, the same for the same seed."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import UsageError
from streaming.simulator.device.callbacks import Callback, ClipSource, device_callbacks
from streaming.simulator.device.faults import Fault, check_faults, parse_fault
from streaming.simulator.device.profile import DeviceProfile, load_profile, profile_names

BASE = load_profile("this-machine")


def plan(name: str, seconds: float, seed: int = 0, faults: tuple[Fault, ...] = (), **changes: object) -> list[Callback]:
    return plan_of(dataclasses.replace(load_profile(name), **changes), seconds, seed, faults)  # type: ignore[arg-type]


def plan_of(profile: DeviceProfile, seconds: float, seed: int = 0, faults: tuple[Fault, ...] = ()) -> list[Callback]:
    source = ClipSource(np.zeros(profile.rate_hz, np.float32), profile.rate_hz, seconds)
    return list(device_callbacks(profile, source, seed, faults))


@pytest.mark.parametrize("name", profile_names())
def test_frames_are_brought_or_lost(name: str) -> None:
    profile = load_profile(name)
    callbacks = plan(name, 12.0)
    low, high = profile.block_frames
    at: dict[int, int] = {}
    for c in callbacks:
        assert 1 <= c.frames <= high
        assert c.time_ns >= (c.first_frame + c.frames) * 1_000_000_000 // c.rate_hz
        if c.rate_hz in at:
            assert c.first_frame == at[c.rate_hz] + c.lost
        at[c.rate_hz] = c.first_frame + c.frames
    assert all(b.time_ns > a.time_ns for a, b in itertools.pairwise(callbacks))
    if len(at) == 1:
        brought, lost = sum(c.frames for c in callbacks), sum(c.lost for c in callbacks)
        assert brought + lost == round(12.0 * profile.rate_hz)
        assert sum(c.frames < low for c in callbacks) <= 1  # only the last may be short
    assert callbacks[0].lost == -(-round(profile.cold_input_ms * 1e6) * profile.rate_hz // 1_000_000_000)


def test_same_seed_same_callbacks_another_seed_others() -> None:
    assert plan("android-low-end", 5.0, 3) == plan("android-low-end", 5.0, 3)
    assert plan("android-low-end", 5.0, 3) != plan("android-low-end", 5.0, 4)


def test_ragged_blocks_fill_their_range() -> None:
    sizes = [c.frames for c in plan("android-ragged", 30.0)]
    assert min(sizes) < 20
    assert max(sizes) > 570


def test_a_capture_stall_is_late_and_comes_in_a_burst() -> None:
    callbacks = plan("this-machine", 3.0, faults=(Fault("capture_stall", 1.0, 500.0),), jitter_us=0.0)
    burst = [c for c in callbacks if 1_500_000_000 <= c.time_ns < 1_502_000_000]
    assert len(burst) >= 49
    assert sum(c.lost for c in callbacks) == 0


def test_a_dropout_loses_what_it_says() -> None:
    callbacks = plan("this-machine", 3.0, faults=(Fault("dropout", 1.0, 50.0),))
    lost = [c for c in callbacks if c.lost]
    assert [c.reason for c in lost] == ["dropout"]
    assert lost[0].lost == 2400


@pytest.mark.parametrize("fault", ["dropout@1.9:500ms", "dropout@1.99:10ms", "rate@1.9:16000hz"])
def test_what_is_lost_at_the_very_end_is_counted(fault: str) -> None:
    callbacks = plan("this-machine", 2.0, faults=(parse_fault(fault),))
    assert sum((c.frames + c.lost) / c.rate_hz for c in callbacks) == pytest.approx(2.0, abs=1e-3)
    assert callbacks[-1].lost > 0
    assert callbacks[-1].frames == 0


def test_a_rate_change_goes_on_in_world_time() -> None:
    callbacks = plan("this-machine", 3.0, faults=(Fault("rate", 1.0, 16000.0),))
    assert {c.rate_hz for c in callbacks} == {48000, 16000}
    first = next(c for c in callbacks if c.rate_hz == 16000)
    assert first.captured_ns == 1_200_000_000
    assert first.lost == 3200
    assert first.reason == "rate_change"
    last = callbacks[-1]
    assert last.first_frame + last.frames == 48000  # three seconds of 16 kHz


@settings(deadline=None, max_examples=50)
@given(seconds=st.floats(0.3, 4.0), block=st.integers(1, 9000), first=st.integers(0, 9000))
def test_a_repeated_clip_reads_as_one(seconds: float, block: int, first: int) -> None:
    clip = np.arange(1000, dtype=np.float32)
    source = ClipSource(clip, 8000, seconds)
    assert source.frames(8000) == round(seconds * 8000)
    assert np.array_equal(source.read(8000, first, block), np.resize(np.roll(clip, -first % -1000), block))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("stall@2:500ms", Fault("stall", 2.0, 500.0)),
        ("stall@2s:5s", Fault("stall", 2.0, 5000.0)),
        ("rate@3:16000hz", Fault("rate", 3.0, 16000.0)),
        ("nan@1", Fault("nan", 1.0, 1.0)),
        ("raise@4:3x", Fault("raise", 4.0, 3.0)),
    ],
)
def test_faults_as_text(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    "text", ["stall", "stall@x", "stall@1", "quake@1", "rate@1:5ms", "stall@1:0ms", "rate@1:1hz", "nan@1:2ms"]
)
def test_wrong_faults_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fault"):
        parse_fault(text)


@pytest.mark.parametrize(("text", "said"), [("stall@2", "how long it lasts"), ("rate@2", "the new rate")])
def test_a_fault_without_its_amount_says_what_is_missing(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"does not say {said}; for instance {text}:"):
        parse_fault(text)


@pytest.mark.parametrize(
    ("text", "ready_made", "said"),
    [
        ("stall@99:500ms", False, "the sound ends at 8 s"),
        ("nan@8", False, "the sound ends at 8 s"),
        ("dropout@0.1:50ms", False, "hears nothing before 0.2 s"),
        ("capture_stall@2:50ms", True, "as they are"),
    ],
)
def test_a_fault_that_cannot_happen_is_refused(text: str, ready_made: bool, said: str) -> None:
    with pytest.raises(UsageError, match=f"never happens.*{said}"):
        check_faults([parse_fault(text)], 8_000_000_000, 200_000_000, ready_made)
    check_faults([parse_fault("stall@0.1:500ms"), parse_fault("raise@7")], 8_000_000_000, 200_000_000, ready_made)


def test_a_day_at_the_highest_rate_has_times_that_rise() -> None:
    """Frames times a thousand million do not fit 64 bits there."""
    profile = dataclasses.replace(BASE, rate_hz=192_000, block_frames=(4_000_000, 4_000_000), jitter_us=0.0)
    callbacks = plan_of(profile, 86_400.0)
    assert callbacks[-1].time_ns >= 86_400 * 1_000_000_000
    for c in callbacks:
        assert c.time_ns >= (c.first_frame + c.frames) * 1_000_000_000 // c.rate_hz
