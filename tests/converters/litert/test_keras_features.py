"""converters.litert.keras_features against the front end in torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.layers.front_end import Features
from models.layers.front_end_spec import FrontEndSpec

pytest.importorskip("tensorflow", reason="tensorflow is not installed: pip install 'hearpack[keras]'")

ROOT = Path(__file__).resolve().parents[3]
SPECS = {
    "plain": FrontEndSpec("log_mel", 16000, 512, 400, 160),
    "reflected": FrontEndSpec("stft_magnitude", 16000, 400, 320, 200, center=True, pad_mode="reflect", log="none"),
    "kaldi": FrontEndSpec(
        "log_mel",
        16000,
        512,
        400,
        160,
        window="povey",
        periodic=False,
        pad_window="end",
        remove_dc=True,
        preemphasis=0.97,
        mel_scale="kaldi",
        mel_norm="none",
        scale=32768.0,
    ),
    "valid": FrontEndSpec("mfcc", 16000, 256, 256, 128, center=True, preemphasis=0.9, preemphasis_form="valid"),
    "audio": FrontEndSpec(
        "log_mel", 16000, 256, 200, 128, preemphasis=0.9, preemphasis_form="audio", mean=1.0, std=2.0
    ),
    "one matrix": FrontEndSpec("stft_magnitude", 16000, 622, 622, 311, log="none", layout="bands_frames"),
}


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """In a process of its own: hearpack never has TensorFlow and torch in one."""
    folder = tmp_path_factory.mktemp("features")
    np.save(folder / "audio.npy", audio())
    lines = [
        "import numpy as np, sys, tensorflow as tf",
        "from converters.litert.keras_features import features",
        "from models.layers.front_end_spec import FrontEndSpec",
        f"specs = {SPECS!r}",
        "audio = np.load('audio.npy')",
        "of = {name: tf.function(features(tf, spec, audio.shape[1])) for name, spec in specs.items()}",
        "np.savez('out.npz', **{name: call(tf.constant(audio)).numpy() for name, call in of.items()})",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "out.npz") as results:
        return dict(results)


def audio() -> np.ndarray:
    return (0.1 * np.random.default_rng(4).standard_normal((1, 4000))).astype(np.float32)


@pytest.mark.parametrize("name", SPECS)
def test_tensorflow_says_what_torch_says(name: str, came: dict[str, np.ndarray]) -> None:
    spec = SPECS[name]
    expected = Features(spec, spec.frames(4000))(torch.from_numpy(audio()))[0].numpy()
    assert came[name].shape == expected.shape
    assert expected.std() > 0.1
    assert np.abs(came[name] - expected).max() <= 2e-5 * np.abs(expected).max()
