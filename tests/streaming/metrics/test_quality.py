"""Quality metrics against values known by arithmetic, and the packages' own scores on real speech."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import AudioError, UsageError
from streaming.metrics.quality import (
    DNSMOS_SAMPLES,
    Metric,
    log_spectral_distance_db,
    measure,
    mix_at_snr,
    si_sdr_db,
    stoi,
)

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
RATE = 16000
NAMES = ["si_sdr", "pesq_wb", "dnsmos_sig", "dnsmos_bak", "dnsmos_ovr"]


def _orthogonal(n: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Two zero-mean signals of unit power with no correlation: sine and cosine over whole periods."""
    phase = 2 * np.pi * 16 * np.arange(n) / n
    return np.sqrt(2) * np.sin(phase), np.sqrt(2) * np.cos(phase)


def _speech(name: str) -> np.ndarray:
    file = SHARED / "data" / "audio" / "vctk_demand" / name
    if not file.is_file():
        pytest.skip(f"{name} is in ../shared/data/audio, which is not here")
    import soundfile

    samples, rate = soundfile.read(file)
    assert rate == RATE
    return samples


def _by_name(metrics: list[Metric]) -> dict[str, Metric]:
    assert [m.name for m in metrics] == NAMES
    return {m.name: m for m in metrics}


@pytest.mark.parametrize("expected_db", [-20.0, 0.0, 7.5, 40.0, 120.0])
def test_si_sdr_of_orthogonal_noise_is_the_power_ratio(expected_db: float) -> None:
    s, n = _orthogonal()
    assert si_sdr_db(s, s + 10 ** (-expected_db / 20) * n) == pytest.approx(expected_db, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(1e-6, 1e6), sign=st.sampled_from([-1.0, 1.0]), offset=st.floats(-1.0, 1.0))
def test_si_sdr_does_not_see_scale_sign_or_offset(gain: float, sign: float, offset: float) -> None:
    s, n = _orthogonal()
    x = s + 0.1 * n
    assert si_sdr_db(s, sign * gain * (x + offset)) == pytest.approx(20.0, abs=1e-5)
    assert si_sdr_db(gain * s, x) == pytest.approx(20.0, abs=1e-5)


def test_si_sdr_sees_a_sample_of_lag() -> None:
    rng = np.random.default_rng(1)
    s = rng.standard_normal(RATE)
    assert si_sdr_db(s, np.roll(s, 1)) < 0.0


def test_si_sdr_extremes() -> None:
    s, n = _orthogonal()
    assert si_sdr_db(s, 0.37 * s) == math.inf
    assert si_sdr_db(s, np.zeros_like(s)) == -math.inf
    assert si_sdr_db(s, n) < -200.0


@pytest.mark.parametrize(
    ("reference", "signal", "message"),
    [
        (np.ones(8), np.arange(8.0), "not silent"),
        (np.arange(8.0), np.arange(9.0), "8 and a signal of 9"),
        (np.arange(8.0), np.full(8, np.nan), "NaN or Inf"),
        (np.arange(8.0).reshape(2, 4), np.arange(8.0), r"\[2, 4\]"),
        (np.zeros(0), np.zeros(0), "not empty"),
    ],
)
def test_si_sdr_refuses(reference: np.ndarray, signal: np.ndarray, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        si_sdr_db(reference, signal)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 5.0, 30.0])
def test_mix_has_the_asked_snr_and_leaves_speech_alone(snr_db: float) -> None:
    rng = np.random.default_rng(2)
    speech, noise = rng.standard_normal(5000).astype(np.float32), 0.01 * rng.standard_normal(1234)
    mixed = mix_at_snr(speech, noise, snr_db)
    added = mixed.astype(np.float64) - speech
    assert mixed.dtype == np.float32
    assert mixed.shape == speech.shape
    assert 10 * np.log10(np.mean(speech.astype(np.float64) ** 2) / np.mean(added**2)) == pytest.approx(snr_db, abs=1e-3)
    assert np.corrcoef(added[:1234], noise)[0, 1] > 0.999
    assert np.corrcoef(added[1234:2468], noise)[0, 1] > 0.999  # short noise is repeated


def test_mix_refuses_silence_and_an_endless_snr() -> None:
    tone = np.sin(np.arange(100.0))
    with pytest.raises(AudioError, match="noise is"):
        mix_at_snr(tone, np.zeros(100), 0.0)
    with pytest.raises(AudioError, match="speech is"):
        mix_at_snr(np.zeros(100), tone, 0.0)
    with pytest.raises(UsageError, match="finite"):
        mix_at_snr(tone, tone, math.nan)


def test_pesq_of_identical_speech_is_the_top_of_the_scale() -> None:
    pytest.importorskip("pesq")
    clean, noisy = _speech("clean_p287_001.wav"), _speech("noisy_p287_001.wav")
    same = _by_name(measure(clean, clean, RATE, None))["pesq_wb"]
    worse = _by_name(measure(clean, noisy, RATE, None))["pesq_wb"]
    assert same.value == pytest.approx(4.644, abs=0.01)
    assert worse.value is not None
    assert worse.value < 2.5


