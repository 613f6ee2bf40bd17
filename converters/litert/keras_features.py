"""models/layers/front_end.py in TensorFlow, with the same constants, for the .tflite of a Keras net."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from models.layers.dft_factors import constants, factors, sizes
from models.layers.front_end_spec import FrontEndSpec
from models.layers.mel import analysis_window, dct_matrix, mel_matrix, windowed_dft


def features(tf: Any, spec: FrontEndSpec, samples: int) -> Any:
    """Audio to features, inside a tf.function."""
    frames = spec.frames(samples)
    power, matrices = _power(tf, spec, frames)
    if spec.kind != "stft_magnitude":
        matrices["mel"] = mel_matrix(spec)
    if spec.kind == "mfcc":
        matrices["dct"] = dct_matrix(spec.bands, spec.coefficients)

    def of(audio: Any) -> Any:
        with tf.name_scope("front_end"):
            constant = {
                name: tf.constant(np.ascontiguousarray(value), tf.float32, name=name)
                for name, value in matrices.items()
            }
            x = power(_condition(tf, spec, _cut(tf, spec, frames, _whole(tf, spec, audio))), constant)
            if spec.power == 1:
                x = tf.sqrt(x)
            if spec.kind != "stft_magnitude":
                x = _logarithm(tf, spec, tf.matmul(x, constant["mel"]))
            if spec.kind == "mfcc":
                x = tf.matmul(x, constant["dct"])
            if (spec.mean, spec.std) != (0.0, 1.0):
                x = (x - spec.mean) * (1.0 / spec.std)
            return tf.transpose(x) if "bands_frames" in spec.layout else x

    return of


def _power(tf: Any, spec: FrontEndSpec, frames: int) -> tuple[Any, dict[str, Any]]:
    """What takes [frames, n_fft] to the power of all bins, and its constants."""
    window = analysis_window(spec)
    outer, inner = sizes(spec.n_fft)
    bins, steps = spec.n_fft // 2 + 1, inner // 2 + 1
    if constants(outer, inner) >= 2 * spec.n_fft * bins:
        real, imaginary = windowed_dft(window, spec.n_fft)

        def direct(x: Any, constant: dict[str, Any]) -> Any:
            re, im = tf.matmul(x, constant["real"]), tf.matmul(x, constant["imaginary"])
            return re * re + im * im

        return direct, {"real": real, "imaginary": imaginary}
    first, twiddle, second = factors(outer, inner)
    matrices = {
        "window": window,
        "first": first.T,
        "second": second.T,
        "straight": np.tile(twiddle.real, 2),
        "turned": np.tile(twiddle.imag, 2),
    }

    def factored(x: Any, constant: dict[str, Any]) -> Any:
        x = tf.transpose(tf.reshape(x * constant["window"], [frames, outer, inner]), [0, 2, 1])
        x = tf.matmul(tf.reshape(x, [frames * inner, outer]), constant["first"])
        x = tf.reshape(x, [frames, inner, 4 * outer])
        x = x[..., : 2 * outer] * constant["straight"] + x[..., 2 * outer :] * constant["turned"]
        x = tf.transpose(tf.reshape(x, [frames, inner, 2, outer]), [0, 3, 2, 1])
        x = tf.matmul(tf.reshape(x, [frames * outer, 2 * inner]), constant["second"])
        x = tf.transpose(tf.reshape(x, [frames, outer, 2 * steps]), [0, 2, 1])
        re = tf.reshape(x[:, :steps], [frames, steps * outer])[:, :bins]
        im = tf.reshape(x[:, steps:], [frames, steps * outer])[:, :bins]
        return re * re + im * im

    return factored, matrices


def _whole(tf: Any, spec: FrontEndSpec, audio: Any) -> Any:
    """[1, n] with a preemphasis over the audio and what stands around a centred window."""
    if spec.preemphasis_over == "audio":
        audio = tf.pad(audio, [[0, 0], [1, 0]])
    if spec.preemphasis_over in ("audio", "valid"):
        audio = audio[:, 1:] - spec.preemphasis * audio[:, :-1]
    if spec.center:
        edge = spec.n_fft // 2
        mode = "REFLECT" if spec.pad_mode == "reflect" else "CONSTANT"
        audio = tf.pad(audio, [[0, 0], [edge, edge]], mode=mode)
    return audio


def _cut(tf: Any, spec: FrontEndSpec, frames: int, audio: Any) -> Any:
    """Overlapping frames of [1, n], as rows."""
    frame, hop = spec.cut_samples, spec.hop_samples
    parts = math.ceil(frame / hop)
    wanted = (frames + parts - 1) * hop
    length = int(audio.shape[1])
    audio = tf.pad(audio, [[0, 0], [0, wanted - length]]) if length < wanted else audio[:, :wanted]
    rows = tf.reshape(audio, [frames + parts - 1, hop])
    columns = [rows[part : part + frames] for part in range(parts)]
    columns[-1] = columns[-1][:, : hop - (parts * hop - frame)]
    return tf.concat(columns, 1)


def _condition(tf: Any, spec: FrontEndSpec, x: Any) -> Any:
    """Frames as the DFT takes them: without their mean, emphasised, filled up to n_fft."""
    before = 0
    if spec.remove_dc or spec.preemphasis_over == "frame":
        before = (spec.cut_samples - spec.window_samples) // 2
        x = x[:, before : before + spec.window_samples]
    if spec.remove_dc:
        x = x - tf.reduce_mean(x, 1, keepdims=True)
    if spec.preemphasis_over == "frame":
        x = x - spec.preemphasis * tf.concat([x[:, :1], x[:, :-1]], 1)
    missing = spec.n_fft - int(x.shape[1])
    return tf.pad(x, [[0, 0], [before, missing - before]]) if missing else x


def _logarithm(tf: Any, spec: FrontEndSpec, x: Any) -> Any:
    if spec.log == "none":
        return x
    if spec.floor > 0.0:
        x = tf.maximum(x, spec.floor)
    if spec.offset > 0.0:
        x = x + spec.offset
    x = tf.math.log(x) * {"natural": 1.0, "log10": 1.0 / math.log(10.0), "db": 10.0 / math.log(10.0)}[spec.log]
    if spec.top_db is not None:
        x = tf.maximum(x, tf.reduce_max(x) - spec.top_db)
    return x
