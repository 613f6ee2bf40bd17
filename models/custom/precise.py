"""What of a user's net stays in float32 in fp16 artefacts."""

from __future__ import annotations

from collections.abc import Callable

from models.custom.entry import CustomEntry
from models.graph.builder import Origin

# Sums over a recording, features in front, what gives probabilities.
KINDS = ("CumulativeNorm", "CausalFeatures", "Features", "STFT", "ISTFT", "ActivationLayer")


def precise_modules(entry: CustomEntry) -> Callable[[Origin], bool]:
    """Whether what stands there stays in float32: parts of ours that always do, and those that the user named."""
    named = entry.fp32_named

    def keep(origin: Origin) -> bool:
        inside = any(origin.module == path or origin.module.startswith(f"{path}.") for path in named)
        return inside or any(kind in KINDS for _, kind in origin.kinds)

    return keep
