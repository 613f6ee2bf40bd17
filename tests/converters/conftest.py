"""Shared by the converter tests: small nets, and the real YAMNet converted once a session."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FILES = Path(__file__).resolve().parents[1] / "fixtures" / "tflite"
# In a process of its own: MediaPipe aborts on files that it dislikes.
_MEDIAPIPE = """
import json, sys
import numpy as np
from mediapipe.tasks.python import audio
from mediapipe.tasks.python.components.containers.audio_data import AudioData
from mediapipe.tasks.python.core.base_options import BaseOptions
model, samples, rate = sys.argv[1:]
options = audio.AudioClassifierOptions(
    base_options=BaseOptions(model_asset_path=model), running_mode=audio.RunningMode.AUDIO_CLIPS)
with audio.AudioClassifier.create_from_options(options) as classifier:
    results = classifier.classify(AudioData.create_from_array(np.load(samples), int(rate)))
print(json.dumps([
    {c.index: [c.category_name, c.score] for c in result.classifications[0].categories} for result in results]))
"""


@pytest.fixture(scope="session")
def nets() -> ModuleType:
    """tests/fixtures/tflite/nets.py."""
    spec = importlib.util.spec_from_file_location("hearpack_test_nets", FILES / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Converted:
    """The real YAMNet: graph, and its files with metadata."""

    graph: Any
    fp32: bytes
    fp16: bytes
    kept: dict[str, str]
    labels: tuple[str, ...]


@pytest.fixture(scope="session")
def yamnet_files() -> Converted:
    """Real weights, converted once."""
    from converters.litert.convert import convert, halve
    from converters.litert.metadata import add_mediapipe_metadata
    from models import pretrained
    from models.nets.yamnet import net as yamnet
    from models.nets.yamnet.entry import YAMNET

    graph = yamnet.graph(yamnet.build(pretrained.load("yamnet")))
    labels = pretrained.labels("yamnet")
    plain = convert(graph, YAMNET.signature(1), "fp32")
    half = halve(plain, graph, YAMNET.signature(1), YAMNET.fp32_modules)
    facts = ("yamnet", "audio events", "1", "Apache-2.0", "Google")
    files = [add_mediapipe_metadata(data, labels, 16000, 1, *facts) for data in (plain, half.tflite)]
    return Converted(graph, files[0], files[1], half.kept, labels)


@pytest.fixture(scope="session")
def mediapipe_scores(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes, np.ndarray, int], list[Any]]:
    """Runs MediaPipe's AudioClassifier on a clip: one {index: (label, score)} a window."""
    probe = subprocess.run(
        [sys.executable, "-c", "from mediapipe.tasks.python import audio; audio.AudioClassifier"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if probe.returncode:
        pytest.skip(f"MediaPipe cannot be imported here: {(probe.stderr.strip().splitlines() or ['?'])[-1]}")

    def scores(tflite: bytes, samples: np.ndarray, rate_hz: int) -> list[dict[int, tuple[str, float]]]:
        folder = tmp_path_factory.mktemp("mediapipe")
        (folder / "model.tflite").write_bytes(tflite)
        np.save(folder / "samples.npy", samples)
        command = [sys.executable, "-c", _MEDIAPIPE, str(folder / "model.tflite"), str(folder / "samples.npy")]
        done = subprocess.run([*command, str(rate_hz)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return [{int(k): (v[0], v[1]) for k, v in window.items()} for window in json.loads(done.stdout)]

    return scores
