"""What DeepFilterNet3 declares: shapes, states, what stays in float32, decisions. Light: no torch."""

from __future__ import annotations

from models.entry import ModelEntry
from models.geometry import StateSpec, StreamGeometry, TensorSpec

DEEPFILTERNET3 = ModelEntry(
    name="deepfilternet3",
    task="enhancer",
    summary="speech enhancement at 48 kHz, band gains and a deep filter, 10 ms hops",
    factory="models.deepfilternet3:build",
    package=__package__,
    geometry=StreamGeometry(48000, 1, window_samples=960, hop_samples=480, delay_samples=1440),
    buffer_kind="step",
    max_hops=1,
    output=TensorSpec(
        "enhanced", (1, 480), (-1.0, 1.0), "the waveform with noise removed, delay_samples behind `audio`"
    ),
    parameters_millions=2.13,
    paper="Schröter et al., DeepFilterNet: Perceptually Motivated Real-Time Speech Enhancement, Interspeech 2023",
    states=(
        StateSpec("samples", (1, 480)),
        StateSpec("overlap", (1, 480)),
        # Running means of 32 band levels and 96 magnitudes, and whether the stream has begun.
        StateSpec("means", (1, 129)),
        StateSpec("level_frames", (1, 2, 32)),
        StateSpec("feature_frames", (1, 2, 192)),
        StateSpec("low_frames", (1, 4, 192)),
        StateSpec("high_frames", (1, 2, 770)),
        StateSpec("to_come", (1, 96, 40)),
        StateSpec("hidden", (1, 1280)),
    ),
    # The fp16 package in the evaluator over 20 s of speech in the street: 70 dB with these in float32, 63 without the
    # cells, 27 with nothing (spectra stand divided by 960, where half has few bits or none).
    fp32_modules=(
        "front_end",
        "encoder.gru.cell",
        "erb_decoder.gru0.cell",
        "erb_decoder.gru1.cell",
        "df_decoder.gru0.cell",
        "df_decoder.gru1.cell",
        "filter",
        "mask",
        "back_end",
    ),
)
