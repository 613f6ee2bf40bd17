"""The resampler: goldens from plain integer loops, any partition bit-equal, and its figures as a filter."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import AudioError, UsageError
from streaming.core import resample as module
from streaming.core.resample import Resampler, resample

GOLDEN = json.loads((Path(__file__).parents[2] / "fixtures" / "resampler" / "golden.json").read_text(encoding="utf-8"))
# One matrix, several matrices, and row by row: every way there is of working the sums out.
RATES = [(48000, 16000), (16000, 48000), (44100, 16000), (16000, 44100), (11025, 16000), (44101, 16000), (96000, 16000)]


def noise(n: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * scale).astype(np.float32)


def stream(resampler: Resampler, samples: np.ndarray, sizes: list[int]) -> np.ndarray:
    parts, at = [], 0
    for size in [*sizes, len(samples)]:
        parts.append(resampler.process(samples[at : at + size]))
        at = min(at + size, len(samples))
    return np.concatenate([*parts, resampler.flush()])


def snr_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    error = candidate.astype(np.float64) - reference
    return float(10 * np.log10(np.sum(np.square(reference, dtype=np.float64)) / max(np.sum(error**2), 1e-30)))


def test_goldens_are_there() -> None:
    assert len(GOLDEN["cases"]) >= 7
    assert len(GOLDEN["input"]) == 400


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['in_rate_hz']}-{c['out_rate_hz']}")
def test_golden(case: dict[str, Any]) -> None:
    resampler = Resampler(case["in_rate_hz"], case["out_rate_hz"])
    assert (resampler.up, resampler.down) == (case["up"], case["down"])
    assert resampler.delay_out_samples == case["delay_out_samples"]
    assert resampler.delay == Fraction(case["delay_out_samples"] * case["down"], case["up"])
    assert resampler.taps_per_output == case["taps_per_output"]
    for phase, taps in case["taps_by_phase"].items():
        ours = module._taps(
            case["up"], case["down"], case["delay_out_samples"], np.array([int(phase)]), case["taps_per_output"]
        )
        # libm's sine may differ in its last bit, which the rounding to 2^-24 hides but for one in millions.
        assert np.max(np.abs(ours[0] - np.array(taps))) <= 1
        assert np.mean(ours[0] != np.array(taps)) <= 0.01
    samples = (np.array(GOLDEN["input"], np.float64) / 2.0**25).astype(np.float32)
    ours = stream(resampler, samples, [])
    expected = np.array(case["outputs"])
    assert ours.shape == expected.shape
    assert snr_db(expected, ours) >= 130.0


@settings(max_examples=30, deadline=None)
@given(
    rates=st.sampled_from(RATES),
    sizes=st.lists(st.integers(0, 700), max_size=12),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-6, 0.1, 3.0]),
)
def test_any_partition_is_bit_equal(rates: tuple[int, int], sizes: list[int], seed: int, scale: float) -> None:
    samples = noise(1500, seed, scale)
    resampler = Resampler(*rates)
    whole = stream(resampler, samples, [])
    resampler.reset()
    assert stream(resampler, samples, sizes).tobytes() == whole.tobytes()
    assert resampler.out_samples == len(whole)


@pytest.mark.parametrize("rates", RATES)
def test_single_samples_and_long_blocks(rates: tuple[int, int]) -> None:
    samples = noise(9500, 3)
    whole = stream(Resampler(*rates), samples, [])
    assert stream(Resampler(*rates), samples, [1] * 300 + [8192]).tobytes() == whole.tobytes()


@pytest.mark.parametrize("rates", [*RATES, (8000, 8000)])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 480, 1001])
def test_output_count(rates: tuple[int, int], n: int) -> None:
    resampler = Resampler(*rates)
    expected = -(-n * resampler.up // resampler.down)
    assert len(resampler.process(noise(n))) == expected == resampler.out_samples
    assert len(resampler.flush()) == (resampler.delay_out_samples if n else 0)
    assert len(resample(noise(n), *rates)) == expected


def test_equal_rates_pass_through_untouched() -> None:
    resampler = Resampler(44100, 44100)
    samples = noise(500, scale=0.9)
    out = resampler.process(samples)
    assert out.tobytes() == samples.tobytes()
    assert out is not samples
    assert (resampler.delay, resampler.delay_out_samples, len(resampler.flush())) == (0, 0, 0)


@pytest.mark.parametrize("rates", [*RATES, (48000, 44100), (24000, 16000), (8000, 16000)])
@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.6, 0.85])
def test_sine_keeps_gain_and_phase(rates: tuple[int, int], fraction: float) -> None:
    """Up to 0.85 of the lower Nyquist frequency: the same sine, late by exactly `delay`."""
    in_rate, out_rate = rates
    hz = fraction * min(rates) / 2
    resampler = Resampler(in_rate, out_rate)
    out = resampler.process((0.5 * np.sin(2 * np.pi * hz * np.arange(in_rate // 8) / in_rate)).astype(np.float32))
    time_s = np.arange(len(out)) / out_rate - float(resampler.delay) / in_rate
    settled = slice(4 * resampler.delay_out_samples, None)
    basis = np.exp(-2j * np.pi * hz * time_s[settled]) * np.hanning(len(out[settled]))
    tone = 2j * np.sum(out[settled] * basis) / np.sum(np.hanning(len(out[settled])))
    assert abs(20 * math.log10(abs(tone) / 0.5)) < 0.1
    assert abs(np.angle(tone)) < 1e-4


def response_db(in_rate: int, out_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequency in units of the lower Nyquist, and the gain of all phases' taps taken together."""
    plan = module._plan(Resampler(in_rate, out_rate).up, Resampler(in_rate, out_rate).down)
    outputs = np.arange(plan.up, dtype=np.int64)
    taps = plan._phase_taps(outputs) / 2.0**24
    prototype = np.zeros(plan.up * plan.taps_per_output)
    for row, phase in zip(taps, (outputs * plan.down) % plan.up, strict=True):
        prototype[phase :: plan.up] = row[::-1]  # tap of age i lies at virtual time i L + p
    size = 1 << 20
    gain = np.abs(np.fft.rfft(prototype, size)) / plan.up
    return np.arange(len(gain)) / size * in_rate * plan.up / (min(in_rate, out_rate) / 2), 20 * np.log10(gain + 1e-12)


