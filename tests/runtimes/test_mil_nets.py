"""The catalogue's nets as packages in the evaluator, compared with torch on real sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")
soundfile = pytest.importorskip("soundfile")

from converters.coreml.convert import CoreMLMetadata, convert  # noqa: E402
from models import pretrained  # noqa: E402
from models.catalog import find  # noqa: E402
from models.common.errors import FetchError  # noqa: E402
from runtimes.mil import MilRuntime  # noqa: E402
from runtimes.torch import load_net  # noqa: E402

AUDIO = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "audio"


@pytest.fixture(scope="session")
def speech() -> np.ndarray[Any, Any]:
    """Two seconds of sound at 16 kHz."""
    for path in sorted(AUDIO.rglob("*.wav")) if AUDIO.is_dir() else []:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        if rate == 16000 and len(samples) >= 32000 and np.abs(samples[:32000, 0]).max() > 0.05:
            return np.ascontiguousarray(samples[:32000, 0])
    pytest.skip("no 16 kHz audio in ../shared/data/audio")


def exported(name: str, folder: Path) -> tuple[Any, MilRuntime, Any]:
    entry = find(name)
    try:
        pretrained.pull(name)
    except FetchError as exc:
        pytest.skip(f"weights of {name} cannot be fetched: {exc}")
    graph = entry.load_graph(load_net(entry, pretrained.load(name)), 1)
    signature = entry.signature(1)
    path = folder / f"{name}.mlpackage"
    convert(graph, signature, "fp32", (), path, CoreMLMetadata("net", "author", "licence", "1", entry.geometry))
    return graph, MilRuntime(path, signature), signature


def test_yamnet_scores_equal_torch(tmp_path: Path, speech: np.ndarray[Any, Any]) -> None:
    graph, runtime, _ = exported("yamnet", tmp_path)
    seen = []
    for start in (0, 7680, 15600):
        block = speech[None, start : start + 15600]
        outputs, _ = runtime.step(block, runtime.reset())
        with torch.no_grad():
            expected = graph(torch.from_numpy(block))[0].numpy()
        np.testing.assert_allclose(outputs["scores"], expected, atol=1e-5)
        seen.append(outputs["scores"])
    assert np.abs(seen[0] - seen[2]).max() > 1e-3


def test_dtln_stream_equals_torch(tmp_path: Path, speech: np.ndarray[Any, Any]) -> None:
    graph, runtime, signature = exported("dtln", tmp_path)
    state = runtime.reset()
    reference = [torch.zeros(s.shape) for s in signature.states]
    got, expected = [], []
    for start in range(0, len(speech), 128):
        block = speech[None, start : start + 128]
        outputs, state = runtime.step(block, state)
        got.append(outputs["enhanced"])
        with torch.no_grad():
            y, *reference = graph(torch.from_numpy(block), *reference)
        expected.append(y.numpy())
    clean, error = np.concatenate(expected, 1), np.concatenate(got, 1) - np.concatenate(expected, 1)
    assert np.abs(clean).max() > 0.01
    assert 10 * np.log10(np.sum(clean**2) / max(np.sum(error**2), 1e-30)) >= 110
