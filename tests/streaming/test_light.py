"""streaming stays light: importing it brings in no converter, no torch, and not even an audio library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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
        "import importlib, pkgutil, streaming, sys\n"
        "names = [m.name for m in pkgutil.walk_packages(streaming.__path__, 'streaming.')]\n"
        "assert len(names) > 50\n"
        "for name in names: importlib.import_module(name)\n"
        f"print(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
