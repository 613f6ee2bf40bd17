"""A phone's hour in virtual time in Swift: the app's worker and playout between clocks 500 ppm apart, and after stalls.

`kit-probe hour` plays each profile of the simulator: capture blocks and jitter, an engine that gives its block back,
and the device's blocks by a clock of their own. The sound says when it was captured, so the delays are those heard.
"""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest

from streaming.simulator.device.profile import load_profile, profile_names
from tests.ios.swift_kit import Kit

BUFFER_MS = 8.0  # DTLN's
HOUR_S = 3_600


def stalls_of(seconds: int, seed: int) -> list[tuple[float, float]]:
    """Begin and length of stalls of 50 ms to 5 s at random, the delay left 6 s and more to come back."""
    draw = random.Random(seed)
    stalls, at = [], 8.0
    while at < seconds - 14.0:
        length = math.exp(draw.uniform(math.log(0.05), math.log(5.0)))
        stalls.append((round(at, 6), round(length, 6)))
        at += length + 6.0 + draw.uniform(0.0, 8.0)
    return stalls


def phone(
    kit: Kit,
    bundle: Path,
    name: str,
    seconds: int,
    ppm: float,
    kind: str = "stall",
    stalls: tuple[tuple[float, float], ...] = (),
) -> dict[str, Any]:
    profile = load_profile(name)
    least, most = profile.block_frames
    answer = kit.probe(
        "hour",
        bundle,
        rate=profile.rate_hz,
        out_block=profile.output_block_frames,
        least_block=least,
        most_block=most,
        jitter_us=round(profile.jitter_us),
        ppm=round(ppm),
        kind=kind,
        stalls=",".join(f"{a}:{b}" for a, b in stalls),
        seconds=seconds,
    )
    assert answer["delivered"] == answer["taken"] + answer["lost"] + answer["held"]
    assert answer["offered"] == answer["written"] + answer["dropped"]
    assert answer["written"] == answer["consumed"] + answer["kept"]
    blocks = seconds * profile.output_rate_hz / profile.output_block_frames
    assert answer["heard"] > (0.5 if stalls else 0.98) * blocks
    return answer


def drifts(kit: Kit, bundle: Path, name: str, seconds: int, ppm: float) -> None:
    answer = phone(kit, bundle, name, seconds, ppm)
    assert (answer["underruns"], answer["trimmed"], answer["dropped"], answer["lost"]) == (0, 0, 0, 0)
    assert max(answer["worst_ms"]) <= 10.0
    assert answer["usual_ms"] > BUFFER_MS


def comes_back(kit: Kit, bundle: Path, name: str, seconds: int, kind: str) -> None:
    stalls = tuple(stalls_of(seconds, 1))
    assert max(length for _, length in stalls) > 1.0
    answer = phone(kit, bundle, name, seconds, load_profile(name).output_clock_ppm, kind, stalls)
    assert len(answer["worst_ms"]) == len(stalls)
    assert max(answer["worst_ms"]) <= BUFFER_MS
    assert 0 < answer["underruns"] <= 2 * len(stalls)
    assert answer["lost"] > 0


@pytest.mark.parametrize("ppm", [0, 500, -500])
@pytest.mark.parametrize("name", profile_names())
def test_two_clocks_apart(kit: Kit, exported: dict[str, Path], name: str, ppm: int) -> None:
    drifts(kit, exported["dtln"], name, 45, ppm)


@pytest.mark.parametrize(("name", "kind"), list(itertools.product(profile_names(), ["stall", "capture_stall"])))
def test_the_delay_comes_back(kit: Kit, exported: dict[str, Path], name: str, kind: str) -> None:
    comes_back(kit, exported["dtln"], name, 90, kind)


def test_an_hour_on_an_iphone(kit: Kit, exported: dict[str, Path]) -> None:
    """The rest of the profiles takes minutes: make test-slow."""
    drifts(kit, exported["dtln"], "iphone-sink", HOUR_S, 500)
    comes_back(kit, exported["dtln"], "iphone-sink", HOUR_S, "stall")


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [0, 500, -500])
@pytest.mark.parametrize("name", profile_names())
def test_two_clocks_apart_for_an_hour(kit: Kit, exported: dict[str, Path], name: str, ppm: int) -> None:
    drifts(kit, exported["dtln"], name, HOUR_S, ppm)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), list(itertools.product(profile_names(), ["stall", "capture_stall"])))
def test_the_delay_comes_back_for_an_hour(kit: Kit, exported: dict[str, Path], name: str, kind: str) -> None:
    comes_back(kit, exported["dtln"], name, HOUR_S, kind)
