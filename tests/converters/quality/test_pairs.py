"""Pairs are the same for the same seed, as loud and as noisy as they say; the user's own are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.quality import pairs
from converters.quality.pairs import Pair, made_pairs, read_pairs
from models.common.errors import AudioError, UsageError
from streaming.files.wav import write_wav


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the packages: tones for clips, noise for the street."""
    generator = np.random.default_rng(5)
    tones = [np.sin(np.arange(20000) * step).astype(np.float32) for step in (0.05, 0.11, 0.23)]
    monkeypatch.setattr(pairs, "_clips", lambda: tones)
    monkeypatch.setattr(pairs, "street", lambda _rate: generator.standard_normal(16000 * 20).astype(np.float32))


def _snr_db(pair: Pair) -> float:
    noise = pair.noisy.astype(np.float64) - pair.clean
    return float(10 * np.log10(np.sum(pair.clean.astype(np.float64) ** 2) / np.sum(noise**2)))


@pytest.mark.usefixtures("clips")
def test_a_pair_has_the_noise_that_its_name_says() -> None:
    made = made_pairs(16000, 6)
    assert [p.name.split()[0] for p in made] == [str(seed) for seed in range(1301, 1307)]
    assert {p.name.split()[1] for p in made} == {"street", "babble", "pink"}
    for pair in made:
        assert pair.clean.shape == pair.noisy.shape == (64000,)
        assert np.abs(pair.noisy).max() <= 0.99
        assert _snr_db(pair) == pytest.approx(float(pair.name.split()[2]), abs=0.1)
    assert len({pair.clean.tobytes() for pair in made}) == 6


@pytest.mark.usefixtures("clips")
def test_a_pair_does_not_depend_on_how_many_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "street", lambda _rate: np.ones(16000 * 20, np.float32))
    few, more = made_pairs(16000, 2), made_pairs(16000, 4)
    assert [p.noisy.tobytes() for p in few] == [p.noisy.tobytes() for p in more[:2]]
    with pytest.raises(UsageError, match="1 to 120, got 121"):
        made_pairs(16000, 121)


def _folder(place: Path, clean: np.ndarray, noisy: np.ndarray) -> Path:
    for name, samples in (("clean", clean), ("noisy", noisy)):
        (place / name).mkdir(parents=True)
        write_wav(place / name / "p1.wav", samples[None].astype(np.float32), 8000)
    return place


def test_the_users_pairs_are_read_at_the_nets_rate(tmp_path: Path) -> None:
    tone = 0.1 * np.sin(np.arange(8000) * 0.3)
    (pair,) = read_pairs(_folder(tmp_path, tone, 2 * tone), 16000)
    assert (pair.name, pair.clean.size) == ("p1", 16000)
    assert np.std(pair.noisy) == pytest.approx(2 * np.std(pair.clean), rel=1e-3)


def test_folders_that_hold_nothing_to_judge_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found none"):
        read_pairs(tmp_path / "none", 16000)
    tone = 0.1 * np.sin(np.arange(8000) * 0.3)
    with pytest.raises(AudioError, match="is silent"):
        read_pairs(_folder(tmp_path / "silent", np.zeros(8000), tone), 16000)
    with pytest.raises(AudioError, match="expected 8000 samples"):
        read_pairs(_folder(tmp_path / "other", tone, tone[:-10]), 8000)
    (tmp_path / "other" / "clean" / "p1.wav").unlink()
    with pytest.raises(UsageError, match="it is missing"):
        read_pairs(tmp_path / "other", 8000)
