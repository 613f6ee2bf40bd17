"""A file decoded as it is heard gives the samples of the whole, at any rate, from any place, over and over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.common.errors import AudioError
from streaming.files.wav import read_wav
from streaming.simulator import scenario
from streaming.simulator.device import file_source
from streaming.simulator.device.callbacks import ClipSource
from streaming.simulator.device.file_source import FileSource
from streaming.simulator.scenario import file_sound

FRAMES, RATE = 100_001, 44_100


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    file = tmp_path / "stereo.flac"
    noise = 0.1 * np.random.default_rng(4).standard_normal((FRAMES, 2))
    soundfile.write(file, noise, RATE, subtype="PCM_16")
    return file


@pytest.mark.parametrize("seconds", [None, 1.0, 5.5])
@pytest.mark.parametrize("rate", [RATE, 48_000, 8_000])
def test_it_reads_what_a_clip_of_the_whole_reads(
    stereo: Path, seconds: float | None, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_source, "_KEPT", 5_000)
    heard = FRAMES if seconds is None else min(FRAMES, round(seconds * RATE))
    clip = ClipSource(read_wav(stereo).mono()[:heard], RATE, seconds)
    source = FileSource(stereo, heard, RATE, seconds)
    total = clip.frames(rate)
    assert source.frames(rate) == total
    random = np.random.default_rng(2)
    places = [
        (0, 1),
        (0, 9_000),
        (total - 1, 1),
        (3, 20_000),
        (0, total),
        *random.integers(1, 30_000, (40, 2)).tolist(),
    ]
    for first, count in places:
        assert np.array_equal(source.read(rate, first, count), clip.read(rate, first, count)), (first, count)


def test_a_long_file_is_the_same_sound_as_a_short_one(stereo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (None, 1.5, 7.0):
        whole = file_sound(stereo, seconds)
        assert isinstance(whole.source, ClipSource)
        with monkeypatch.context() as patched:
            patched.setattr(scenario, "IN_MEMORY_FRAMES", 1_000)
            decoded = file_sound(stereo, seconds)
        assert isinstance(decoded.source, FileSource)
        assert decoded.audio == whole.audio
        count = whole.source.frames(48_000)
        assert decoded.source.frames(48_000) == count
        assert np.array_equal(decoded.source.read(48_000, 0, count), whole.source.read(48_000, 0, count))


def test_a_file_that_became_shorter_is_named(stereo: Path) -> None:
    source = FileSource(stereo, FRAMES, RATE)
    soundfile.write(stereo, np.zeros((50, 2)), RATE, subtype="PCM_16")
    with pytest.raises(AudioError, match="shorter than when the run began"):
        source.read(RATE, 0, 51)
