"""models.front_end against librosa, on real speech; and its causal form hop by hop."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch

from converters.bundle.test_audio import speech
from models.common.errors import UsageError
from models.layers.front_end import CausalFeatures, Features, PowerSpectrum
from models.layers.front_end_spec import WINDOWS, FrontEndSpec

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa

RATE = 16000


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    samples = speech(RATE)[RATE : 2 * RATE].astype(np.float32)
    assert samples.std() > 0.01
    return samples


def spec(**changes: Any) -> FrontEndSpec:
    base = FrontEndSpec("log_mel", RATE, n_fft=512, window_samples=512, hop_samples=160)
    return dataclasses.replace(base, **changes)


def features(of: FrontEndSpec, samples: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return Features(of, of.frames(len(samples)))(torch.from_numpy(samples[None]))[0].numpy()


def spectrogram(of: FrontEndSpec, samples: np.ndarray) -> np.ndarray:
    """librosa's [bins, frames], to the power of the spec."""
    name = {"rectangular": "boxcar", "povey": "hann"}.get(of.window, of.window)
    window = scipy.signal.get_window(name, of.window_samples, fftbins=of.periodic)
    if of.window == "povey":
        window = window**0.85
    stft = librosa.stft(
        samples.astype(np.float64),
        n_fft=of.n_fft,
        hop_length=of.hop_samples,
        win_length=of.window_samples,
        window=window,
        center=of.center,
        pad_mode="reflect" if of.pad_mode == "reflect" else "constant",
    )
    return np.abs(stft) ** of.power


def mel(of: FrontEndSpec, samples: np.ndarray) -> np.ndarray:
    matrix = librosa.filters.mel(
        sr=of.sample_rate_hz,
        n_fft=of.n_fft,
        n_mels=of.bands,
        fmin=of.low_hz,
        fmax=of.high_hz,
        htk=of.mel_scale == "htk",
        norm=None if of.mel_norm == "none" else of.mel_norm,
        dtype=np.float64,
    )
    return matrix @ spectrogram(of, samples)


@pytest.mark.parametrize("window", ["hann", "hamming", "rectangular"])
@pytest.mark.parametrize(
    ("n_fft", "length", "hop", "center"),
    [
        (512, 512, 160, False),
        (512, 400, 160, False),
        (512, 400, 100, True),
        (1024, 640, 320, True),
        (320, 320, 320, False),
    ],
)
def test_stft_magnitude(audio: np.ndarray, window: str, n_fft: int, length: int, hop: int, center: bool) -> None:
    of = spec(
        kind="stft_magnitude",
        n_fft=n_fft,
        window_samples=length,
        hop_samples=hop,
        center=center,
        window=window,
        power=1,
    )
    expected = spectrogram(of, audio).T
    came = features(of, audio)
    assert came.shape == expected.shape
    assert expected.max() > 1.0
    assert np.abs(came - expected).max() <= 2e-6 * expected.max()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("pad_mode", ["zeros", "reflect"])
def test_windows_and_edges(audio: np.ndarray, window: str, periodic: bool, pad_mode: str) -> None:
    of = spec(
        kind="stft_magnitude",
        window_samples=400,
        window=window,
        periodic=periodic,
        center=True,
        pad_mode=pad_mode,
        power=1,
    )
    expected, came = spectrogram(of, audio).T, features(of, audio)
    assert came.shape == expected.shape
    assert np.abs(came - expected).max() <= 2e-6 * expected.max()


