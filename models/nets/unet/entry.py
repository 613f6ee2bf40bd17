"""What The U-Net separator declares: shapes, states, what stays in float32, decisions. Light: no torch."""

from __future__ import annotations

from models.entry import ModelEntry
from models.geometry import StateSpec, StreamGeometry, TensorSpec


def unet_separator(width: int) -> ModelEntry:
    """The separator with `width` channels in its first layer: the catalogue's has 16, tests take fewer."""
    return ModelEntry(
        name="unet-separator",
        task="separator",
        summary="vocals, drums, bass, other from stereo, mask U-Net, 44.1 kHz; no pretrained weights; bring your own",
        factory="models.unet:build",
        package=__package__,
        geometry=StreamGeometry(44100, 2, window_samples=2048, hop_samples=512, delay_samples=1536),
        buffer_kind="step",
        max_hops=4,
        output=TensorSpec("vocals", (1, 2, 512), (-1.0, 1.0), "its share of the mix, delay_samples behind `audio`"),
        parameters_millions=0.94,
        paper="after Jansson et al., Singing Voice Separation with Deep U-Net Convolutional Networks, ISMIR 2017",
        states=(
            StateSpec("samples", (1, 2, 1536)),
            # of vocals, drums, bass and other
            StateSpec("overlap", (4, 2, 1536)),
            # What the five causal convolutions look back at, channels last.
            StateSpec("context1", (1, 2, 1025, 2)),
            StateSpec("context2", (1, 2, 513, width)),
            StateSpec("context3", (1, 4, 257, 2 * width)),
            StateSpec("context4", (1, 4, 129, 4 * width)),
            StateSpec("context5", (1, 8, 65, 8 * width)),
        ),
        # By reasoning, for want of weights: in half the squares of a loud spectrum overflow.
        fp32_modules=("front_end", "back_end"),
        sources=("vocals", "drums", "bass", "other"),
    )


UNET_SEPARATOR = unet_separator(16)
