"""Hostile .keras files are refused with a sentence before Keras sees them (reliability review, F15)."""

from __future__ import annotations

import copy
import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from converters.custom import open_custom
from converters.litert import keras_file
from converters.litert.keras_file import check_keras_file
from models.common.errors import UsageError

GEOMETRY: dict[str, Any] = {
    "name": "dense",
    "geometry": {"sample_rate_hz": 16000, "window_samples": 16000, "hop_samples": 8000},
    "labels": {"names": ["a", "b", "c"]},
}
ZEROS = {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}
INPUT = {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 16000], "name": "in"}}
DENSE = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {"name": "scores", "units": 3, "activation": "softmax", "bias_initializer": ZEROS},
    "registered_name": None,
}
MODEL = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {"name": "sequential", "layers": [INPUT, DENSE]},
    "compile_config": {"loss": {"module": "builtins", "class_name": "function", "config": "mse"}},
}


def write(file: Path, config: Any, entries: dict[str, bytes] | None = None, **options: Any) -> Path:
    with zipfile.ZipFile(file, "w", **options) as out:
        out.writestr("metadata.json", "{}")
        out.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        out.writestr("model.weights.h5", b"none")
        for name, data in (entries or {}).items():
            out.writestr(name, data)
    return file


def with_layer(**layer: Any) -> dict[str, Any]:
    config = copy.deepcopy(MODEL)
    config["config"]["layers"].insert(1, layer)  # type: ignore[index]
    return config


def with_dense(**settings: Any) -> dict[str, Any]:
    config = copy.deepcopy(MODEL)
    config["config"]["layers"][1]["config"] |= settings  # type: ignore[index]
    return config


def test_a_plain_model_passes(tmp_path: Path) -> None:
    check_keras_file(write(tmp_path / "net.keras", MODEL, {"assets/a.txt": b"x"}))


LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {"name": "l", "function": {"class_name": "__lambda__"}},
}
SYSTEM = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
POPEN = {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", "PWNED"]}, "registered_name": None}
LOAD = {"module": "keras.models", "class_name": "function", "config": "load_model", "registered_name": "function"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (with_layer(**LAMBDA), "layer 'l' is a 'Lambda', which holds a Python function: code"),
        (with_dense(activation=SYSTEM), "layer 'scores' is a 'function', which holds a function by its name"),
        (with_dense(activation=LOAD), "layer 'scores' is a 'function'"),
        (with_dense(kernel_initializer={"config": {"deep": [[POPEN]]}}), "'subprocess'.Popen, which is not Keras' own"),
        (with_layer(**POPEN), "is 'subprocess'.Popen, which is not Keras' own"),
        (with_layer(module="keras.layers", class_name="TFSMLayer", config={}), "a SavedModel from elsewhere"),
        (with_layer(module="keras.layers", class_name="TorchModuleWrapper", config={}), "a pickled torch module"),
        (with_layer(module="kerasx", class_name="Dense", config={}), "'kerasx'.Dense, which is not Keras' own"),
        (with_layer(module="builtins", class_name="eval", config="1"), "'builtins'.eval"),
        (with_layer(module=7, class_name="Dense", config={}), "7.Dense, which is not Keras' own"),
        (with_layer(module="keras", class_name=["Dense"], config={}), "no name"),
        ([1], "its config.json is no object"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "net.keras: cannot be loaded"),
    ],
)
def test_code_in_a_configuration_is_refused_by_name(config: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^net\.keras: ") as caught:
        check_keras_file(write(tmp_path / "net.keras", config))
    assert message in str(caught.value)


def test_hidden_state_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    recurrent = {"module": "keras.layers", "class_name": "LSTM", "config": {"name": "memory", "stateful": False}}
    check_keras_file(write(tmp_path / "net.keras", with_layer(**recurrent)))
    recurrent["config"] = {"name": "memory", "stateful": True}
    with pytest.raises(UsageError, match=r"layer 'memory' has stateful=True.*build it with stateful=False"):
        check_keras_file(write(tmp_path / "net.keras", with_layer(**recurrent)))


@pytest.mark.parametrize("name", ["../../evil.txt", "/abs.txt", "assets/../../x", "C:\\x", "..\\x", "other.py"])
def test_entries_outside_or_unknown_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"would lie outside of the folder|which Keras does not write"):
        check_keras_file(write(tmp_path / "net.keras", MODEL, {name: b"x"}))


def test_bombs_and_damage_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "net.keras", MODEL, {"assets/a": bytes(3_000_000)}, compression=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(keras_file, "MOST_BYTES", 2_000_000)
    with pytest.raises(UsageError, match=r"it unpacks to 3000[0-9]+ bytes, at most 2000000 are read"):
        check_keras_file(file)
    monkeypatch.setattr(keras_file, "MOST_CONFIG_BYTES", 10)
    with pytest.raises(UsageError, match=r"expected a config.json of at most 10 bytes"):
        check_keras_file(write(tmp_path / "net.keras", MODEL))
    (tmp_path / "net.keras").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))  # the old format, which has no safe mode
    with pytest.raises(UsageError, match="it cannot be read as a zip"):
        check_keras_file(tmp_path / "net.keras")


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed: pip install 'hearpack[keras]'"
)
@pytest.mark.parametrize("attack", [with_layer(**LAMBDA), with_dense(activation=SYSTEM), with_layer(**POPEN)])
def test_keras_itself_refuses_them_too(attack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our look at the file: the version that is installed, in safe mode."""
    monkeypatch.setattr("converters.litert.keras.check_keras_file", lambda file: None)
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "net.keras", attack)
    with pytest.raises(UsageError, match=r"net\.keras: cannot be loaded"):
        open_custom(str(file), GEOMETRY)
    assert not (tmp_path / "PWNED").exists()


def test_the_lower_bound_is_that_of_the_package() -> None:
    import tomllib

    root = Path(__file__).resolve().parents[3]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"keras>={'.'.join(map(str, keras_file.LOWEST_VERSION))}" in extras["keras"]
