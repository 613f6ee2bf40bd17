"""What GTCRN declares: shapes, states, what stays in float32, decisions. Light: no torch."""

from __future__ import annotations

from models.entry import ModelEntry
from models.geometry import StateSpec, StreamGeometry, TensorSpec

GTCRN = ModelEntry(
    name="gtcrn",
    task="enhancer",
    summary="speech enhancement with 24 k parameters, 16 ms hops at 16 kHz",
    factory="models.gtcrn:build",
    package=__package__,
    geometry=StreamGeometry(16000, 1, window_samples=512, hop_samples=256, delay_samples=256),
    buffer_kind="step",
    max_hops=8,
    output=TensorSpec(
        "enhanced", (1, 256), (-1.0, 1.0), "the waveform with noise removed, delay_samples behind `audio`"
    ),
    parameters_millions=0.0237,
    paper="Rong et al., GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources, ICASSP 2024",
    states=(
        StateSpec("samples", (1, 256)),
        StateSpec("overlap", (1, 256)),
        # What the dilated convolutions look back at: 2, 4 and 10 frames in the encoder, 10, 4 and 2 in the decoder.
        StateSpec("encoder_frames", (1, 16, 33, 16)),
        StateSpec("decoder_frames", (1, 16, 33, 16)),
        # Six attentions of 16 units in a row, and the two recurrences along time.
        StateSpec("attention", (1, 96)),
        StateSpec("recurrent", (2, 33, 16)),
    ),
    # The fp16 package in the evaluator over speech, -60 dBFS and clipped speech: 78, 55, 67 dB with these in float32;
    # 43, 24 and 41 dB with none (the attentions' energies are sums of squares). Left in half are the bands and the last
    # two convolutions: the net is so small that nothing is gained by more. Half weights in down2 alone cost 15 dB.
    fp32_modules=(
        "front_end",
        "down1",
        "down2",
        "encoder1",
        "encoder2",
        "encoder3",
        "dual1",
        "dual2",
        "decoder1",
        "decoder2",
        "decoder3",
        "mask",
        "back_end",
    ),
    # Arithmetic in half is what the others lose by; their weights are not.
    uncompressed=("front_end", "mask", "back_end"),
)
