"""What YAMNet declares: shapes, states, what stays in float32, decisions. Light: no torch."""

from __future__ import annotations

from models.entry import ModelEntry
from models.geometry import StreamGeometry, TensorSpec

YAMNET = ModelEntry(
    name="yamnet",
    task="classifier",
    summary="audio events, 521 AudioSet classes, 0.975 s windows at 16 kHz",
    factory="models.yamnet:build",
    package=__package__,
    geometry=StreamGeometry(16000, 1, window_samples=15600, hop_samples=7680, delay_samples=0),
    buffer_kind="window",
    max_hops=1,
    output=TensorSpec(
        "scores", (1, 521), (0.0, 1.0), "probability of each label in labels.txt, independent of each other"
    ),
    parameters_millions=3.73,
    paper="Plakal & Ellis, YAMNet, tensorflow/models (2020), on MobileNet arXiv:1704.04861 and AudioSet (ICASSP 2017)",
    # Half precision emulated over the 60 s street recording, 123 windows: with these in float32 scores move by at most
    # 0.005 and 122 windows keep their top 5; 0.008 and 116 with the front end alone, 0.18 and 107 with none. In half,
    # scores below 6e-8 (a silent window's runners-up) are all 0, and the first layer rounds the log-mel patch itself.
    fp32_modules=("front_end", "body.layers.0", "body.sigmoid"),
    # on the pinned street recording: both long rings come out as one event each, and half as many events flicker as
    # without smoothing, for one window (0.48 s) more until an event is told
    decisions={
        "window_hop_samples": 7680,
        "smoothing_windows": 2,
        "on_threshold": 0.4,
        "off_threshold": 0.2,
        "min_on_ms": 0.0,
        "min_off_ms": 960.0,
        "per_label": {},
    },
)
