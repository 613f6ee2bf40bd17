"""Every profile that ships is whole and sourced; what is wrong with a profile is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.common.errors import UsageError
from streaming.simulator.device.profile import ASSUMED, figure_limits, load_profile, parse_profile, profile_names

GOOD = """
schema = "hearpack-device/1"
title = "a phone"
[capture]
rate_hz = { value = 48000, source = "somewhere" }
block_frames = { value = [96, 192], source = "somewhere" }
[compute]
slowdown = { value = 2, source = "assumption: a guess" }
"""


def test_ten_and_more_profiles_of_every_kind() -> None:
    profiles = [load_profile(n) for n in profile_names()]
    assert len(profiles) >= 10
    assert {96, 192, 1024, 1922, 4800} <= {p.block_frames[1] for p in profiles}
    assert {8000, 24000, 44100, 48000} <= {p.rate_hz for p in profiles}
    assert any(p.block_frames == (2, 590) for p in profiles)
    assert any(p.rate_changes for p in profiles)
    assert any(p.throttle[-1][1] > 1.2 for p in profiles)
    assert any(p.output_clock_ppm for p in profiles)


@pytest.mark.parametrize("name", profile_names())
def test_every_figure_has_a_source(name: str) -> None:
    profile = load_profile(name)
    record = profile.record()
    assert set(record.figures) == set(figure_limits())
    assert set(profile.sources) >= {"rate_hz", "block_frames", "slowdown", "input_latency_ms", "output_latency_ms"}
    for key, figure in record.figures.items():
        assert len(figure.source) > 10, key


def test_defaults_are_shown_as_assumptions() -> None:
    record = parse_profile(GOOD, "x", "x").record()
    assert record.figures["jitter_us"].source == ASSUMED
    assert record.figures["rate_hz"].source == "somewhere"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("rate_hz", "rate_khz"), "unknown key 'rate_khz'; did you mean 'rate_hz'?"),
        (("[compute]", "[computer]"), "unknown key 'computer'; did you mean 'compute'?"),
        (("value = 48000,", "value = 480000,"), "from 4000 to 192000, got 480000"),
        (("value = 48000,", "value = 48000.5,"), "a whole number"),
        (("value = 48000,", "value = true,"), "a whole number"),
        (("value = 2,", "value = -1,"), "slowdown: expected a number from 0.05 to 200, got -1"),
        (("value = 2,", "value = nan,"), "slowdown"),
        (("[96, 192]", "[192, 96]"), "[fewest, most]"),
        (("[96, 192]", "[0, 96]"), "from 1 to"),
        ((', source = "somewhere" }\nblock', "}\nblock"), "rate_hz: expected { value = ..., source"),
        (('"assumption: a guess"', '""'), "source must say where"),
        (("hearpack-device/1", "hearpack-device/9"), "schema 'hearpack-device/1'"),
        (('title = "a phone"', ""), "title"),
        (("slowdown = ", "wakeup_us = "), "compute.slowdown is missing"),
        (("[capture]", "[capture"), "not TOML"),
    ],
)
def test_a_wrong_profile_is_one_clear_line(change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(UsageError) as caught:
        parse_profile(GOOD.replace(*change), "x", "x.toml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("x.toml")


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("[[0, 1], [0, 2]]", "must rise"),
        ("[[0, 50]]", "from 0.2 to 20"),
        ("[]", "[[seconds, factor], ...]"),
    ],
)
def test_wrong_curves(figure: str, message: str) -> None:
    text = GOOD + f'throttle = {{ value = {figure}, source = "assumption" }}\n'
    with pytest.raises(UsageError) as caught:
        parse_profile(text, "x", "x")
    assert message in str(caught.value)


def test_throttle_is_linear_between_its_points() -> None:
    text = GOOD + 'throttle = { value = [[10, 1], [20, 2]], source = "assumption" }\n'
    profile = parse_profile(text, "x", "x")
    assert [profile.throttle_at(t) for t in (0.0, 10.0, 15.0, 20.0, 99.0)] == [1.0, 1.0, 1.5, 2.0, 2.0]


def test_unknown_devices_offer_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean iphone-tap"):
        load_profile("iphone-tab")
    with pytest.raises(UsageError, match="no such profile file"):
        load_profile(tmp_path / "none.toml")
