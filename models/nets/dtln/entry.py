"""What DTLN declares: shapes, states, what stays in float32, decisions. Light: no torch."""

from __future__ import annotations

from models.entry import ModelEntry
from models.geometry import StateSpec, StreamGeometry, TensorSpec

DTLN = ModelEntry(
    name="dtln",
    task="enhancer",
    summary="speech enhancement, dual-signal LSTM, 8 ms hops at 16 kHz",
    factory="models.dtln:build",
    package=__package__,
    geometry=StreamGeometry(16000, 1, window_samples=512, hop_samples=128, delay_samples=384),
    buffer_kind="step",
    max_hops=16,
    output=TensorSpec(
        "enhanced", (1, 128), (-1.0, 1.0), "the waveform with noise removed, delay_samples behind `audio`"
    ),
    parameters_millions=0.99,
    paper="Westhausen & Meyer, Dual-Signal Transformation LSTM Network, Interspeech 2020, arXiv:2005.07551",
    states=(
        StateSpec("samples", (1, 384)),
        StateSpec("overlap", (1, 384)),
        # The four LSTM layers in a row: few tensors, because every one of them costs the host a copy a call.
        StateSpec("hidden", (1, 512)),
        StateSpec("cell", (1, 512)),
    ),
    # The fp16 package in the evaluator over speech, -60 dBFS, a full-scale square and DC: 66, 62, 41, 57 dB with these
    # in float32; 55, 40, 1 and 1 dB with none (squares of a loud spectrum overflow, a long-lived cell loses its steps).
    fp32_modules=(
        "framing",
        "front_end",
        "norm",
        "overlap_add",
        "core1.lstm1.cell",
        "core1.lstm2.cell",
        "core2.lstm1.cell",
        "core2.lstm2.cell",
    ),
)
