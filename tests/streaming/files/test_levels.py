"""The look at a level: each thing that makes a net deaf is said, and ordinary sound is nothing unusual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.common.errors import AudioError
from streaming.files.levels import InputLevel
from streaming.files.wav import read_wav

RATE = 16000
RANDOM = np.random.default_rng(3)
NOISE = (0.1 * RANDOM.standard_normal(2 * RATE)).astype(np.float32)
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)


def level(tmp_path: Path, *channels: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> InputLevel:
    file = tmp_path / "a.wav"
    soundfile.write(file, np.stack(channels, 1), rate, subtype=subtype)
    found = read_wav(file).level
    assert found is not None
    assert "\n" not in found.line()
    return found


def test_ordinary_sound_is_nothing_unusual(tmp_path: Path) -> None:
    found = level(tmp_path, NOISE, 0.7 * NOISE)
    assert found.notes == ()
    assert found.peak_dbfs == pytest.approx(20 * np.log10(np.abs(NOISE).max()), abs=0.01)
    assert found.rms_dbfs == pytest.approx(20 * np.log10(np.sqrt(np.mean(NOISE**2))), abs=0.01)
    assert "nothing unusual" in found.line()
    assert level(tmp_path, NOISE, RANDOM.permutation(NOISE)).notes == ()  # unlike channels lose 3 dB only


CASES = {
    "silence": ((0.0 * NOISE,), "silence: every sample is 0"),
    "nearly silent": ((1e-4 * NOISE,), "nearly silent"),
    "clipped": ((np.clip(20 * NOISE, -1, 1),), "samples clipped"),
    "DC": ((NOISE + np.float32(0.1),), "DC of +10"),
    "anti-phase": ((NOISE, -NOISE), "the channels cancel"),
    "nearly anti-phase": ((NOISE, -0.97 * NOISE), "the channels cancel"),
    "narrow band": ((TONE,), "nothing above 4 kHz"),
    "too loud": ((50 * NOISE,), "far beyond full scale"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_makes_a_net_deaf_is_said(tmp_path: Path, case: str) -> None:
    channels, words = CASES[case]
    found = level(tmp_path, *channels)
    assert any(words in note for note in found.notes), found.notes
    assert words in found.line()


def test_a_clipped_recording_of_whole_numbers_is_counted(tmp_path: Path) -> None:
    assert level(tmp_path, np.clip(20 * NOISE, -1, 1), subtype="PCM_16").clipped_samples > 1000
    assert level(tmp_path, NOISE[:7000], rate=8000).notes == ()  # there is no band above 4 kHz to be empty


@pytest.mark.parametrize(("scale", "divisor"), [(2**15, "32768"), (2**23, "8.38861e+06"), (2**31, "2.14748e+09")])
def test_whole_numbers_in_floats_are_refused_with_the_cure(tmp_path: Path, scale: int, divisor: str) -> None:
    for samples in (NOISE * scale, np.rint(NOISE * scale)):
        with pytest.raises(AudioError) as caught:
            level(tmp_path, samples.astype(np.float32))
        assert f"not scaled to 1.0; expected floats of full scale 1.0, divide by {divisor}" in str(caught.value)


def test_quiet_whole_numbers_are_refused_too(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="divide by 32768"):
        level(tmp_path, np.rint(NOISE * 60).astype(np.float32))
