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
from streaming.core.playout import ADJUST_LIMIT, PlayoutRing, prefill_at_device

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "fixtures" / "playout" / "golden.json").read_text())
Array = NDArray[np.float32]
MS = 1_000_000


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
    sizes = (case[name] for name in ("capacity", "prefill", "deadband", "tolerance", "rate_hz", "drift_correction"))
    ring = PlayoutRing(*sizes)
    block, outputs, adjusts = generator(), [], []
    for kind, *size in case["operations"]:
        if kind == "w":
            ring.write(block(size[0]), size[1])
        elif kind == "r":
            outputs.append(ring.read(*size))
            adjusts.append(ring._control.adjust)
        else:
            ring.finish()
    out = np.concatenate(outputs)
    assert len(out) == case["outputs"] > 0
    np.testing.assert_array_equal(out[:: case["every"]], np.array(case["some"], np.float32))
    assert fnv1a(out.astype("<f4").tobytes()) == case["fnv1a"]
    assert adjusts[::50] == case["adjust_every_50_reads"]
    assert {k: getattr(ring.counts, k) for k in case["counts"]} == case["counts"]


def test_goldens_reach_correction_overflow_underrun_and_recovery() -> None:
    by_name = {c["name"]: c for c in GOLDEN["cases"]}
    assert set(by_name["clocks agree"]["adjust_every_50_reads"]) == {0}
    assert max(by_name["writer fast"]["adjust_every_50_reads"]) > 0
    assert min(by_name["writer slow"]["adjust_every_50_reads"]) < 0
    assert max(by_name["beyond what is followed"]["adjust_every_50_reads"]) == ADJUST_LIMIT
    assert by_name["no correction, overflow"]["counts"]["dropped"] > 0
    assert by_name["underrun and again"]["counts"]["underruns"] == 1
    for name in ("a stall", "stalls and drift", "stalls too soon"):
        assert by_name[name]["counts"]["trimmed"] > 0


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(4, 60),
    prefill=st.integers(0, 4),
    deadband=st.integers(0, 5),
    tolerance=st.integers(0, 5),
    operations=st.lists(st.tuples(st.sampled_from("wr"), st.integers(0, 40), st.integers(0, 9)), max_size=400),
    finish=st.booleans(),
)
def test_nothing_is_lost_unaccounted(
    capacity: int,
    prefill: int,
    deadband: int,
    tolerance: int,
    operations: list[tuple[str, int, int]],
    finish: bool,
) -> None:
    ring, offered, asked, now = PlayoutRing(capacity, prefill, deadband, tolerance, 4_000), 0, 0, 0
    for kind, count, later_ms in operations:
        now += later_ms * MS
        if kind == "w":
            ring.write(np.ones(count, np.float32), now)
            offered += count
        else:
            assert len(ring.read(count, now)) == count
            asked += count
        conserves(ring, offered, asked)
    if finish:
        ring.finish()
        ring.read(2 * capacity + 2, now)
        assert ring.level == 0
        conserves(ring, offered, asked + 2 * capacity + 2)


