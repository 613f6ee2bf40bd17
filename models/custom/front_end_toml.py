"""[front_end] of a geometry.toml: the features that a net was trained with. Light."""

from __future__ import annotations

from typing import Any

from models.common.errors import UsageError
from models.custom.tables import Table
from models.geometry import StreamGeometry
from models.layers.front_end_spec import FrontEndSpec

MOST_FFT = 65_536  # no phone takes one of this size


def front_end_of(values: Any, where: str, geometry: StreamGeometry, form: str, assumed: list[str]) -> FrontEndSpec:
    if form == "step":
        raise UsageError(f"{where}: a step net keeps its own frames: give it audio, or make it causal")
    table = Table(values, where)
    rate = geometry.sample_rate_hz
    kind = table.choice("kind", ("log_mel", "mfcc", "stft_magnitude"))
    n_fft = table.take("n_fft", int)
    log = table.choice("log", ("natural", "log10", "db", "none"), "db" if kind == "mfcc" else "natural")
    if kind == "stft_magnitude" and log != "natural":
        raise UsageError(f"{where}: stft_magnitude has no logarithm; use log_mel, or take the logarithm in the net")
    said = set(table.left)
    spec = FrontEndSpec(
        kind=kind,  # type: ignore[arg-type]
        sample_rate_hz=rate,
        n_fft=n_fft,
        window_samples=table.take("window_samples", int, n_fft),
        hop_samples=table.take("hop_samples", int),
        window=table.choice("window", ("hann", "hamming", "rectangular"), "hann"),
        pad_window=table.choice("pad_window", ("center", "end"), "center"),
        center=table.take("center", bool, False),
        power=table.take("power", int, 1 if kind == "stft_magnitude" else 2),
        bands=table.take("bands", int, 128 if kind == "mfcc" else 64),
        low_hz=table.number("low_hz", 0.0),
        high_hz=table.number("high_hz", rate / 2),
        mel_scale=table.choice("mel_scale", ("slaney", "htk"), "slaney"),
        mel_norm=table.choice("mel_norm", ("slaney", "none"), "slaney"),
        log="none" if kind == "stft_magnitude" else log,
        floor=table.number("floor", 1e-10 if log == "db" else 0.0),
        offset=table.number("offset", 0.0 if log in ("db", "none") else 1e-6),
        top_db=table.number("top_db", None),
        coefficients=table.take("coefficients", int, 20),
        mean=table.number("mean", 0.0),
        std=table.number("std", 1.0),
    )
    table.end()
    if kind != "stft_magnitude":
        keys = ("bands", "low_hz", "high_hz", "mel_scale", "mel_norm", "power", "log", "floor", "offset")
        unsaid = [f"{key} = {getattr(spec, key)}" for key in keys if key not in said and key != "log"]
        if unsaid:
            assumed.append(f"front_end: {', '.join(unsaid)}")
    _check_front_end(spec, where, form, geometry)
    return spec


def _check_front_end(spec: FrontEndSpec, where: str, form: str, geometry: StreamGeometry) -> None:
    faults = (
        (
            not 2 <= spec.n_fft <= MOST_FFT or spec.n_fft % 2 != 0,
            f"n_fft must be even, positive and at most {MOST_FFT}, got {spec.n_fft}",
        ),
        (spec.bands > MOST_FFT, f"bands must be at most {MOST_FFT}, got {spec.bands}"),
        (not 1 <= spec.window_samples <= spec.n_fft, f"window_samples must be 1 to n_fft, got {spec.window_samples}"),
        (not 1 <= spec.hop_samples <= spec.frame_samples, f"hop_samples must be 1 to a frame, got {spec.hop_samples}"),
        (spec.power not in (1, 2), f"power must be 1 or 2, got {spec.power}"),
        (spec.bands < 1 or not 0 <= spec.low_hz < spec.high_hz <= spec.sample_rate_hz / 2, "bands, low_hz < high_hz"),
        (spec.log != "none" and spec.floor <= 0 and spec.offset <= 0, "a logarithm needs a floor or an offset above 0"),
        (spec.kind == "mfcc" and not 1 <= spec.coefficients <= spec.bands, "coefficients must be 1 to bands"),
        (spec.top_db is not None and spec.log != "db", "top_db goes with log = 'db'"),
        (spec.std == 0, "std must not be 0"),
        (form == "causal" and spec.center, "center looks ahead by n_fft / 2: a causal net needs center = false"),
        (form == "causal" and spec.top_db is not None, "top_db needs the whole recording: leave it out for a stream"),
        (
            form == "causal" and geometry.hop_samples % max(1, spec.hop_samples) != 0,
            f"geometry.hop_samples must be a multiple of the front end's hop of {spec.hop_samples}",
        ),
    )
    for wrong, message in faults:
        if wrong:
            raise UsageError(f"{where}: {message}")
    if form == "window":
        spec.frames(geometry.window_samples)
