"""Two bundles over one file: each does what it does alone, a gate spares calls, what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.common.errors import UsageError
from models.weights.assets import pull_asset
from streaming.files.stream_file import run
from streaming.files.wav import read_wav, write_wav
from streaming.runs.together import run_together


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Six seconds of a street, a bicycle bell in them."""
    clip = read_wav(pull_asset("street-wav"))
    file = tmp_path / "street.wav"
    write_wav(file, clip.samples[:1, : 6 * clip.sample_rate_hz], clip.sample_rate_hz)
    return file


def test_beside_each_other_both_do_what_they_do_alone(exported: dict[str, Path], street: Path, tmp_path: Path) -> None:
    both = run_together(exported["yamnet"], exported["dtln"], street, output=tmp_path / "both.wav")
    heard = run(exported["yamnet"], street)
    assert both.stages[0].events == heard.events != ()
    assert both.stages[0].calls == heard.calls
    alone = run(exported["dtln"], street, output=tmp_path / "alone.wav")
    assert (both.stages[1].calls, both.stages[1].spared) == (alone.calls, 0)
    rate = read_wav(tmp_path / "both.wav").sample_rate_hz
    assert rate == 16_000
    assert read_wav(tmp_path / "both.wav").samples.shape[1] == round(both.duration_s * rate)


def test_at_the_models_rate_the_sound_is_the_same_to_the_bit(exported: dict[str, Path], tmp_path: Path) -> None:
    noise = np.random.default_rng(3).uniform(-0.2, 0.2, 16_000).astype(np.float32)
    write_wav(tmp_path / "noise.wav", noise, 16_000)
    run_together(exported["yamnet"], exported["dtln"], tmp_path / "noise.wav", output=tmp_path / "both.wav")
    run(exported["dtln"], tmp_path / "noise.wav", output=tmp_path / "alone.wav")
    assert np.array_equal(read_wav(tmp_path / "both.wav").samples, read_wav(tmp_path / "alone.wav").samples)


def test_what_hears_the_enhancer_hears_another_street(exported: dict[str, Path], street: Path) -> None:
    behind = run_together(exported["dtln"], exported["yamnet"], street, behind=True)
    assert behind.stages[0].events == ()
    assert behind.stages[1].calls == run(exported["yamnet"], street).calls
    assert behind.output is None


def test_a_gate_spares_calls_and_leaves_silence(exported: dict[str, Path], street: Path, tmp_path: Path) -> None:
    label = run(exported["yamnet"], street).events[0].label
    file = tmp_path / "gated.wav"
    gated = run_together(exported["yamnet"], exported["dtln"], street, gate=label, output=file)
    every = run_together(exported["yamnet"], exported["dtln"], street).stages[1].calls
    assert 0 < gated.stages[1].spared < every
    assert gated.stages[1].calls + gated.stages[1].spared == every
    assert not read_wav(file).samples[0, :4000].any()  # the first window of YAMNet is 0.975 s
    assert read_wav(file).samples.any()


def test_what_does_not_fit_is_named(exported: dict[str, Path], street: Path, tmp_path: Path) -> None:
    yamnet, dtln = exported["yamnet"], exported["dtln"]
    with pytest.raises(UsageError, match=r"nearest: .*Speech"):
        run_together(yamnet, dtln, street, gate="Spech")
    with pytest.raises(UsageError, match="no classifier"):
        run_together(dtln, yamnet, street, gate="Speech")
    with pytest.raises(UsageError, match="gives no sound"):
        run_together(yamnet, dtln, street, behind=True)
    for name in ("events.csv", "sound.mp3"):
        with pytest.raises(UsageError, match=r"NAME\.wav"):
            run_together(yamnet, dtln, street, output=tmp_path / name)
    assert not list(tmp_path.glob("events*"))
