"""A .keras file to both formats: TensorFlow's converter and Keras' torch backend, compared with Keras itself."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hearpack
from converters.bundle.golden import read_golden
from converters.bundle.test_audio import street
from converters.custom import open_custom
from models.common.errors import MissingDependencyError, UsageError
from models.custom.geometry_toml import parse
from models.layers.front_end import Features
from runtimes.bundle import Bundle
from runtimes.engines import Choice, engines_for, open_runtime

MAKE = Path(__file__).resolve().parents[2] / "fixtures" / "custom" / "keras" / "make.py"
WINDOW, WINDOWS = 16000, 12
GEOMETRY: dict[str, dict[str, Any]] = {
    "conv1d": {
        "name": "keras-conv1d",
        "geometry": {"sample_rate_hz": 16000, "window_samples": WINDOW, "hop_samples": 8000},
        "labels": {"names": ["a", "b", "c", "d", "e"]},
    },
    "mel": {
        "name": "keras-mel",
        "geometry": {"sample_rate_hz": 16000, "window_samples": WINDOW, "hop_samples": 8000},
        "net": {"activation": "sigmoid"},
        "front_end": {
            "kind": "log_mel",
            "n_fft": 512,
            "window_samples": 400,
            "hop_samples": 160,
            "pad_window": "end",
            "bands": 40,
            "offset": 1e-3,
        },
        "labels": {"names": ["a", "b", "c", "d"]},
    },
}

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed: pip install 'hearpack[keras]'"
)


def run_keras(*arguments: object) -> None:
    """In a process of its own: Keras keeps the backend it was imported with."""
    done = subprocess.run([sys.executable, str(MAKE), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    run_keras("nets", folder)
    return folder


@pytest.fixture(scope="module")
def bundles(files: Path) -> dict[str, Bundle]:
    return {
        name: Bundle.open(hearpack.export(str(files / f"{name}.keras"), files, geometry=geometry).path)
        for name, geometry in GEOMETRY.items()
    }


def windows() -> np.ndarray:
    samples = street(16000)[: WINDOWS * WINDOW].reshape(WINDOWS, WINDOW)
    assert samples.std() > 1e-3
    return samples


def keras_scores(name: str, file: Path, folder: Path) -> np.ndarray:
    """What Keras with TensorFlow says of windows of a street."""
    audio = windows()
    if name == "conv1d":
        inputs = audio[:, :, None]
    else:
        spec = parse(GEOMETRY[name], "", "", keras=True).front_end
        assert spec is not None
        features = Features(spec, spec.frames(WINDOW))
        with torch.no_grad():
            frames = [features(torch.from_numpy(window[None]))[0].numpy() for window in audio]
        inputs = np.stack(frames)[..., None]
    np.save(folder / "in.npy", inputs)
    run_keras("predict", file, folder / "in.npy", folder / "out.npy")
    scores = np.load(folder / "out.npy")
    return scores if name == "conv1d" else 1.0 / (1.0 + np.exp(-scores))


@needs_tensorflow
@pytest.mark.parametrize("name", GEOMETRY)
def test_both_formats_say_what_keras_says(name: str, bundles: dict[str, Bundle], files: Path, tmp_path: Path) -> None:
    bundle = bundles[name]
    expected = keras_scores(name, files / f"{name}.keras", tmp_path)
    assert expected.std(0).max() > 0.01, "the net hardly reacts: parity would prove nothing"
    ids = {a.id for a in bundle.manifest.artefacts}
    assert ids == {"litert-fp32", "litert-fp16", "coreml-fp32", "coreml-fp16"}
    for artefact in bundle.manifest.artefacts:
        for engine in engines_for(artefact):
            runtime = open_runtime(bundle, Choice(artefact, engine))
            came = np.concatenate([runtime.step(window[None], runtime.reset())[0]["scores"] for window in windows()])
            runtime.close()
            limit = 1e-4 if artefact.id.endswith("fp32") else 1e-2
            assert np.abs(came - expected).max() <= limit, f"{artefact.id} on {engine}"


@needs_tensorflow
@pytest.mark.parametrize("name", GEOMETRY)
def test_verify_finds_the_file_again(name: str, bundles: dict[str, Bundle], files: Path) -> None:
    """A mapping is not kept anywhere, so the geometry has to be given again: here as a file."""
    import json

    toml = files / f"{name}.toml"
    lines = []
    for key, value in GEOMETRY[name].items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in value.items())]
        else:
            lines.insert(0, f"{key} = {json.dumps(value)}")
    toml.write_text("\n".join(lines))
    source = str(files / f"{name}.keras")
    report = hearpack.verify(bundles[name].path, seconds=4, original=source, geometry=toml)
    assert report.reference == "torch original"
    assert report.passed
    assert bundles[name].manifest.original.factory == f"{name}.keras"


@needs_tensorflow
def test_golden_vectors_react(bundles: dict[str, Bundle]) -> None:
    for bundle in bundles.values():
        assert read_golden(bundle)[0].output.std(0).max() > 0.01


@needs_tensorflow
def test_an_input_that_fits_no_layout_is_refused(files: Path) -> None:
    wrong = {**GEOMETRY["mel"], "front_end": {**GEOMETRY["mel"]["front_end"], "bands": 32}}
    with pytest.raises(UsageError, match=r"mel.keras: the model takes \[1, 98, 40, 1\]; the geometry gives one of"):
        open_custom(str(files / "mel.keras"), wrong)


@needs_tensorflow
def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.keras").write_text("no model")
    with pytest.raises(UsageError, match=r"bad.keras: cannot be loaded"):
        open_custom(str(tmp_path / "bad.keras"), GEOMETRY["conv1d"])


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.keras").write_text("")
    monkeypatch.setattr("converters.litert.keras.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"'keras'.*pip install 'hearpack\[keras\]'"):
        open_custom(str(tmp_path / "net.keras"), GEOMETRY["conv1d"])
