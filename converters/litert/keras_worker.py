"""What converters/litert/keras.py runs in a process of its own: python -m converters.litert.keras_worker TASK FILE
OUT < request.

TASK "torch" (KERAS_BACKEND=torch): traces the model to OUT, a TorchScript file. TASK "tflite"
(KERAS_BACKEND=tensorflow): writes OUT, a .tflite from audio to scores. One line of JSON on stdout says what came of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from converters.litert.keras_features import features
from converters.litert.keras_file import LOWEST_VERSION
from models.layers.front_end_spec import FrontEndSpec


def main(task: str, file: str, out: str) -> dict[str, Any]:
    """Do one task; the answer has "error" and "stage" where it failed."""
    warnings.filterwarnings("ignore")
    request = json.loads(sys.stdin.read() or "{}")
    stage = "load"
    try:
        import keras

        if tuple(int(part) for part in keras.__version__.split(".")[:2]) < LOWEST_VERSION:
            raise ImportError(
                f"keras {keras.__version__} has known holes; install {'.'.join(map(str, LOWEST_VERSION))}"
            )
        model = keras.models.load_model(file, compile=False, safe_mode=True)
        shape = _input_shape(model)
        stage = "convert"
        if task == "torch":
            _to_torch(model, shape, out)
        else:
            Path(out).write_bytes(_to_tflite(model, request))
    except Exception as exc:  # keras and tensorflow raise anything; the parent translates
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        return {"stage": stage, "error": f"{type(exc).__name__}: {lines[0] if lines else ''}"[:400]}
    return {"input_shape": shape, "parameters": int(model.count_params())}


def _input_shape(model: Any) -> list[int]:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"expected one input and one output, the model has {len(model.inputs)} and {len(model.outputs)}"
        )
    shape = [1, *model.inputs[0].shape[1:]]
    if any(n is None for n in shape):
        raise ValueError(f"expected a fixed input, the model takes {shape}; build it with the window's length")
    return shape


def _to_torch(model: Any, shape: list[int], out: str) -> None:
    import torch

    class Called(torch.nn.Module):
        """In inference mode, and nothing else."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> Any:
            return self.model(x, training=False)

    trace: Any = torch.jit.trace  # untyped in torch
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        traced = trace(Called().eval(), (example,), check_trace=False, strict=False)
        traced.save(out)


def _to_tflite(model: Any, request: dict[str, Any]) -> bytes:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = None if request["front_end"] is None else FrontEndSpec(**request["front_end"])
    front_end = None if spec is None else features(tf, spec, request["samples"])
    shape = [1, *model.inputs[0].shape[1:]]

    audio = tf.TensorSpec([1, request["samples"]], tf.float32, name="audio")

    def score(audio: Any) -> Any:
        x = audio if front_end is None else front_end(audio)
        y = tf.reshape(model(tf.reshape(x, shape), training=False), [1, request["labels"]])
        if request["activation"] != "none":
            y = tf.nn.softmax(y) if request["activation"] == "softmax" else tf.sigmoid(y)
        return y

    # Keras 3 hides its variables from the saved model: the converter would leave them as resources without a value.
    frozen = convert_variables_to_constants_v2(tf.function(score, input_signature=[audio]).get_concrete_function())
    graph = tf.Module()
    graph.function = tf.function(lambda audio: {request["output"]: frozen(audio)[0]}, input_signature=[audio])
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(graph, folder, signatures={"serving_default": graph.function})
        tflite: bytes = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    return tflite


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4])))  # noqa: T201 -- the answer to the parent process
