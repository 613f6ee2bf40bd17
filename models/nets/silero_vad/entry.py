"""What Silero VAD declares: shapes, states, what stays in float32, decisions. Light: no torch."""

from __future__ import annotations

from models.entry import ModelEntry
from models.geometry import StateSpec, StreamGeometry, TensorSpec

SILERO_VAD = ModelEntry(
    name="silero-vad",
    task="classifier",
    summary="speech or not, every 32 ms at 16 kHz, with state",
    factory="models.silero_vad:build",
    package=__package__,
    geometry=StreamGeometry(16000, 1, window_samples=576, hop_samples=512, delay_samples=0),
    buffer_kind="step",
    max_hops=1,
    output=TensorSpec("scores", (1, 1), (0.0, 1.0), "probability that there is speech in this chunk"),
    parameters_millions=0.31,
    paper="Silero Team, Silero VAD, github.com/snakers4/silero-vad (2020 to 2026)",
    states=(
        StateSpec("context", (1, 64)),
        StateSpec("hidden", (1, 128)),
        StateSpec("cell", (1, 128)),
    ),
    # The fp16 package in the evaluator: at -60 dBFS scores move by at most 0.005 with the front end in float32, by
    # 0.023 with nothing; the LSTM's cell in float32 besides changes nothing that can be measured.
    fp32_modules=("front_end",),
    # The authors' own defaults, but that an event ends where speech was last heard.
    decisions={
        "window_hop_samples": 512,
        "smoothing_windows": 1,
        "on_threshold": 0.5,
        "off_threshold": 0.35,
        "min_on_ms": 250.0,
        "min_off_ms": 100.0,
        "per_label": {},
    },
    material="speech",
)
