"""[front_end] of a geometry.toml: the features that a net was trained with. Light.

    kind = "log_mel" | "mfcc" | "stft_magnitude"
    n_fft, window_samples = n_fft, hop_samples, window = "hann", periodic = true, pad_window = "center" | "end"
    center = false, pad_mode = "zeros" | "reflect"
    scale = 1.0, remove_dc = false, preemphasis = 0.0, preemphasis_form = "frame" | "audio" | "valid"
    bands, low_hz, high_hz, mel_scale = "slaney" | "htk" | "kaldi", mel_norm, mel_matrix = "file.npy"
    power, log, floor, offset, top_db, coefficients, mean, std

models/layers/front_end_spec.py says what each means. With mel_scale = "kaldi" what is not said is as in
torchaudio.compliance.kaldi.fbank.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.common.errors import UsageError
from models.common.files import read_file
from models.common.hashing import sha256_bytes
from models.custom.tables import Table
from models.geometry import StreamGeometry
from models.layers.front_end_spec import MEL_SCALES, WINDOWS, FrontEndSpec

MOST_FFT = 65_536  # no phone takes one of this size
MOST_MATRIX = 2**23  # elements of a mel matrix: 64 MB
_PLAIN: dict[str, Any] = {
    "window": "hann",
    "periodic": True,
    "pad_window": "center",
    "remove_dc": False,
    "preemphasis": 0.0,
    "bands": 64,
    "low_hz": 0.0,
    "mel_norm": "slaney",
    "floor": 0.0,
    "offset": 1e-6,
}
_KALDI: dict[str, Any] = {
    "window": "povey",
    "periodic": False,
    "pad_window": "end",
    "remove_dc": True,
    "preemphasis": 0.97,
    "bands": 23,
    "low_hz": 20.0,
    "mel_norm": "none",
    "floor": 2.0**-23,
    "offset": 0.0,
}
_SHAPE = ("window", "periodic", "pad_window", "remove_dc", "preemphasis")  # assumed in words where Kaldi's
_MEL = ("bands", "low_hz", "high_hz", "mel_scale", "mel_norm")
_VALUES = ("power", "floor", "offset")


def with_mel_matrix(values: Any, folder: Path, where: str) -> Any:
    """The table with the file that `mel_matrix` names read in.

    Args:
        values: the table; anything else is handed through.
        folder: what the file's name is relative to.
        where: for messages.

    Raises:
        UsageError: no such file, or no array in it.
    """
    name = values.get("mel_matrix") if isinstance(values, Mapping) else None
    if not isinstance(name, str):
        return values
    try:
        array = npy(read_file(folder / name))
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the name too
        raise UsageError(
            f"{where}: front_end.mel_matrix {name!r} cannot be read: {exc}; expected a .npy (numpy.save) of "
            f"[n_fft / 2 + 1, bands] or [bands, n_fft / 2 + 1]"
        ) from exc
    return {**values, "mel_matrix": array}


def npy(data: bytes) -> Any:
    """One array of floats, its header compared with the file's size first.

    Raises:
        ValueError: it is none.
    """
    import numpy as np

    form: Any = np.lib.format  # untyped
    stream = io.BytesIO(data)
    try:
        version = form.read_magic(stream)
        reader = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, _, dtype = reader(stream)
    except Exception as exc:  # numpy evaluates the header as Python and raises whatever that gives
        raise ValueError(f"no .npy ({type(exc).__name__})") from exc
    count = 1
    for n in shape:
        count *= n
    if dtype.kind != "f" or count > MOST_MATRIX or stream.tell() + count * dtype.itemsize != len(data):
        raise ValueError(f"it promises {dtype} {list(shape)[:8]} in {len(data)} bytes")
    stream.seek(0)
    return form.read_array(stream, allow_pickle=False)


def _matrix(value: Any, n_fft: int, where: str) -> tuple[int, str, str]:
    """Bands, data and sha256 of a mel matrix, as a FrontEndSpec has them."""
    import numpy as np

    bins = n_fft // 2 + 1
    try:
        array = np.asarray(value, dtype="<f8")
    except (TypeError, ValueError) as exc:
        raise UsageError(
            f"{where}: mel_matrix: expected numbers, or the name of a .npy in a geometry.toml, got {value!r:.60}"
        ) from exc
    if array.ndim == 2 and array.shape[0] != bins:
        array = array.T
    if array.ndim != 2 or array.shape[0] != bins or not 1 <= array.size <= MOST_MATRIX:
        raise UsageError(
            f"{where}: mel_matrix: expected [{bins}, bands] or [bands, {bins}] for n_fft {n_fft}, "
            f"got {list(np.shape(value))}"
        )
    if not np.isfinite(array).all() or not array.any():
        raise UsageError(f"{where}: mel_matrix: expected finite numbers, not all of them zero")
    data = np.ascontiguousarray(array).tobytes()
    return array.shape[1], base64.b64encode(data).decode("ascii"), sha256_bytes(data)


def front_end_of(values: Any, where: str, geometry: StreamGeometry, form: str, assumed: list[str]) -> FrontEndSpec:
    """The features that a table describes.

    Args:
        values: the table.
        where: for messages.
        geometry, form: of the net.
        assumed: gets a sentence on what was not said.

    Raises:
        UsageError: a key is missing, unknown, of the wrong kind, or does not fit the others.
    """
    if form == "step":
        raise UsageError(f"{where}: a step net keeps its own frames: give it audio, or make it causal")
    table = Table(values, where)
    said = set(table.left)
    rate = geometry.sample_rate_hz
    kind = table.choice("kind", ("log_mel", "mfcc", "stft_magnitude"))
    n_fft = table.take("n_fft", int)
    log = table.choice("log", ("natural", "log10", "db", "none"), "db" if kind == "mfcc" else "natural")
    if kind == "stft_magnitude" and log != "natural":
        raise UsageError(f"{where}: stft_magnitude has no logarithm; use log_mel, or take the logarithm in the net")
    scale = table.choice("mel_scale", MEL_SCALES, "slaney")
    usual = _KALDI if scale == "kaldi" else _PLAIN
    if kind == "mfcc" and scale != "kaldi":
        usual = {**usual, "bands": 128}
    if log in ("db", "none"):
        usual = {**usual, "floor": 1e-10 if log == "db" else 0.0, "offset": 0.0}
    matrix = table.take("mel_matrix", object, None)
    bands, data, sha256 = (usual["bands"], "", "") if matrix is None else _matrix(matrix, n_fft, where)
    spec = FrontEndSpec(
        kind=kind,  # type: ignore[arg-type]
        sample_rate_hz=rate,
        n_fft=n_fft,
        window_samples=table.take("window_samples", int, n_fft),
        hop_samples=table.take("hop_samples", int),
        window=table.choice("window", WINDOWS, usual["window"]),
        periodic=table.take("periodic", bool, usual["periodic"]),
        pad_window=table.choice("pad_window", ("center", "end"), usual["pad_window"]),
        center=table.take("center", bool, False),
        pad_mode=table.choice("pad_mode", ("zeros", "reflect"), "zeros"),
        scale=table.number("scale", 1.0),
        remove_dc=table.take("remove_dc", bool, usual["remove_dc"]),
        preemphasis=table.number("preemphasis", usual["preemphasis"]),
        preemphasis_form=table.choice("preemphasis_form", ("frame", "audio", "valid"), "frame"),
        power=table.take("power", int, 1 if kind == "stft_magnitude" else 2),
        bands=table.take("bands", int, bands),
        low_hz=table.number("low_hz", usual["low_hz"]),
        high_hz=table.number("high_hz", rate / 2),
        mel_scale=scale,
        mel_norm=table.choice("mel_norm", ("slaney", "none"), usual["mel_norm"]),
        log="none" if kind == "stft_magnitude" else log,
        floor=table.number("floor", usual["floor"]),
        offset=table.number("offset", usual["offset"]),
        top_db=table.number("top_db", None),
        coefficients=table.take("coefficients", int, 20),
        mean=table.number("mean", 0.0),
        std=table.number("std", 1.0),
        mel_sha256=sha256,
        mel_data=data,
    )
    table.end()
    _check(spec, where, form, geometry, said)
    if data and spec.bands != bands:
        raise UsageError(f"{where}: bands is {spec.bands}, mel_matrix has {bands}")
    assumed += _assumed(spec, said, geometry)
    return spec


def _assumed(spec: FrontEndSpec, said: set[str], geometry: StreamGeometry) -> list[str]:
    keys: tuple[str, ...] = _SHAPE if spec.mel_scale == "kaldi" else ()
    if spec.kind != "stft_magnitude":
        keys += (() if spec.mel_data else _MEL) + _VALUES
    unsaid = [f"{key} = {_toml(getattr(spec, key))}" for key in keys if key not in said]
    source = " (as torchaudio.compliance.kaldi.fbank)" if spec.mel_scale == "kaldi" else ""
    lines = [f"front_end: {', '.join(unsaid)}{source}"] if unsaid else []
    if spec.center and "pad_mode" not in said:
        first, last = spec.edge_frames(geometry.window_samples)
        lines.append(
            f"front_end: pad_mode = zeros, as librosa.stft pads; torch.stft and torchaudio reflect (pad_mode = "
            f'"reflect"): a net trained with them would see other values in the first {first} and last {last} of '
            f"{spec.frames(geometry.window_samples)} frames"
        )
    return lines


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(spec: FrontEndSpec, where: str, form: str, geometry: StreamGeometry, said: set[str]) -> None:
    half = spec.sample_rate_hz / 2
    causal, matrix_keys = form == "causal", sorted(said & {*_MEL} - {"bands"})
    looks_ahead = "center looks ahead by n_fft / 2" + (
        ", and reflected edges are of samples that a stream has not yet" if spec.pad_mode == "reflect" else ""
    )
    faults = (
        (
            not 2 <= spec.n_fft <= MOST_FFT or spec.n_fft % 2 != 0,
            f"n_fft must be even, positive and at most {MOST_FFT}, got {spec.n_fft}",
        ),
        (spec.bands > MOST_FFT, f"bands must be at most {MOST_FFT}, got {spec.bands}"),
        (not 1 <= spec.window_samples <= spec.n_fft, f"window_samples must be 1 to n_fft, got {spec.window_samples}"),
        (not 1 <= spec.hop_samples <= spec.frame_samples, f"hop_samples must be 1 to a frame, got {spec.hop_samples}"),
        (spec.power not in (1, 2), f"power must be 1 or 2, got {spec.power}"),
        (
            spec.bands < 1 or not 0 <= spec.low_hz < spec.high_hz <= half,
            f"bands, low_hz < high_hz: got {spec.bands}, {spec.low_hz:g}, {spec.high_hz:g} below {half:g} Hz",
        ),
        (spec.log != "none" and spec.floor <= 0 and spec.offset <= 0, "a logarithm needs a floor or an offset above 0"),
        (spec.kind == "mfcc" and not 1 <= spec.coefficients <= spec.bands, "coefficients must be 1 to bands"),
        (spec.top_db is not None and spec.log != "db", "top_db goes with log = 'db'"),
        (spec.std == 0, "std must not be 0"),
        (
            not all(map(math.isfinite, (spec.floor, spec.offset, spec.mean, spec.std, spec.top_db or 0.0))),
            "expected finite numbers for floor, offset, top_db, mean and std",
        ),
        (not 0 < abs(spec.scale) <= 1e9, f"scale must not be 0, nor above 1e9, got {spec.scale:g}"),
        (
            not -1 <= spec.preemphasis <= 1,
            f"preemphasis is c of x[n] - c x[n - 1], -1 to 1, got {spec.preemphasis:g}",
        ),
        ("preemphasis_form" in said and spec.preemphasis == 0, "preemphasis_form goes with a preemphasis"),
        ("pad_mode" in said and not spec.center, "pad_mode goes with center = true"),
        (
            spec.mel_scale == "kaldi" and spec.mel_norm != "none",
            "Kaldi's mel triangles are not normalised: mel_norm = 'none'",
        ),
        (spec.mel_data != "" and bool(matrix_keys), f"mel_matrix stands for {', '.join(matrix_keys)}: leave them out"),
        (spec.mel_data != "" and spec.kind == "stft_magnitude", "stft_magnitude has no mel: leave mel_matrix out"),
        (causal and spec.center, f"{looks_ahead}: a causal net needs center = false"),
        (
            causal and spec.preemphasis_over == "valid",
            "preemphasis_form 'valid' drops the first sample: all frames look a sample ahead; a stream takes 'audio'",
        ),
        (causal and spec.top_db is not None, "top_db needs the whole recording: leave it out for a stream"),
        (
            causal and geometry.hop_samples % max(1, spec.hop_samples) != 0,
            f"geometry.hop_samples must be a multiple of the front end's hop of {spec.hop_samples}",
        ),
    )
    for wrong, message in faults:
        if wrong:
            raise UsageError(f"{where}: {message}")
    if form == "window":
        spec.frames(geometry.window_samples)
