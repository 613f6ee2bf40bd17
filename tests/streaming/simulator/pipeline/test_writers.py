"""streaming.simulator.pipeline.writers: what grows on disk or in memory is the same in any partition."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import OutputError
from streaming.files.wav import Subtype, read_wav
from streaming.simulator.pipeline import writers
from streaming.simulator.pipeline.writers import InputRecorder, Occupancy, RawWriter, WavWriter
from tests.streaming.simulator.pipeline.small import noise

CUTS = st.lists(st.integers(0, 5000), max_size=6).map(sorted)
LEVELS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 1000)), min_size=1, max_size=200)


@given(cuts=CUTS, subtype=st.sampled_from(["FLOAT", "PCM_16"]))
@settings(max_examples=15, deadline=None)
def test_a_wav_in_parts_is_the_wav(cuts: list[int], subtype: Subtype, tmp_path_factory: pytest.TempPathFactory) -> None:
    samples, file = noise(5000), tmp_path_factory.mktemp("wav") / "a.wav"
    writer = WavWriter(file, 8000, subtype)
    for part in np.split(samples, cuts):
        writer.add(part)
    writer.close()
    writer.close()
    clip = read_wav(file)
    assert (clip.sample_rate_hz, clip.samples.shape) == (8000, (1, 5000))
    limit = 0.0 if subtype == "FLOAT" else 0.5 / 32768
    assert np.abs(clip.samples[0] - samples).max() <= limit


def test_too_loud_samples_are_clipped_and_do_not_wrap(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "a.wav", 8000, "PCM_16")
    writer.add(np.array([2.0, -2.0, 1.0], np.float32))
    writer.close()
    assert read_wav(tmp_path / "a.wav").samples[0].tolist() == [32767 / 32768, -1.0, 32767 / 32768]


def test_a_wav_beyond_4_gib_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_LARGEST_BYTES", 1000)
    writer = WavWriter(tmp_path / "a.wav", 8000, "FLOAT")
    with pytest.raises(OutputError, match=r"a.wav: more than 4 GiB of audio do not fit a WAV"):
        writer.add(np.zeros(250, np.float32))


def test_raw_numbers_are_appended_as_they_lie(tmp_path: Path) -> None:
    writer = RawWriter(tmp_path / "a.f32")
    values = noise(12).reshape(3, 4)
    writer.add(values[:1])
    writer.add(values[1:].T.copy().T)  # another order in memory
    writer.close()
    assert np.array_equal(np.fromfile(tmp_path / "a.f32", "<f4").reshape(3, 4), values)
    assert writer.bytes == 48
    with pytest.raises(OutputError, match=r"b.f32: cannot be written"):
        RawWriter(tmp_path / "none" / "b.f32")


@given(cuts=CUTS, points=st.sampled_from([1, 7, 100, 5000]))
@settings(max_examples=20, deadline=None)
def test_the_envelope_is_the_lowest_and_highest_of_each_stretch(cuts: list[int], points: int) -> None:
    samples = noise(5000)
    recorder = InputRecorder(len(samples), None, points)
    for part in np.split(samples, cuts):
        recorder.add(part)
    recorder.close()
    stretches = [samples[k : k + recorder.step] for k in range(0, 5000, recorder.step)]
    assert [(p.low, p.high) for p in recorder.envelope] == [
        (round(float(s.min()), 6), round(float(s.max()), 6)) for s in stretches
    ]
    assert len(recorder.envelope) <= points


def test_what_was_heard_is_on_disk(tmp_path: Path) -> None:
    recorder = InputRecorder(40_000, WavWriter(tmp_path / "heard.wav", 8000, "FLOAT"))
    samples = noise(40_000)
    recorder.add(samples)
    recorder.close()
    assert np.array_equal(read_wav(tmp_path / "heard.wav").samples[0], samples)


@given(levels=LEVELS)
@settings(max_examples=50, deadline=None)
def test_levels_keep_their_extremes_and_their_order_however_long_a_run_goes_on(levels: list[tuple[int, int]]) -> None:
    occupancy, now, seen = Occupancy(100, points=5), 0, []
    for step, held in levels:
        now += step
        occupancy.add(now, held)
        seen.append((now, held))
    assert 1 <= len(occupancy.points) <= 10
    assert all(a[0] < b[0] for a, b in pairwise(occupancy.points))
    assert min(p[1] for p in occupancy.points) == min(held for _, held in seen)
    assert max(p[2] for p in occupancy.points) == max(held for _, held in seen)
    if occupancy.step_ns == 20:  # else stretches were joined by twos
        for time_ns, held in seen:
            inside = [p for p in occupancy.points if p[0] <= time_ns][-1]
            assert inside[1] <= held <= inside[2]


@given(steps=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=1, max_size=100))
@settings(max_examples=50, deadline=None)
def test_levels_that_rise_are_the_same_at_once(steps: list[tuple[int, int]]) -> None:
    times = np.cumsum([t for t, _ in steps]).tolist()
    risen = np.cumsum([h for _, h in steps]).tolist()
    one, many = Occupancy(1000, points=20), Occupancy(1000, points=20)
    for time_ns, held in zip(times, risen, strict=True):
        one.add(time_ns, 100 + held)
    many.rise(times, 100, risen)
    assert many.points == one.points
