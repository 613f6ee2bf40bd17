"""The playout ring against goldens made without numpy; conservation under random use; drift that is followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.common.errors import AudioError, UsageError
from runtimes.bundle import Bundle, Playout
from streaming.core.playout import PlayoutRing, prefill_at_device

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "fixtures" / "playout" / "golden.json").read_text())
Array = NDArray[np.float32]


def generator() -> Any:
    state = 3

    def block(count: int) -> Array:
        nonlocal state
        values = []
        for _ in range(count):
            state = (state * 1103515245 + 12345) % 2**31
            values.append(((state >> 7) - 2**23) / 2.0**23)
        return np.array(values, np.float64).astype(np.float32)

    return block


def fnv1a(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def conserves(ring: PlayoutRing, offered: int, asked: int) -> None:
    c = ring.counts
    assert c.offered == offered == c.written + c.dropped
    assert c.written == c.consumed + c.held
    assert asked == c.played + c.silence + c.underrun + c.tail
    assert 0 <= c.held <= ring.capacity_samples


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: str(c["name"]))
def test_golden_to_the_bit(case: dict[str, Any]) -> None:
    ring = PlayoutRing(case["capacity"], case["prefill"], case["deadband"], case["drift_correction"])
    block, outputs, adjusts = generator(), [], []
    for kind, *size in case["operations"]:
        if kind == "w":
            ring.write(block(size[0]))
        elif kind == "r":
            outputs.append(ring.read(size[0]))
            adjusts.append(ring._adjust)
        else:
            ring.finish()
    out = np.concatenate(outputs)
    assert len(out) == case["outputs"] > 0
    np.testing.assert_array_equal(out[:: case["every"]], np.array(case["some"], np.float32))
    assert fnv1a(out.astype("<f4").tobytes()) == case["fnv1a"]
    assert adjusts[::50] == case["adjust_every_50_reads"]
    assert {k: getattr(ring.counts, k) for k in case["counts"]} == case["counts"]


def test_goldens_reach_correction_overflow_and_underrun() -> None:
    by_name = {c["name"]: c for c in GOLDEN["cases"]}
    assert max(by_name["writer fast"]["adjust_every_50_reads"]) > 0
    assert min(by_name["writer slow"]["adjust_every_50_reads"]) < 0
    assert by_name["no correction, overflow"]["counts"]["dropped"] > 0
    assert by_name["underrun and again"]["counts"]["underruns"] == 1


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(4, 60),
    prefill=st.integers(0, 4),
    deadband=st.integers(0, 5),
    operations=st.lists(st.tuples(st.sampled_from("wr"), st.integers(0, 40)), max_size=400),
    finish=st.booleans(),
)
def test_nothing_is_lost_unaccounted(
    capacity: int, prefill: int, deadband: int, operations: list[tuple[str, int]], finish: bool
) -> None:
    ring, offered, asked = PlayoutRing(capacity, prefill, deadband), 0, 0
    for kind, count in operations:
        if kind == "w":
            ring.write(np.ones(count, np.float32))
            offered += count
        else:
            assert len(ring.read(count)) == count
            asked += count
        conserves(ring, offered, asked)
    if finish:
        ring.finish()
        ring.read(2 * capacity + 2)
        assert ring.level == 0
        conserves(ring, offered, asked + 2 * capacity + 2)


@pytest.mark.parametrize("ppm", [-150, -40, 40, 150])
def test_drift_is_followed_without_underrun_or_growth(ppm: int) -> None:
    rate, block, seconds = 48_000, 480, 100
    ring = PlayoutRing(rate, 2 * block, 24)
    written, levels = 0, []
    ring.write(np.zeros(3 * block, np.float32))
    for k in range(rate * seconds // block):
        due = int((k + 1) * block * (1 + ppm * 1e-6))
        ring.write(np.zeros(due - written, np.float32))
        written = due
        levels.append(ring.level)
        ring.read(block)
    assert ring.counts.underruns == 0
    assert ring.counts.dropped == 0
    assert ring.adjust_ppm == pytest.approx(ppm, abs=5)
    assert abs(levels[-1] - levels[0]) <= 24 + abs(ppm) / 2 + block


def test_a_tone_keeps_its_shape_while_the_reader_runs_faster() -> None:
    rate, frequency = 48_000, 1_000.0
    ring = PlayoutRing(1 << 20, 0, 0)
    tone = np.sin(2 * np.pi * frequency * np.arange(1 << 18) / rate).astype(np.float32)
    ring.write(tone)
    ring._reads, ring._target = 10_000, 0  # far over target: the full 500 ppm
    ring.playing, ring._average = True, ring.level << 16
    out = ring.read(48_000)
    assert ring.adjust_ppm == pytest.approx(500, abs=0.1)
    wanted = np.sin(2 * np.pi * frequency * np.arange(48_000) * (1 + ring._adjust / 2**32) / rate)
    error_db = 10 * np.log10(np.mean((out - wanted) ** 2) / np.mean(wanted**2))
    assert error_db < -80


def test_bad_blocks_and_figures_are_refused() -> None:
    ring = PlayoutRing(16, 4, 0)
    with pytest.raises(AudioError, match="sample 1 is NaN"):
        ring.write(np.array([0, np.nan], np.float32))
    assert ring.level == 0
    with pytest.raises(UsageError, match="float32"):
        ring.write(np.zeros(3))  # type: ignore[arg-type]
    ring.finish()
    with pytest.raises(UsageError, match="finished"):
        ring.write(np.zeros(1, np.float32))
    for bad in ((3, 0, 0), (16, 17, 0), (16, 0, -1)):
        with pytest.raises(UsageError):
            PlayoutRing(*bad)


def test_prefill_at_the_device(exported: dict[str, Path]) -> None:
    manifest = Bundle.open(exported["dtln"]).manifest
    assert prefill_at_device(manifest, 48_000, 192) == 128 * 3 + 192
    asked = manifest.model_copy(update={"playout": Playout(prefill_samples=100)})
    assert prefill_at_device(asked, 44_100, 192) == 276
