"""A user's .keras file: to torch for Core ML and the original, to LiteRT by TensorFlow's own converter.

Keras takes its backend when it is imported and keeps it, so both happen in processes of their own
(converters/litert/keras_worker.py):
KERAS_BACKEND=torch traces the model, which then goes the same way as any torch net; KERAS_BACKEND=tensorflow converts
it. The two meet when the .tflite is compared with the traced net, that is with another backend's arithmetic.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.checks import refuse_aliasing
from converters.litert.convert import prove_runs
from converters.litert.keras_file import check_keras_file
from converters.litert.tflite_edit import cast_to_half
from models.common.errors import ConversionError, MissingDependencyError, UsageError
from models.common.hashing import sha256_file
from models.common.temporary import scratch
from models.custom.entry import CustomEntry
from models.custom.geometry_toml import parse
from models.custom.loading import Target
from models.layers.front_end_spec import FEATURE_LAYOUTS, WAVEFORM_LAYOUTS

if TYPE_CHECKING:
    from torch import nn

_ROOT = Path(__file__).resolve().parents[2]
_PURPOSES = {
    "torch": ("keras", "reading a .keras file"),
    "tflite": ("tensorflow", "converting a .keras file to .tflite"),
}


def open_keras(target: Target, tables: Mapping[str, Any], where: str) -> tuple[CustomEntry, nn.Module, str]:
    """Load a .keras file through Keras' torch backend.

    Args:
        target: the file.
        tables: its geometry.toml.
        where: name of that, for messages.

    Returns:
        the entry that the geometry describes, fitted to the model's input; the traced net; the file's sha256.

    Raises:
        UsageError: the file cannot be loaded, or its input fits no layout of the geometry's window.
        MissingDependencyError: keras is not installed.
    """
    import torch

    entry = parse(tables, where, target.stem, keras=True)
    with scratch("keras") as folder:
        out = folder / "net.pt"
        facts = _work("torch", Path(target.module), out, {})
        load: Any = torch.jit.load  # untyped in torch
        net: nn.Module = load(str(out))
    entry = _fit_layout(entry, tuple(facts["input_shape"]), target.factory, "layout" in tables.get("net", {}))
    return entry, net, sha256_file(Path(target.module))


def convert(entry: CustomEntry, file: Path) -> bytes:
    """The fp32 .tflite of a .keras file, with our names, front end included, by TensorFlow's converter.

    Args:
        entry: of form "keras".
        file: the .keras file that the entry was opened from.

    Raises:
        ConversionError: TensorFlow cannot convert the model, or the file does not run.
        MissingDependencyError: tensorflow is not installed.
    """
    signature = entry.signature(1)
    request = {
        "samples": entry.geometry.window_samples,
        "layout": entry.layout,
        "activation": entry.activation,
        "output": entry.output.name,
        "labels": len(entry.labels),
        "front_end": None if entry.front_end is None else dataclasses.asdict(entry.front_end),
    }
    with scratch("keras") as folder:
        out = folder / "model.tflite"
        _work("tflite", file, out, request)
        tflite = out.read_bytes()
    refuse_aliasing(tflite)
    prove_runs(tflite, signature)
    return tflite


def halve(entry: CustomEntry, tflite: bytes) -> bytes:
    """The fp16 form of a file of `convert`; the front end's matrices stay in float32."""
    report = cast_to_half(tflite, lambda names: "belongs to front_end" if "front_end" in names else None)
    if entry.front_end is not None and not report.kept:
        raise ConversionError("no constant of the front end was found in the converted file; report this net")
    prove_runs(report.tflite, entry.signature(1))
    return report.tflite


def _fit_layout(entry: CustomEntry, shape: tuple[int, ...], who: str, said: bool) -> CustomEntry:
    """The layout in which the features, or the samples, have the shape that the model takes."""
    shapes = _layout_shapes(entry)
    wanted = entry.layout if said else next((name for name, offered in shapes.items() if offered == shape), "")
    if shapes.get(wanted) != shape:
        offers = ", ".join(f"{name} {list(offered)}" for name, offered in shapes.items())
        raise UsageError(f"{who}: the model takes {list(shape)}; the geometry gives one of: {offers}")
    assumed = entry.assumed if said else (*entry.assumed, f"net.layout: {wanted} (from the model's input)")
    front_end = entry.front_end and dataclasses.replace(entry.front_end, layout=wanted)
    return dataclasses.replace(entry, layout=wanted, front_end=front_end, assumed=assumed)


def _layout_shapes(entry: CustomEntry) -> dict[str, tuple[int, ...]]:
    if entry.front_end is None:
        samples = entry.geometry.window_samples
        return dict(zip(WAVEFORM_LAYOUTS, ((1, samples), (1, 1, samples), (1, samples, 1)), strict=True))
    frames, values = entry.front_end.frames(entry.geometry.window_samples), entry.front_end.values
    shapes = {}
    for layout in FEATURE_LAYOUTS:
        inner = (values, frames) if "bands_frames" in layout else (frames, values)
        before = (1,) if layout.startswith("channel_") else ()
        shapes[layout] = (1, *before, *inner, *((1,) if layout.endswith("_channel") else ()))
    return shapes


def _work(task: str, file: Path, out: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run converters/litert/keras_worker.py in a process of its own.

    Raises:
        MissingDependencyError: its package is not installed.
        UsageError: the file cannot be loaded.
        ConversionError: it cannot be converted.
    """
    package, purpose = _PURPOSES[task]
    if importlib.util.find_spec(package) is None:
        raise MissingDependencyError(package, "keras", purpose)
    check_keras_file(file)
    env = {
        **os.environ,
        "KERAS_BACKEND": "torch" if task == "torch" else "tensorflow",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TMPDIR": str(out.parent),  # what it leaves when it is killed goes with ours
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", "")))),
    }
    command = [sys.executable, "-P", "-m", "converters.litert.keras_worker", task, str(file), str(out)]
    done = subprocess.run(command, input=json.dumps(request), env=env, capture_output=True, text=True, check=False)
    answer: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            answer = json.loads(line)
    if "error" in answer:
        kind = UsageError if answer["stage"] == "load" else ConversionError
        raise kind(f"{file.name}: cannot be {'loaded' if kind is UsageError else 'converted'}: {answer['error']}")
    if done.returncode != 0 or not answer or not out.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ConversionError(f"{file.name}: the Keras process ended with {done.returncode}: {last[:300]}")
    return answer
