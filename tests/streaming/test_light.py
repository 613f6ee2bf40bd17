"""streaming stays light: importing it brings in no converter, no torch, and not even an audio library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("wav", "resample", "act", "loop", "parity", "stress")
MODULES += ("record", "calibration", "device", "simulate", "session", "fit", "microphone", "wall", "live")
MODULES += (
    "page_cache",
    "coldstart",
    "coldstart_advice",
    "calibrate",
    "detection",
    "labelled",
    "tune",
    "stats",
    "advise",
)
MODULES += ("gate", "gate_figures", "compare", "charts", "report")
HEAVY = (
    "torch",
    "coremltools",
    "litert_torch",
    "ai_edge_litert",
    "tensorflow",
    "scipy",
    "soundfile",
    "soxr",
    "librosa",
    "sounddevice",
    "rich",
)


def test_import_is_light() -> None:
    script = (
        f"import importlib, sys\nfor name in {MODULES!r}: importlib.import_module('streaming.' + name)\n"
        f"print(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
