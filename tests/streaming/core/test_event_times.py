"""From an event's samples to time: worked out by hand for windows of 1.0 s every 0.5 s at 1000 Hz."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streaming.core.event_times import event_seconds, event_span


def seconds(onset: int, offset: int, lag: int = 0, duration: float = 60.0) -> tuple[float, float]:
    return event_seconds(onset, offset, 500, 1000, rate_hz=1000, lag_samples=lag, duration_s=duration)


def test_an_event_of_one_window_lasts_a_hop() -> None:
    assert seconds(1000, 1000) == (1.0, 1.5)


def test_an_event_ends_where_the_hop_of_its_last_window_ends() -> None:
    assert seconds(1000, 3000) == (1.0, 3.5)


def test_what_is_on_in_the_first_window_begins_at_the_first_sample() -> None:
    assert seconds(500, 500) == (0.0, 1.0)
    assert seconds(501, 1001) == (0.501, 1.501)
    assert event_span(500, 500, 500, None) == (500, 1000)
    assert event_span(-200, 100, 500, None) == (0, 600)  # a hop longer than the window


def test_nothing_lies_outside_the_recording() -> None:
    assert seconds(500, 500, duration=62e-6) == (0.0, 62e-6)
    assert seconds(59_800, 60_100) == (59.8, 60.0)
    assert seconds(600, 1000, lag=24) == (0.576, 1.476)
    assert seconds(510, 1000, lag=600) == (0.0, 0.9)


@example(onset=16_365, length=0, lag=0, duration=17.0)
@given(
    onset=st.integers(-500, 100_000),
    length=st.integers(0, 50_000),
    lag=st.integers(0, 100),
    duration=st.floats(0.001, 200.0),
)
def test_begin_and_end_are_in_order_and_inside(onset: int, length: int, lag: int, duration: float) -> None:
    begin, end = seconds(onset, onset + length, lag, duration)
    assert 0.0 <= begin <= end <= duration
    if onset + length + 500 - lag < duration * 1000:
        whole = abs(begin * 1000 - (onset - lag)) < 1e-6  # it begins where it was heard, not at the recording's begin
        assert end - begin == pytest.approx((length + 500) / 1000 if whole else end, abs=1.1)