@pytest.mark.parametrize("points", [400, 512, 1024, 2048, 622, 6])
def test_the_power_of_some_bins(points: int) -> None:
    """Factored, or one matrix where that is smaller: for 2 x 311 points, and for few bins."""
    rng = np.random.default_rng(points)
    frames = rng.standard_normal((5, points))
    for bins in (slice(0, points // 2 + 1), slice(1, 2)):
        spectrum = PowerSpectrum(np.hanning(points), bins, 5)
        expected = np.abs(np.fft.rfft(frames * np.hanning(points)))[:, bins] ** 2
        came = spectrum(torch.from_numpy(frames.astype(np.float32))).numpy()
        assert came.shape == expected.shape
        assert np.abs(came - expected).max() <= 1e-5 * expected.max()
        kept = sum(t.numel() for t in spectrum.state_dict().values()) or 2 * points * (bins.stop - bins.start)
        assert kept <= 2 * points * (bins.stop - bins.start)
    whole = PowerSpectrum(np.hanning(points), slice(0, points // 2 + 1), 5)
    assert (whole.dft is None) == (points in (622, 6))


@pytest.mark.parametrize("form", ["frame", "audio", "valid"])
def test_preemphasis(audio: np.ndarray, form: str) -> None:
    of = spec(kind="stft_magnitude", window_samples=400, pad_window="end", preemphasis=0.9, preemphasis_form=form)
    sound = audio.astype(np.float64)
    whole = {"audio": np.append(sound[0], sound[1:] - 0.9 * sound[:-1]), "valid": sound[1:] - 0.9 * sound[:-1]}
    frames = np.lib.stride_tricks.sliding_window_view(whole.get(form, sound), 400)[::160]
    if form == "frame":
        frames = np.concatenate([frames[:, :1] * (1 - 0.9), frames[:, 1:] - 0.9 * frames[:, :-1]], 1)
    expected = np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", 400), 512)) ** 2
    came = features(of, audio)
    assert came.shape == expected.shape
    assert np.abs(came - expected).max() <= 5e-6 * expected.max()


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize("power", [1, 2])
def test_log_mel(audio: np.ndarray, scale: str, norm: str, power: int) -> None:
    of = spec(mel_scale=scale, mel_norm=norm, power=power, bands=40, low_hz=60.0, high_hz=7600.0, offset=1e-3)
    expected = np.log(mel(of, audio) + 1e-3).T
    assert expected.std() > 0.05
    assert np.abs(features(of, audio) - expected).max() <= 1e-4


def test_logarithms_and_their_floor(audio: np.ndarray) -> None:
    quiet = audio * np.float32(1e-3)
    power = mel(spec(), quiet).T
    assert power.min() < 1e-8
    for log, factor in (("natural", 1.0), ("log10", 1 / np.log(10)), ("db", 10 / np.log(10))):
        of = spec(log=log, floor=1e-8, offset=0.0, mean=3.0, std=2.0)
        expected = (np.log(np.maximum(power, 1e-8)) * factor - 3.0) / 2.0
        assert np.abs(features(of, quiet) - expected).max() <= 1e-3


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("top_db", [80.0, 30.0, None])
def test_mfcc_is_librosas(audio: np.ndarray, center: bool, top_db: float | None) -> None:
    of = spec(kind="mfcc", bands=128, coefficients=20, log="db", floor=1e-10, offset=0.0, center=center, top_db=top_db)
    decibels = librosa.power_to_db(mel(of, audio), amin=1e-10, top_db=top_db)
    expected = librosa.feature.mfcc(S=decibels, n_mfcc=20).T
    assert np.abs(expected).max() > 100.0
    assert np.abs(features(of, audio) - expected).max() <= 5e-3


def test_default_mfcc_call_of_librosa(audio: np.ndarray) -> None:
    """What a user has who wrote librosa.feature.mfcc(y=y, sr=16000, n_mfcc=13): its defaults, in our words."""
    of = spec(
        kind="mfcc",
        n_fft=2048,
        window_samples=2048,
        hop_samples=512,
        center=True,
        bands=128,
        coefficients=13,
        log="db",
        floor=1e-10,
        offset=0.0,
        top_db=80.0,
    )
    expected = librosa.feature.mfcc(y=audio, sr=RATE, n_mfcc=13).T
    assert np.abs(features(of, audio) - expected).max() <= 5e-3


def test_a_window_padded_at_its_end_is_tensorflows(audio: np.ndarray) -> None:
    """tf.signal.stft cuts frames of the window's length and pads them behind; so did YAMNet's authors."""
    of = spec(kind="stft_magnitude", window_samples=400, pad_window="end", power=1)
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), 400)[::160]
    expected = np.abs(np.fft.rfft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)), 512))
    came = features(of, audio)
    assert came.shape == expected.shape == (98, 257)
    assert np.abs(came - expected).max() <= 2e-6 * expected.max()


def test_layouts_are_permutations(audio: np.ndarray) -> None:
    plain = features(spec(layout="frames_bands"), audio)
    frames, bands = plain.shape
    shapes = {
        "bands_frames": (bands, frames),
        "channel_frames_bands": (1, frames, bands),
        "channel_bands_frames": (1, bands, frames),
        "frames_bands_channel": (frames, bands, 1),
        "bands_frames_channel": (bands, frames, 1),
    }
    for layout, shape in shapes.items():
        came = features(spec(layout=layout), audio)
        assert came.shape == shape
        turned = came.squeeze().T if layout.replace("channel_", "").startswith("bands") else came.squeeze()
        assert np.array_equal(turned, plain)


STREAMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "end": {"pad_window": "end"},
    "kaldi": {"pad_window": "end", "window": "povey", "remove_dc": True, "preemphasis": 0.97, "mel_scale": "kaldi"},
    "audio": {"preemphasis": 0.97, "preemphasis_form": "audio"},
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_by_calls_is_the_causal_form(audio: np.ndarray, name: str) -> None:
    of = spec(window_samples=400, **STREAMS[name])
    causal = CausalFeatures(of)
    samples = torch.from_numpy(audio[None, :3200])
    call = Features(causal.features.spec, 2)
    past = of.frame_samples - of.hop_samples
    padded = torch.nn.functional.pad(samples, (past, 0))
    with torch.no_grad():
        parts = [call(padded[:, at : at + past + 320]) for at in range(0, 3200, 320)]
        whole = causal(samples)
    assert whole.shape == (1, 20, 64)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


@pytest.mark.parametrize("name", STREAMS)
def test_causal_frames_do_not_change_when_more_audio_comes(audio: np.ndarray, name: str) -> None:
    of = spec(window_samples=400, hop_samples=160, **STREAMS[name])
    causal = CausalFeatures(of)
    samples = torch.from_numpy(audio[None, :3200])
    with torch.no_grad():
        whole, part = causal(samples)[0], causal(samples[:, :1600])[0]
    assert whole.shape == (20, 64)
    assert torch.allclose(whole[:10], part, atol=1e-5)


def test_a_window_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(UsageError, match="window of 300 samples is shorter than a frame of 512"):
        spec().frames(300)
