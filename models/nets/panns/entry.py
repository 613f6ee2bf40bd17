"""What PANNs Cnn14 and MobileNetV1 declares: shapes, states, what stays in float32, decisions. Light: no torch."""

from __future__ import annotations

from models.entry import ModelEntry
from models.geometry import StreamGeometry, TensorSpec


def _panns(kind: str, net: str, parameters_millions: float, checkpoint: str) -> ModelEntry:
    return ModelEntry(
        name=f"panns-{kind}",
        task="classifier",
        summary=f"audio events, 527 AudioSet classes, PANNs {net}, 2 s windows at 32 kHz; bring the weights",
        factory=f"models.panns:build_{kind}",
        package=__package__,
        geometry=StreamGeometry(32000, 1, window_samples=64000, hop_samples=32000, delay_samples=0),
        buffer_kind="window",
        max_hops=1,
        output=TensorSpec(
            "scores", (1, 527), (0.0, 1.0), "probability of each label in labels.txt, independent of each other"
        ),
        parameters_millions=parameters_millions,
        paper="Kong et al., PANNs, IEEE/ACM TASLP 28 (2020), arXiv:1912.10211, on AudioSet (ICASSP 2017)",
        # In half the squares of a loud spectrum overflow (a full-scale tone has 65,536 in its bin), and scores below
        # 6e-8 are 0; reasons, not a measurement: there are no weights here to measure with.
        fp32_modules=("front_end", "sigmoid"),
        # Untuned, for want of weights.
        decisions={
            "window_hop_samples": 32000,
            "smoothing_windows": 1,
            "on_threshold": 0.4,
            "off_threshold": 0.2,
            "min_on_ms": 0.0,
            "min_off_ms": 1000.0,
            "per_label": {},
        },
        weights_from=f"zenodo record 3987831, {checkpoint}",
        labels_file="audioset_labels.txt",
        card_file=f"card-{kind}.md",
    )


PANNS_CNN14 = _panns("cnn14", "Cnn14", 80.75, "Cnn14_mAP=0.431.pth")
PANNS_MOBILENET = _panns("mobilenetv1", "MobileNetV1", 4.80, "MobileNetV1_mAP=0.389.pth")
