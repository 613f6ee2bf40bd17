"""Figures of a runtime beside a reference: equal ones lose nothing, a worse one loses what was put in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.quality.judge import Judge, names_for
from converters.quality.labelled import Labelled
from converters.quality.pairs import Pair
from models.common.errors import UsageError
from models.geometry import GraphSignature
from runtimes.bundle import Manifest
from runtimes.protocol import Array, OpenedRuntime, Outputs, RuntimeInfo, State
from streaming.files.wav import write_wav

RATE = 16000


def _pairs(count: int = 4) -> list[Pair]:
    generator = np.random.default_rng(3)
    pairs = []
    for n in range(count):
        envelope = np.repeat(generator.uniform(0.0, 0.2, 20), RATE // 10)
        clean = (envelope * generator.standard_normal(2 * RATE)).astype(np.float32)
        noisy = clean + 0.02 * generator.standard_normal(2 * RATE).astype(np.float32)
        pairs.append(Pair(f"p{n}", clean, noisy, RATE))
    return pairs


class Fake(OpenedRuntime):
    """A runtime that computes with numpy."""

    def __init__(self, signature: GraphSignature, compute: Callable[[Array], Array]) -> None:
        super().__init__(signature, RuntimeInfo("fake", "1", "numpy"))
        self.compute = compute

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        name = self.signature.outputs[0].name
        return {name: self.compute(block).astype(np.float32)}, state

    def close(self) -> None:
        """Nothing is held."""


def _manifest(task: str, labels: int = 0) -> Manifest:
    """A net without state that takes 160 samples."""
    out = {"name": "enhanced", "shape": [1, 160], "dtype": "float32", "range": [-1, 1], "meaning": "speech"}
    if labels:
        out = {"name": "scores", "shape": [1, labels], "dtype": "float32", "range": [0, 1], "meaning": "scores"}
    decisions: dict[str, Any] = {
        "window_hop_samples": 160,
        "smoothing_windows": 1,
        "on_threshold": 0.5,
        "off_threshold": 0.5,
        "min_on_ms": 0.0,
        "min_off_ms": 0.0,
        "per_label": {},
    }
    return Manifest.model_validate(
        {
            "schema": "hearpack/1",
            "name": "fake",
            "task": task,
            "created_by": {"hearpack": "0", "toolchain": {}},
            "original": {"factory": "fake:fake", "weights_sha256": "0" * 64},
            "geometry": {
                "sample_rate_hz": RATE,
                "channels": 1,
                "window_samples": 160,
                "hop_samples": 160,
                "delay_samples": 0,
            },
            "buffer": {"kind": "step", "hops_per_call": 1, "samples": 160},
            "inputs": [
                {"name": "audio", "shape": [1, 160], "dtype": "float32", "range": [-1, 1], "meaning": "waveform"}
            ],
            "outputs": [out],
            "states": [],
            "decisions": decisions if labels else None,
            "artefacts": [
                {
                    "id": "litert-fp32",
                    "format": "litert",
                    "precision": {"weights": "fp32", "compute": "fp32"},
                    "files": [{"path": "litert/fake.fp32.tflite", "sha256": "0" * 64, "bytes": 1}],
                    "minimum_os": {"android_api": 26},
                    "allowed_compute": ["cpu"],
                    "io": {},
                    "state_mode": "explicit",
                    "tolerance": [],
                }
            ],
            "files": [],
            "weights": [{"source": "p", "version": "1", "sha256": "0" * 64, "licence": "MIT", "citation": "c"}],
        }
    )


def _runtime(manifest: Manifest, compute: Callable[[Array], Array]) -> Fake:
    return Fake(manifest.signature, compute)


def test_an_equal_enhancer_loses_nothing_and_a_noisier_one_what_was_added() -> None:
    manifest = _manifest("enhancer")
    judge = Judge(manifest, (), _runtime(manifest, lambda block: block), _pairs(), names=("si_sdr", "lsd"))
    same = judge.figures(_runtime(manifest, lambda block: block))
    assert set(same) == {"si_sdr", "lsd"}
    assert all(series.loss == 0.0 and series.low == series.high == 0.0 for series in same.values())
    added = 0.05 * np.random.default_rng(1).standard_normal(160)
    worse = judge.figures(_runtime(manifest, lambda block: block + added))
    for series in worse.values():
        assert series.loss > 0.5
        assert series.low <= series.difference <= series.high
    assert worse["si_sdr"].difference < 0.0 < worse["lsd"].difference
    part = judge.figures(_runtime(manifest, lambda block: block + added), clips=[2])
    assert part["si_sdr"].values.tolist() == [worse["si_sdr"].values[2]]


def test_a_net_that_gives_no_numbers_is_as_bad_as_silence() -> None:
    manifest = _manifest("enhancer")
    judge = Judge(manifest, (), _runtime(manifest, lambda block: block), _pairs(2), names=("si_sdr",))
    assert judge.figures(_runtime(manifest, lambda block: np.full_like(block, np.nan)))["si_sdr"].loss > 50.0


def _loudness(block: Array) -> Array:
    """Two labels: loud, and soft."""
    loud = np.clip(10.0 * np.sqrt(np.mean(block**2)), 0.0, 1.0)
    return np.array([[loud, 1.0 - loud]])


def test_a_classifiers_decisions_are_compared_window_by_window() -> None:
    manifest = _manifest("classifier", labels=2)
    judge = Judge(manifest, ("loud", "soft"), _runtime(manifest, _loudness), _pairs())
    assert judge.names == ("top1", "top5", "decisions", "score_error")
    same = judge.figures(_runtime(manifest, _loudness))
    assert [same[name].values.mean() for name in judge.names] == [100.0, 100.0, 100.0, 0.0]
    other = judge.figures(_runtime(manifest, lambda block: np.clip(_loudness(block) + np.array([0.2, -0.2]), 0.0, 1.0)))
    assert 0.0 < other["decisions"].values.mean() < 100.0
    assert other["top1"].values.mean() == other["decisions"].values.mean()  # two labels, threshold a half
    assert other["top5"].values.mean() == 100.0
    assert 0.0 < other["score_error"].loss < 0.2  # where both are 1, nothing was added


def test_a_labelled_folder_gives_accuracy(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    clips = []
    for index, level in enumerate((0.2, 0.2, 0.01, 0.01)):
        file = tmp_path / f"{index}.wav"
        write_wav(file, (level * generator.standard_normal((1, 4000))).astype(np.float32), RATE)
        clips.append((file, int(level < 0.1)))
    labelled = Labelled(tmp_path, ("loud", "soft"), ((0,), (1,)), tuple(clips))
    manifest = _manifest("classifier", labels=2)
    judge = Judge(manifest, ("loud", "soft"), _runtime(manifest, _loudness), _pairs(1), labelled)
    right = judge.figures(_runtime(manifest, _loudness))
    assert (right["accuracy"].values.mean(), right["map"].values.tolist()) == (100.0, [100.0])
    deaf = judge.figures(_runtime(manifest, lambda _block: np.array([[0.4, 0.6]])))
    assert deaf["accuracy"].difference == -50.0
    assert deaf["accuracy"].loss == 50.0
    part = judge.figures(_runtime(manifest, lambda _block: np.array([[0.4, 0.6]])), labelled=[0, 2])
    assert part["accuracy"].values.tolist() == [0.0, 100.0]


def test_what_has_no_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave the labelled folder out"):
        names_for(_manifest("enhancer"), Labelled(tmp_path, (), (), ()))
    embedder = _manifest("enhancer").model_copy(update={"task": "embedder"})
    with pytest.raises(UsageError, match="of one channel; compare this embedder"):
        names_for(embedder, None)
