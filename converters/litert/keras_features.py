"""models/layers/front_end.py in TensorFlow, with the same matrices, for the .tflite of a Keras net."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from models.layers.front_end_spec import FrontEndSpec
from models.layers.mel import dct_matrix, dft, mel_matrix


def features(tf: Any, spec: FrontEndSpec, samples: int) -> Any:
    """Audio to features, inside a tf.function."""
    frames, frame, hop = spec.frames(samples), spec.frame_samples, spec.hop_samples
    real, imaginary = dft(spec)
    matrices: dict[str, Any] = {}
    if spec.kind != "stft_magnitude":
        mel = mel_matrix(spec)
        used = np.flatnonzero(mel.any(axis=1))
        real, imaginary, matrices["mel"] = real[:, used], imaginary[:, used], mel[used]
    if spec.kind == "mfcc":
        matrices["dct"] = dct_matrix(spec.bands, spec.coefficients)
    matrices |= {"real": real, "imaginary": imaginary}

    def of(audio: Any) -> Any:
        with tf.name_scope("front_end"):
            constant = {
                name: tf.constant(np.ascontiguousarray(value), tf.float32, name=name)
                for name, value in matrices.items()
            }
            if spec.center:
                audio = tf.pad(audio, [[0, 0], [spec.n_fft // 2, spec.n_fft // 2]])
            parts = math.ceil(frame / hop)
            wanted = (frames + parts - 1) * hop
            length = int(audio.shape[1])
            audio = tf.pad(audio, [[0, 0], [0, wanted - length]]) if length < wanted else audio[:, :wanted]
            rows = tf.reshape(audio, [frames + parts - 1, hop])
            columns = [rows[part : part + frames] for part in range(parts)]
            columns[-1] = columns[-1][:, : hop - (parts * hop - frame)]
            cut = tf.concat(columns, 1)
            re, im = tf.matmul(cut, constant["real"]), tf.matmul(cut, constant["imaginary"])
            x = re * re + im * im
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
