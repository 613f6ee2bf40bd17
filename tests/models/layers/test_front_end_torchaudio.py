"""models.layers.front_end against torchaudio's own results (tests/fixtures/front_end/make.py), in both precisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.layers import constants, dft, front_end
from models.layers.front_end import Features
from models.layers.front_end_spec import FrontEndSpec

RATE = 16000
GOLDEN = np.load(Path(__file__).resolve().parents[2] / "fixtures" / "front_end" / "torchaudio.npz")
FBANK: dict[str, Any] = {
    "n_fft": 512,
    "window_samples": 400,
    "hop_samples": 160,
    "window": "povey",
    "periodic": False,
    "pad_window": "end",
    "remove_dc": True,
    "preemphasis": 0.97,
    "low_hz": 20.0,
    "mel_scale": "kaldi",
    "mel_norm": "none",
    "floor": 1.1920929e-07,
    "offset": 0.0,
}
MEL: dict[str, Any] = {"center": True, "pad_mode": "reflect", "mel_scale": "htk", "mel_norm": "none", "bands": 40}
CASES: dict[str, dict[str, Any]] = {
    "kaldi": {**FBANK, "bands": 40},
    "kaldi_int16": {**FBANK, "bands": 40, "window": "hamming", "scale": 32768.0},
    "kaldi_blackman": {
        **FBANK,
        "bands": 30,
        "window": "blackman",
        "window_samples": 512,
        "low_hz": 60.0,
        "high_hz": 7600.0,
    },
    "kaldi_plain": {**FBANK, "bands": 30, "window": "rectangular", "remove_dc": False, "preemphasis": 0.0},
    "mel": {**MEL, "n_fft": 400, "window_samples": 400, "hop_samples": 200},
    "mel_slaney": {
        **MEL,
        "n_fft": 512,
        "window_samples": 320,
        "hop_samples": 128,
        "power": 1,
        "mel_scale": "slaney",
        "mel_norm": "slaney",
    },
    "mel_not_centred": {**MEL, "n_fft": 512, "window_samples": 512, "hop_samples": 160, "center": False},
    "mfcc": {
        **MEL,
        "kind": "mfcc",
        "n_fft": 512,
        "window_samples": 512,
        "hop_samples": 160,
        "log": "db",
        "floor": 1e-10,
        "offset": 0.0,
        "top_db": 80.0,
        "coefficients": 13,
    },
    "spectrogram": {
        "kind": "stft_magnitude",
        "n_fft": 400,
        "window_samples": 400,
        "hop_samples": 200,
        "window": "blackman",
        "center": True,
        "pad_mode": "reflect",
        "power": 1,
        "log": "none",
    },
    "efficient_at": {
        "n_fft": 512,
        "window_samples": 400,
        "hop_samples": 160,
        "periodic": False,
        "center": True,
        "pad_mode": "reflect",
        "preemphasis": 0.97,
        "preemphasis_form": "valid",
        "mel_scale": "kaldi",
        "mel_norm": "none",
        "high_hz": 7000.0,
        "bands": 64,
        "offset": 1e-5,
        "mean": -4.5,
        "std": 5.0,
    },
}


def spec(name: str, **changes: Any) -> FrontEndSpec:
    return FrontEndSpec(**{"kind": "log_mel", "sample_rate_hz": RATE, **CASES[name], **changes})


def features(of: FrontEndSpec, dtype: torch.dtype) -> np.ndarray:
    audio = torch.from_numpy(GOLDEN["audio"])[None].to(dtype)
    with torch.no_grad():
        return Features(of, of.frames(audio.shape[1])).to(dtype)(audio)[0].numpy()


def test_every_golden_result_has_a_spec() -> None:
    assert set(CASES) | {"audio"} == set(GOLDEN.files)


@pytest.mark.parametrize("name", CASES)
def test_the_formulas_are_torchaudios(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With constants in float64."""
    for module in (constants, dft, front_end):
        monkeypatch.setattr(module, "constant_buffer", lambda value: torch.from_numpy(np.ascontiguousarray(value)))
    expected, came = GOLDEN[name], features(spec(name), torch.float64)
    assert came.shape == expected.shape
    assert expected.std() > 0.1
    assert np.abs(came - expected).max() <= 1e-9


@pytest.mark.parametrize("name", CASES)
def test_float32_keeps_them(name: str) -> None:
    expected = GOLDEN[name]
    error = np.abs(features(spec(name), torch.float32) - expected).max()
    assert error <= 1e-5 * np.abs(expected).max()