@pytest.mark.parametrize(
    "rates", [(48000, 16000), (16000, 48000), (44100, 16000), (24000, 16000), (8000, 16000), (96000, 16000)]
)
def test_filter_figures(rates: tuple[int, int]) -> None:
    """The figures that the module states."""
    frequency, gain = response_db(*rates)
    assert np.max(np.abs(gain[frequency <= 0.858])) <= 0.1
    assert np.max(gain[frequency >= 1.05]) <= -80.0


@pytest.mark.parametrize("in_rate", [48000, 44100, 96000])
def test_aliases_are_rejected(in_rate: int) -> None:
    """Tones above the new Nyquist frequency (8 kHz) and its transition band vanish by 80 dB."""
    resampler = Resampler(in_rate, 16000)
    for hz in (8_400, 9_000, 12_345, 0.49 * in_rate):
        resampler.reset()
        out = resampler.process(np.sin(2 * np.pi * hz * np.arange(in_rate // 10) / in_rate).astype(np.float32))
        settled = out[4 * resampler.delay_out_samples :]
        assert 20 * math.log10(float(np.sqrt(np.mean(settled.astype(np.float64) ** 2))) / math.sqrt(0.5)) <= -79.5


@pytest.mark.parametrize("rates", [(48000, 16000), (44100, 16000), (16000, 48000), (8000, 16000), (44101, 16000)])
def test_agrees_with_soxr(rates: tuple[int, int]) -> None:
    """Band-limited noise against soxr's best quality, aligned by our stated delay alone."""
    soxr = pytest.importorskip("soxr")
    in_rate = rates[0]
    spectrum = np.fft.rfft(noise(in_rate // 2, 5).astype(np.float64))
    spectrum[np.fft.rfftfreq(in_rate // 2, 1 / in_rate) > 0.8 * min(rates) / 2] = 0
    samples = np.fft.irfft(spectrum, in_rate // 2).astype(np.float32)
    reference = soxr.resample(samples.astype(np.float64), *rates, quality="VHQ")
    ours = resample(samples, *rates)
    n = min(len(ours), len(reference))
    middle = slice(n // 10, n - n // 10)
    assert abs(len(ours) - len(reference)) <= 1
    assert snr_db(reference[middle], ours[middle]) >= 75.0


@pytest.mark.parametrize("rates", [(48000, 16000), (44100, 16000), (16000, 44100), (191999, 16000)])
def test_sums_are_exact(rates: tuple[int, int]) -> None:
    """What makes them so: no partial sum, at full saturation, reaches 2^53 units."""
    resampler = Resampler(*rates)
    plan = module._plan(resampler.up, resampler.down)
    taps = plan._phase_taps(np.linspace(0, resampler.up - 1, min(resampler.up, 64)).astype(np.int64))
    assert np.max(np.sum(np.abs(taps), axis=1)) * module.SATURATION * module.INPUT_SCALE <= 2.0**53
    assert np.array_equal(taps.astype(np.float32).astype(np.float64), taps)
    assert np.max(np.abs(np.sum(taps, axis=1) / 2.0**24 - 1.0)) < 5e-5  # a constant stays constant


def test_loud_input_saturates_alike_in_every_partition() -> None:
    samples = noise(1000, 7, 50.0)
    whole = stream(Resampler(48000, 16000), samples, [])
    assert np.isfinite(whole).all()
    assert stream(Resampler(48000, 16000), samples, [1, 5, 77]).tobytes() == whole.tobytes()
    assert whole.tobytes() == stream(Resampler(48000, 16000), np.clip(samples, -4, 4), []).tobytes()


def test_reset_forgets_everything() -> None:
    resampler = Resampler(44100, 16000)
    fresh = stream(resampler, noise(700, 1), [])
    resampler.reset()
    resampler.process(noise(333, 2))
    resampler.reset()
    assert stream(resampler, noise(700, 1), []).tobytes() == fresh.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_refused_with_its_position(value: float) -> None:
    resampler = Resampler(48000, 16000)
    twin = Resampler(48000, 16000)
    resampler.process(noise(100))
    twin.process(noise(100))
    bad = noise(50)
    bad[7] = value
    with pytest.raises(AudioError, match=r"sample 107 \(0\.002 s"):
        resampler.process(bad)
    assert resampler.process(noise(90, 4)).tobytes() == twin.process(noise(90, 4)).tobytes()  # nothing was consumed


def test_bad_arguments() -> None:
    for rates in ((0, 16000), (16000, 3999), (192_001, 16000), (44100.5, 16000)):
        with pytest.raises(UsageError, match="4000 to 192000 Hz"):
            Resampler(*rates)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="float32"):
        Resampler(48000, 16000).process(np.zeros(4))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="float32"):
        Resampler(48000, 16000).process(np.zeros((1, 4), np.float32))
    resampler = Resampler(48000, 16000)
    resampler.flush()
    with pytest.raises(UsageError, match="reset"):
        resampler.process(noise(4))


def test_hostile_ratio_has_bounded_memory() -> None:
    plan = module._plan(Resampler(191_999, 192_000).up, Resampler(191_999, 192_000).down)
    assert not plan.dense
    assert plan.rows.nbytes <= 40e6
    resampler = Resampler(191_999, 192_000)
    assert len(resampler.process(noise(100))) == 101
    assert int(plan.known.sum()) == 101


def test_channels_are_resampled_alike() -> None:
    both = np.stack([noise(800, 1), noise(800, 2)])
    out = resample(both, 48000, 16000)
    assert out.shape == (2, 267)
    assert out[1].tobytes() == resample(both[1], 48000, 16000).tobytes()
