"""Two nets whose output can be said by hand, as a user's own: what the bundle's tests are written about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from converters.bundle.write import artefact_entry, build_manifest
from converters.spec import ExportSpec
from models.custom.entry import CustomEntry, CustomOriginal
from models.geometry import StateSpec, StreamGeometry, TensorSpec
from models.weights.store import WeightsFile
from runtimes.bundle import Manifest, Tolerance

RATE, HOP, DELAY, WINDOW = 8000, 64, 64, 160
WEIGHTS = WeightsFile(Path("net.pt"), "1" * 64)


class HalfAndLater(nn.Module):
    """Half as loud and a hop later; the hop is its state."""

    def forward(self, audio: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        return 0.5 * past, audio * 1.0

    def offline(self, audio: Tensor) -> Tensor:
        return 0.5 * torch.nn.functional.pad(audio, (DELAY, 0))[:, : audio.shape[1]]


class Loudness(nn.Module):
    """Scores of "loud" and "quiet" for a window, from its mean size."""

    def forward(self, audio: Tensor) -> Tensor:
        loud = torch.sigmoid(200.0 * (audio.abs().mean(1, keepdim=True) - 0.05))
        return torch.cat([loud, 1.0 - loud], 1)


def _entry(**fields: Any) -> CustomEntry:
    common: dict[str, Any] = {
        "summary": "a net that can be said by hand",
        "factory": "net.py:build",
        "parameters_millions": 0.25,
        "paper": "none",
        "original": CustomOriginal("net.py:build", "2" * 64, "1" * 64),
        "licence": "CC0-1.0",
        "citation": "nobody, 2026",
        "assumed": ("its licence was guessed",),
    }
    return CustomEntry(**(common | fields))


def enhancer() -> CustomEntry:
    return _entry(
        name="later",
        task="enhancer",
        geometry=StreamGeometry(RATE, 1, 2 * HOP, HOP, DELAY),
        buffer_kind="step",
        max_hops=1,
        output=TensorSpec("enhanced", (1, HOP), (-1.0, 1.0), "later"),
        states=(StateSpec("past", (1, HOP)),),
        form="step",
        net=HalfAndLater().eval(),
    )


def classifier() -> CustomEntry:
    return _entry(
        name="loudness",
        task="classifier",
        geometry=StreamGeometry(RATE, 1, WINDOW, WINDOW // 2, 0),
        buffer_kind="window",
        max_hops=1,
        output=TensorSpec("scores", (1, 2), (0.0, 1.0), "how loud"),
        decisions={"window_hop_samples": 80, "on_threshold": 0.6, "off_threshold": 0.4},
        labels=("loud", "quiet"),
        form="window",
        net=Loudness().eval(),
    )


def manifest_of(
    entry: Any, folder: Path, hops: int = 1, limits: tuple[Tolerance, ...] = (), weights: str = WEIGHTS.sha256
) -> Manifest:
    """Its manifest, with one artefact that is a file of text."""
    file = folder / "litert" / f"{entry.name}.fp32.tflite"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"not a net")
    artefact = artefact_entry(folder, file, "litert", "fp32", entry, limits)
    return build_manifest(ExportSpec(entry, hops), WeightsFile(WEIGHTS.path, weights), [artefact])