class Loop:
    """A writer of hops in time and a reader with a clock of its own; `levels` are what the writer leaves, ms."""

    def __init__(self, prefill: int, hop: int = 384, block: int = 192, rate: int = 48_000) -> None:
        self.ring = PlayoutRing(2 * rate, prefill, hop // 4, hop, rate)
        self.hop, self.block, self.rate = hop, block, rate
        self.levels: list[tuple[float, float]] = []

    def run(self, seconds: float, ppm: float = 0.0, stalls: tuple[tuple[float, float], ...] = ()) -> None:
        writes = [(k + 1) * self.hop / self.rate for k in range(int(seconds * self.rate / self.hop))]
        for begin, end in stalls:
            writes = [end if begin <= w < end else w for w in writes]
        step, read = self.block / (self.rate * (1.0 + ppm * 1e-6)), 0
        silence = np.zeros(self.hop, np.float32)
        for time in writes:
            while read * step < time:
                self.ring.read(self.block, round(read * step * 1e9))
                read += 1
            self.ring.write(silence, round(time * 1e9))
            ahead = self.ring.level - (time - (read - 1) * step) * self.rate
            self.levels.append((time, 1000.0 * ahead / self.rate))

    def between(self, begin: float, end: float) -> list[float]:
        return [level for time, level in self.levels if begin <= time < end]


@pytest.mark.parametrize("ppm", [-500, -40, 40, 500])
@pytest.mark.parametrize(("hop", "block"), [(384, 192), (384, 480), (768, 256), (128, 1922)])
def test_drift_is_followed_without_underrun_or_growth(ppm: int, hop: int, block: int) -> None:
    loop = Loop(hop + block + 48, hop, block)
    loop.run(60.0, ppm)
    usual = float(np.median(loop.between(0.5, 1.5)))
    assert (loop.ring.counts.underruns, loop.ring.counts.dropped, loop.ring.counts.trimmed) == (0, 0, 0)
    assert loop.ring.adjust_ppm == pytest.approx(-ppm, abs=150)
    assert max(abs(level - usual) for level in loop.between(1.5, 60.0)) <= 10.0


@pytest.mark.parametrize("stall_s", [0.05, 0.17, 0.7, 1.8])
def test_the_level_is_what_it_was_five_seconds_after_a_stall(stall_s: float) -> None:
    loop = Loop(600)
    loop.run(30.0, 15.0, ((10.0, 10.0 + stall_s),))
    usual = float(np.median(loop.between(5.0, 10.0)))
    back = loop.between(15.0 + stall_s, 30.0)
    assert loop.ring.counts.underruns == 1
    assert loop.ring.counts.trimmed > 0.5 * stall_s * 48_000 - 600
    assert max(abs(level - usual) for level in back) <= 8.0


def test_a_cut_is_a_cross_fade_of_a_block() -> None:
    ring = PlayoutRing(48_000, 100, 10, 100, 4_000)
    ring.write(np.arange(300, dtype=np.float32), 0)
    ring.read(40, 0)
    ring._control.cut = 80
    out = ring.read(40, 0)
    share = np.arange(1, 41) / 41.0
    np.testing.assert_allclose(out, 40.0 + np.arange(40) + 80.0 * share, rtol=1e-6)
    assert np.array_equal(ring.read(40, 0), np.arange(160, 200, dtype=np.float32))
    assert (ring.counts.trimmed, ring.counts.consumed, ring.counts.played) == (80, 200, 120)


def test_a_tone_keeps_its_shape_while_the_reader_runs_faster() -> None:
    rate, frequency = 48_000, 1_000.0
    ring = PlayoutRing(1 << 20, 0, 0, 1 << 20, rate)
    tone = np.sin(2 * np.pi * frequency * np.arange(1 << 18) / rate).astype(np.float32)
    ring.write(tone, 0)
    ring.read(0, 0)
    ring._control.adjust = ADJUST_LIMIT
    out = ring.read(48_000, 0)
    assert ring.adjust_ppm == pytest.approx(1000, abs=0.1)
    wanted = np.sin(2 * np.pi * frequency * np.arange(48_000) * (1 + ADJUST_LIMIT / 2**32) / rate)
    error_db = 10 * np.log10(np.mean((out - wanted) ** 2) / np.mean(wanted**2))
    assert error_db < -80


def test_bad_blocks_and_figures_are_refused() -> None:
    ring = PlayoutRing(16, 4, 0, 0, 8_000)
    with pytest.raises(AudioError, match="sample 1 is NaN"):
        ring.write(np.array([0, np.nan], np.float32), 0)
    assert ring.level == 0
    with pytest.raises(UsageError, match="float32"):
        ring.write(np.zeros(3), 0)  # type: ignore[arg-type]
    ring.finish()
    with pytest.raises(UsageError, match="finished"):
        ring.write(np.zeros(1, np.float32), 0)
    for bad in (
        (3, 0, 0, 0, 8_000),
        (16, 17, 0, 0, 8_000),
        (16, 0, -1, 0, 8_000),
        (16, 0, 0, -1, 8_000),
        (16, 0, 0, 0, 9),
    ):
        with pytest.raises(UsageError):
            PlayoutRing(*bad)


def test_prefill_at_the_device(exported: dict[str, Path]) -> None:
    manifest = Bundle.open(exported["dtln"]).manifest
    assert prefill_at_device(manifest, 48_000, 192) == 128 * 3 + 192
    asked = manifest.model_copy(update={"playout": Playout(prefill_samples=100)})
    assert prefill_at_device(asked, 44_100, 192) == 276
