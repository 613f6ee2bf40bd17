"""Two small manifests, a plain device and their config: 8 kHz everywhere, so that a sample is itself all the way."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from models.common.hashing import sha256_bytes
from runtimes.bundle import Manifest
from streaming.simulator.device.callbacks import Callback
from streaming.simulator.device.profile import DeviceProfile, load_profile
from streaming.simulator.pipeline.config import PipelineConfig
from streaming.simulator.pipeline.recorders import Recorders, make_recorders

RATE, HOP, DELAY, WINDOW = 8000, 64, 64, 160
SAMPLE_NS = 1_000_000_000 // RATE
LABELS = ("loud", "quiet")
LABELS_TEXT = "".join(f"{label}\n" for label in LABELS).encode()


def _manifest(**fields: Any) -> Manifest:
    file = {"path": "litert/net.fp32.tflite", "sha256": "0" * 64, "bytes": 4}
    common: dict[str, Any] = {
        "schema": "hearpack/1",
        "name": "net",
        "created_by": {"hearpack": "0", "toolchain": {}},
        "original": {"factory": "net.py:build", "weights_sha256": "0" * 64},
        "artefacts": [
            {
                "id": "litert-fp32",
                "format": "litert",
                "precision": {"weights": "fp32", "compute": "fp32"},
                "files": [file],
                "minimum_os": {"android_api": 26},
                "allowed_compute": ["cpu"],
                "tolerance": [],
            }
        ],
        "files": [{"path": "labels.txt", "sha256": sha256_bytes(LABELS_TEXT), "bytes": len(LABELS_TEXT)}],
        "weights": [{"source": "p", "version": "1", "sha256": "0" * 64, "licence": "MIT", "citation": "c"}],
    }
    return Manifest.model_validate(common | fields)


def _tensor(name: str, samples: int) -> dict[str, Any]:
    return {"name": name, "shape": [1, samples], "dtype": "float32", "range": [-1.0, 1.0], "meaning": ""}


ENHANCER = _manifest(
    task="enhancer",
    geometry={
        "sample_rate_hz": RATE,
        "channels": 1,
        "window_samples": 2 * HOP,
        "hop_samples": HOP,
        "delay_samples": DELAY,
    },
    buffer={"kind": "step", "hops_per_call": 1, "samples": HOP},
    inputs=[_tensor("audio", HOP)],
    outputs=[_tensor("enhanced", HOP)],
    states=[{"in": "line", "out": "line_out", "shape": [1, DELAY], "dtype": "float32", "reset": "zeros"}],
)
CLASSIFIER = _manifest(
    task="classifier",
    geometry={
        "sample_rate_hz": RATE,
        "channels": 1,
        "window_samples": WINDOW,
        "hop_samples": WINDOW // 2,
        "delay_samples": 0,
    },
    buffer={"kind": "window", "hops_per_call": 1, "samples": WINDOW},
    inputs=[_tensor("audio", WINDOW)],
    outputs=[_tensor("scores", 2)],
    states=[],
    decisions={"window_hop_samples": WINDOW // 2, "on_threshold": 0.6, "off_threshold": 0.4},
)
PROFILE: DeviceProfile = dataclasses.replace(
    load_profile("this-machine"),
    rate_hz=RATE,
    block_frames=(80, 80),
    output_rate_hz=RATE,
    output_block_frames=80,
    jitter_us=0.0,
)


def config(manifest: Manifest = ENHANCER, profile: DeviceProfile = PROFILE, **changes: Any) -> PipelineConfig:
    fields: dict[str, Any] = {
        "manifest": manifest,
        "labels": LABELS if manifest.task == "classifier" else (),
        "profile": profile,
        "policy": "drop_oldest",
        "ring_samples": 4000,
        "prefill_samples": 160,
    }
    return PipelineConfig(**(fields | changes))


def figures(seconds: float = 1.0) -> Recorders:
    """Recorders that keep figures only."""
    return make_recorders(None, round(seconds * 1e9), RATE, RATE, enhancer=True, audio=False)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def callback(first: int, frames: int, lost: int = 0, rate: int = RATE, reason: str = "") -> Callback:
    """A callback whose first frame was captured at its own time, and which comes when its last one has been."""
    captured = first * 1_000_000_000 // rate
    return Callback(captured + frames * 1_000_000_000 // rate, frames, rate, first, captured, lost, reason)
