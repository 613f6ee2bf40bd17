"""Models and weights: .tflite, .mlpackage, safetensors, checkpoints, and the arrays that `predict` is given."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.bundles import FIXTURES, MODEL, make_bundle, write_list
from tests.fuzz.kinds import Kind
from tests.fuzz.mutate import damage_bytes, damage_json, damage_zip

_TFLITE = ("step.tflite", "window.tflite", "aliased.tflite", "labelled.tflite")


def _make_tflite(folder: Path) -> None:
    from converters.litert.metadata import add_mediapipe_metadata

    for name in _TFLITE[:3]:
        shutil.copyfile(FIXTURES / "tflite" / name, folder / name)
    plain = (FIXTURES / "tflite" / "window.tflite").read_bytes()
    facts = ("tiny", "sounds", "1", "MIT", "nobody")
    labelled = add_mediapipe_metadata(plain, ("a", "b", "c", "d", "e"), 16_000, 1, *facts)
    (folder / "labelled.tflite").write_bytes(labelled)


def _read_tflite(folder: Path, _random: Random) -> None:
    from runtimes.inspect.tflite import describe

    for name in _TFLITE:
        describe(folder / name)


def _make_tflite_bundle(folder: Path) -> None:
    make_bundle(folder / "tiny-256.hearpack")


def _relist(folder: Path) -> None:
    write_list(folder / "tiny-256.hearpack")


def _run_tflite(folder: Path, random: Random) -> None:
    from streaming.files.stream_file import run

    engine = random.choice(("litert-interpreter", "litert-compiled"))
    run(folder / "tiny-256.hearpack", folder / "sound.wav", output=folder / "events.csv", engine=engine)


def _make_mlpackage(folder: Path) -> None:
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813 -- its usual name
    from coremltools.converters.mil.mil import types

    weight = np.random.default_rng(1).standard_normal((8, 16)).astype(np.float32)

    @mb.program(
        input_specs=[mb.TensorSpec((1, 16)), mb.StateTensorSpec((1, 8), types.fp16)], opset_version=ct.target.iOS18
    )
    def program(audio, h):  # type: ignore[no-untyped-def]
        value = mb.cast(x=mb.read_state(input=h), dtype="fp32")
        new = mb.tanh(x=mb.add(x=mb.linear(x=audio, weight=weight), y=value))
        mb.coreml_update_state(state=h, value=mb.cast(x=new, dtype="fp16"))
        stacked = mb.concat(values=[new, mb.relu(x=new)], axis=1)
        return mb.softmax(x=mb.reshape(x=stacked, shape=[1, 16]), axis=-1, name="scores")

    # The state's cast would be folded otherwise; small weights go into weight.bin all the same.
    model = ct.convert(program, minimum_deployment_target=ct.target.iOS18, convert_to="mlprogram")
    model.save(str(folder / "net.mlpackage"))
    np.savez(folder / "inputs.npz", audio=np.zeros((1, 16), np.float32))


def _read_mlpackage(folder: Path, _random: Random) -> None:
    from runtimes.inspect.mlpackage import describe
    from streaming.files.predict import predict

    describe(folder / "net.mlpackage")
    predict(folder / "net.mlpackage", folder / "inputs.npz", folder / "outputs.npz")


def _make_weights(folder: Path) -> None:
    import torch
    from safetensors.numpy import save_file

    arrays = {f"layer{n}.weight": np.random.default_rng(n).random((4, 3)).astype(np.float32) for n in range(3)}
    save_file(arrays, folder / "weights.safetensors")
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    torch.save({"state_dict": tensors, "epoch": 3}, folder / "zip.pt")
    torch.save(tensors, folder / "old.pt", _use_new_zipfile_serialization=False)


def _read_weights(folder: Path, _random: Random) -> None:
    from models.weights.checkpoint import load_file

    for name in ("weights.safetensors", "zip.pt", "old.pt"):
        load_file(folder / name)


_WEIGHTS = "net.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
_MODEL = "net.mlpackage/Data/com.apple.CoreML/model.mlmodel"
KINDS = (
    Kind("tflite", _make_tflite, tuple((name, damage_bytes) for name in _TFLITE), _read_tflite, suite=500),
    Kind(
        "tflite_run",
        _make_tflite_bundle,
        ((f"tiny-256.hearpack/{MODEL}", damage_bytes),),
        _run_tflite,
        after=_relist,
        suite=8,
    ),
    Kind(
        "mlpackage",
        _make_mlpackage,
        (
            *((_MODEL, damage_bytes),) * 4,
            (_WEIGHTS, damage_bytes),
            ("net.mlpackage/Manifest.json", damage_json),
        ),
        _read_mlpackage,
        suite=200,
    ),
    Kind("npz", _make_mlpackage, (("inputs.npz", damage_zip),), _read_mlpackage, suite=200),
    Kind(
        "weights",
        _make_weights,
        (
            ("weights.safetensors", damage_bytes),
            ("zip.pt", damage_zip),
            ("zip.pt", damage_bytes),
            ("old.pt", damage_bytes),
        ),
        _read_weights,
        suite=300,
    ),
)