def test_an_absent_metric_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tone = np.sin(np.arange(RATE) * 0.1)
    monkeypatch.setitem(sys.modules, "pesq", None)
    metrics = _by_name(measure(tone, tone, RATE, None))
    assert metrics["si_sdr"].absent_reason is None
    assert metrics["pesq_wb"].value is None
    assert "'pesq' is not installed" in str(metrics["pesq_wb"].absent_reason)
    assert "no DNSMOS model given" in str(metrics["dnsmos_ovr"].absent_reason)

    missing = _by_name(measure(tone, tone, RATE, tmp_path / "none.onnx"))
    assert "no such file" in str(missing["dnsmos_sig"].absent_reason)

    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    assert "cannot be run" in str(_by_name(measure(tone, tone, RATE, text))["dnsmos_bak"].absent_reason)

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "'onnxruntime' is not installed" in str(
        _by_name(measure(tone, tone, RATE, text))["dnsmos_bak"].absent_reason
    )


def test_metrics_of_one_rate_say_so_at_another() -> None:
    tone = np.sin(np.arange(8000) * 0.1)
    metrics = _by_name(measure(tone, tone, 8000, Path("unused.onnx")))
    assert metrics["si_sdr"].value == math.inf
    assert all("8000 Hz" in str(metrics[name].absent_reason) for name in NAMES[1:])


def test_pesq_names_what_it_refuses() -> None:
    pytest.importorskip("pesq")
    short = np.sin(np.arange(100) * 0.1)
    assert "1/4 of a second" in str(_by_name(measure(short, short, RATE, None))["pesq_wb"].absent_reason)


@pytest.fixture(scope="module")
def probe_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net with DNSMOS's interface that returns mean, maximum and minimum of its window: shows what it was fed."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make = onnx.helper.make_node
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])
    nodes = [make(op, ["input_1", "axes"], [op], keepdims=1) for op in ("ReduceMean", "ReduceMax", "ReduceMin")]
    nodes.append(make("Concat", ["ReduceMean", "ReduceMax", "ReduceMin"], ["Identity:0"], axis=1))
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "probe",
        [value("input_1", onnx.TensorProto.FLOAT, ["N", DNSMOS_SAMPLES])],
        [value("Identity:0", onnx.TensorProto.FLOAT, ["N", 3])],
        [axes],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("dnsmos") / "probe.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("seconds", "windows"), [(2.0, 7), (9.5, 1), (10.5, 1), (11.0, 2), (13.2, 4)])
def test_dnsmos_windows_and_fit(probe_net: Path, seconds: float, windows: int) -> None:
    rng = np.random.default_rng(3)
    audio = rng.uniform(-1.0, 1.0, int(seconds * RATE)).astype(np.float32)
    looped = np.tile(audio, 2 ** max(0, math.ceil(math.log2(DNSMOS_SAMPLES / audio.size))))
    cut = [looped[i * RATE : i * RATE + DNSMOS_SAMPLES].astype(np.float64) for i in range(windows)]
    metrics = _by_name(measure(audio, audio, RATE, probe_net))
    sig = np.mean([-0.08397278 * w.mean() ** 2 + 1.22083953 * w.mean() + 0.0052439 for w in cut])
    ovr = np.mean([-0.06766283 * w.min() ** 2 + 1.11546468 * w.min() + 0.04602535 for w in cut])
    assert metrics["dnsmos_sig"].value == pytest.approx(sig, abs=1e-6)
    assert metrics["dnsmos_ovr"].value == pytest.approx(ovr, abs=1e-6)
    assert metrics["dnsmos_bak"].absent_reason is None


def test_dnsmos_of_real_speech_equals_its_authors_code() -> None:
    """Figures of speechmos 0.0.1.1's own `dnsmos.run` on the same two files."""
    pytest.importorskip("onnxruntime")
    from models.weights.assets import pull_asset

    clean, noisy = _speech("clean_p287_001.wav"), _speech("noisy_p287_001.wav")
    model = pull_asset("dnsmos")
    expected = {"clean": (3.543049, 4.029318, 3.263464), "noisy": (3.333664, 2.618346, 2.368152)}
    for name, audio in (("clean", clean), ("noisy", noisy)):
        metrics = _by_name(measure(clean, audio, RATE, model))
        got = [metrics[key].value for key in ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovr")]
        assert got == pytest.approx(expected[name], abs=1e-3)


def test_log_spectral_distance_is_the_gain_in_db_and_sees_nothing_that_is_not_heard() -> None:
    speech = np.random.default_rng(6).standard_normal(RATE)
    assert log_spectral_distance_db(speech, speech, RATE) == 0.0
    assert log_spectral_distance_db(speech, 2.0 * speech, RATE) == pytest.approx(20 * math.log10(2.0), abs=1e-3)
    assert log_spectral_distance_db(speech, speech + 1e-7, RATE) == pytest.approx(0.0, abs=1e-4)
    quiet = np.concatenate([speech, np.zeros(RATE)])
    heard = np.concatenate([speech, 1e-6 * speech])
    assert log_spectral_distance_db(quiet, heard, RATE) == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(AudioError, match="not silent"):
        log_spectral_distance_db(np.zeros(RATE), speech, RATE)
    with pytest.raises(AudioError, match="at least 512 samples"):
        log_spectral_distance_db(speech[:100], speech[:100], RATE)


def test_stoi_falls_with_noise_and_says_why_it_refuses() -> None:
    pytest.importorskip("pystoi")
    generator = np.random.default_rng(7)
    speech = generator.standard_normal(2 * RATE) * np.repeat(generator.uniform(0, 1, 40), RATE // 20)
    noisy = speech + generator.standard_normal(2 * RATE)
    same, worse = stoi(speech, speech, RATE), stoi(speech, noisy, RATE)
    assert same.value == pytest.approx(1.0, abs=1e-6)
    assert worse.value is not None
    assert worse.value < 0.9
    assert "at least 0.5 s" in str(stoi(speech[:4000], speech[:4000], RATE).absent_reason)
