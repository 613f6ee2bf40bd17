"""How good enhanced speech is: SI-SDR, PESQ, STOI, log-spectral distance and DNSMOS, each with its source; and mixing
at a given SNR.

A metric that cannot be computed here is named with the reason; nothing is left out without a word.
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError, UsageError

Signal = NDArray[np.floating[Any]]

DNSMOS_RATE_HZ = 16000
DNSMOS_SAMPLES = 144160  # 9.01 s
PESQ_WIDEBAND_RATE_HZ = 16000
# Maps the net's raw outputs to listeners' scores (reference implementation in the DNS Challenge): highest power first.
_DNSMOS_FIT = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovr": (-0.06766283, 1.11546468, 0.04602535),
}
_MOS = "MOS 1 to 5"
_LSD_WINDOW_S, _LSD_HOP_S = 0.032, 0.008
# Frames this far below the loudest say nothing of speech; spectra are compared down to this far below their own peak.
_LSD_FLOOR_DB = 60.0
_STOI_SHORTEST_S = 0.5


@dataclass(frozen=True)
class Metric:
    """One figure, or why there is none.

    Attributes:
        name: "si_sdr", "pesq_wb", "dnsmos_sig", "dnsmos_bak" or "dnsmos_ovr".
        value: the figure, None where it could not be computed.
        unit: "dB" or "MOS 1 to 5"; higher is better for all of them.
        absent_reason: why `value` is None; None where it is there.
    """

    name: str
    value: float | None
    unit: str
    absent_reason: str | None = None


def si_sdr_db(reference: Signal, signal: Signal) -> float:
    """Scale-invariant signal-to-distortion ratio.

    10 log10(|a s|^2 / |x - a s|^2) with a = <x, s> / |s|^2, means removed: Le Roux et al., "SDR - half-baked
    or well done?", ICASSP 2019, arXiv:1811.02508. The signals must be aligned: one sample of lag costs many dB.

    Args:
        reference: clean speech s, [n].
        signal: what is judged, x, [n].

    Returns:
        dB; inf where x is s up to a factor, -inf where x has nothing of s.

    Raises:
        AudioError: other lengths or shapes, not finite, or a silent reference.
    """
    s, x = _pair(reference, signal)
    s, x = s - s.mean(), x - x.mean()
    energy = float(s @ s)
    if energy == 0.0:
        raise AudioError("SI-SDR: expected a reference that is not silent, got a constant")
    target = (float(x @ s) / energy) * s
    wanted, unwanted = float(target @ target), float((x - target) @ (x - target))
    if wanted == 0.0:
        return -math.inf
    # Below the rounding of float64 sums the rest is not distortion.
    if unwanted <= wanted * (s.size * np.finfo(np.float64).eps) ** 2:
        return math.inf
    return 10.0 * math.log10(wanted / unwanted)


def measure(reference: Signal, signal: Signal, sample_rate_hz: int, dnsmos_model: Path | None) -> list[Metric]:
    """Every metric, in a fixed order; those that cannot be computed say why.

    Args:
        reference: clean speech, float [n], full scale 1.0.
        signal: enhanced (or noisy) speech, [n], aligned with `reference`.
        sample_rate_hz: rate of both.
        dnsmos_model: sig_bak_ovr.onnx, or None.

    Returns:
        si_sdr, pesq_wb, dnsmos_sig, dnsmos_bak, dnsmos_ovr.

    Raises:
        AudioError: other lengths or shapes, not finite, or a silent reference.
    """
    metrics = [Metric("si_sdr", si_sdr_db(reference, signal), "dB"), _pesq(reference, signal, sample_rate_hz)]
    scores, reason = _dnsmos(signal, sample_rate_hz, dnsmos_model)
    return metrics + [Metric(name, scores.get(name), _MOS, reason) for name in _DNSMOS_FIT]


def pesq_wb(reference: Signal, signal: Signal, sample_rate_hz: int) -> Metric:
    """Wideband PESQ, ITU-T P.862.2, by the package `pesq`.

    Args:
        reference: clean speech, float [n].
        signal: what is judged, [n], aligned with `reference`.
        sample_rate_hz: 16000; at any other rate there is no figure.
    """
    return _pesq(reference, signal, sample_rate_hz)


def stoi(reference: Signal, signal: Signal, sample_rate_hz: int) -> Metric:
    """Short-time objective intelligibility, 0 to 1 (Taal et al., IEEE TASLP 2011), by the package `pystoi`.

    Args:
        reference: clean speech, float [n].
        signal: what is judged, [n], aligned with `reference`.
        sample_rate_hz: rate of both.
    """
    s, x = _pair(reference, signal)
    try:
        import pystoi
    except ImportError:
        return Metric("stoi", None, "0 to 1", "package 'pystoi' is not installed; pip install pystoi")
    if s.size < _STOI_SHORTEST_S * sample_rate_hz:
        return Metric("stoi", None, "0 to 1", f"STOI needs at least {_STOI_SHORTEST_S:g} s of audio")
    with warnings.catch_warnings():  # too little speech is a warning there, and a score of 1e-5
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return Metric("stoi", float(pystoi.stoi(s, x, sample_rate_hz)), "0 to 1")
        except (RuntimeWarning, ValueError) as exc:
            return Metric("stoi", None, "0 to 1", f"STOI refuses this audio: {str(exc).splitlines()[0]}")


def log_spectral_distance_db(reference: Signal, signal: Signal, sample_rate_hz: int) -> float:
    """Log-spectral distance: the root mean square of the difference of two log power spectra over a frame's bins,
    averaged over the frames with speech (Rabiner and Juang, Fundamentals of Speech Recognition, 1993, 4.5.1).

    Frames of 32 ms every 8 ms, Hann. Frames 60 dB below the reference's loudest are left out, and bins are compared
    down to 60 dB below the reference's loudest bin: below that is nothing that is heard.

    Args:
        reference: clean speech, float [n].
        signal: what is judged, [n], aligned with `reference`.
        sample_rate_hz: rate of both.

    Returns:
        dB; 0 for equal signals.

    Raises:
        AudioError: other lengths or shapes, not finite, shorter than a frame, or a silent reference.
    """
    s, x = _pair(reference, signal)
    size, hop = round(_LSD_WINDOW_S * sample_rate_hz), round(_LSD_HOP_S * sample_rate_hz)
    if s.size < size:
        raise AudioError(f"log-spectral distance: expected at least {size} samples, got {s.size}")
    window = np.hanning(size)
    powers = [
        np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(v, size)[::hop] * window, axis=1)) ** 2
        for v in (s, x)
    ]
    loudness = powers[0].sum(axis=1)
    if not loudness.max() > 0.0:
        raise AudioError("log-spectral distance: expected a reference that is not silent")
    floor = 10.0 ** (-_LSD_FLOOR_DB / 10.0)
    heard = loudness >= floor * loudness.max()
    least = floor * powers[0].max()
    logs = [10.0 * np.log10(np.maximum(power[heard], least)) for power in powers]
    return float(np.mean(np.sqrt(np.mean((logs[1] - logs[0]) ** 2, axis=1))))


def mix_at_snr(speech: Signal, noise: Signal, snr_db: float) -> Signal:
    """Speech plus noise at a signal-to-noise ratio, speech unscaled.

    Args:
        speech: [n], full scale 1.0.
        noise: [m]; its first n samples are used, repeated from the start where it is shorter.
        snr_db: 10 log10 of the power of speech over that of the noise, over the whole length.

    Returns:
        [n], dtype of `speech`; may pass full scale.

    Raises:
        AudioError: not one-dimensional, empty, not finite, or silent.
    """
    if not math.isfinite(snr_db):
        raise UsageError(f"expected a finite SNR in dB, got {snr_db}")
    s, n = _finite(speech, "speech"), _finite(noise, "noise")
    n = np.resize(n, s.shape)
    powers = float(np.mean(s * s)), float(np.mean(n * n))
    if min(powers) == 0.0:
        raise AudioError(
            f"expected speech and noise that are not silent; {'speech' if powers[0] == 0.0 else 'noise'} is"
        )
    gain = math.sqrt(powers[0] / powers[1] / 10.0 ** (snr_db / 10.0))
    mixed: Signal = (s + gain * n).astype(np.asarray(speech).dtype)
    return mixed


# --- the metrics that need a package ----------------------------------------------------------------------


def _pesq(reference: Signal, signal: Signal, sample_rate_hz: int) -> Metric:
    """Wideband PESQ, ITU-T P.862.2, by the package `pesq`."""
    if sample_rate_hz != PESQ_WIDEBAND_RATE_HZ:
        return Metric("pesq_wb", None, _MOS, f"wideband PESQ is defined at 16000 Hz, the audio has {sample_rate_hz} Hz")
    try:
        import pesq
    except ImportError:
        return Metric("pesq_wb", None, _MOS, "package 'pesq' is not installed; pip install pesq (needs a C compiler)")
    s, x = _pair(reference, signal)
    try:
        value = float(pesq.pesq(sample_rate_hz, s.astype(np.float32), x.astype(np.float32), "wb"))
    except (pesq.PesqError, ValueError, ZeroDivisionError) as exc:
        what = exc.args[0] if exc.args else type(exc).__name__
        text = what.decode("ascii", "replace") if isinstance(what, bytes) else str(what)
        return Metric("pesq_wb", None, _MOS, f"PESQ refuses this audio: {text}")
    if not math.isfinite(value):
        return Metric("pesq_wb", None, _MOS, "PESQ gives no finite score for this audio")
    return Metric("pesq_wb", value, _MOS)


def _dnsmos(signal: Signal, sample_rate_hz: int, model: Path | None) -> tuple[dict[str, float], str | None]:
    """DNSMOS P.835 (Reddy et al., ICASSP 2022, arXiv:2110.01763), or the reason why not.

    The net takes 9.01 s of raw 16 kHz audio. Shorter audio is repeated; longer audio is cut into windows
    that start one second apart, and the fitted scores are averaged.
    """
    if model is None:
        return {}, "no DNSMOS model given (sig_bak_ovr.onnx of the package 'speechmos')"
    if sample_rate_hz != DNSMOS_RATE_HZ:
        return {}, f"DNSMOS is defined at 16000 Hz, the audio has {sample_rate_hz} Hz"
    if not model.is_file():
        return {}, f"{model}: no such file (sig_bak_ovr.onnx of the package 'speechmos')"
    try:
        import onnxruntime
    except ImportError:
        return {}, "package 'onnxruntime' is not installed; pip install 'hearpack[export]'"
    audio = _finite(signal, "signal").astype(np.float32)
    while audio.size < DNSMOS_SAMPLES:  # doubled, as the reference does, so that scores compare
        audio = np.concatenate([audio, audio])
    starts = [
        DNSMOS_RATE_HZ * i for i in range(max(1, audio.size // DNSMOS_RATE_HZ - 9))
    ]  # windows as the reference counts them
    try:
        session = _session(model, model.stat().st_mtime_ns)
        name = session.get_inputs()[0].name
        raw = [session.run(None, {name: audio[None, i : i + DNSMOS_SAMPLES]})[0][0] for i in starts]
    except Exception as exc:  # onnxruntime's errors share no public base
        return {}, f"{model.name} cannot be run by onnxruntime {onnxruntime.__version__}: {str(exc).splitlines()[0]}"
    table = np.asarray(raw, np.float64)
    if table.shape[1:] != (3,) or not np.isfinite(table).all():
        return {}, f"{model.name}: expected three finite scores per window, got {list(table.shape[1:])}"
    fits = enumerate(_DNSMOS_FIT.items())
    return {key: float(np.mean(np.polyval(fit, table[:, column]))) for column, (key, fit) in fits}, None


@functools.lru_cache(maxsize=2)
def _session(model: Path, _modified_ns: int) -> Any:
    """The net, loaded once for a file as it stands; one thread, as in every measurement of ours."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _finite(values: Signal, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size == 0:
        raise AudioError(f"{what}: expected one channel [samples], not empty, got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise AudioError(f"{what}: has NaN or Inf")
    return array


def _pair(reference: Signal, signal: Signal) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    s, x = _finite(reference, "reference"), _finite(signal, "signal")
    if s.shape != x.shape:
        raise AudioError(
            f"expected signals of one length, got a reference of {s.size} and a signal of {x.size} samples"
        )
    return s, x
