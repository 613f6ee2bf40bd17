"""DTLN's weights: which tensors there are, and how the published ONNX pair is read. Light: numpy, and onnx when asked.

The names are those of the torch net's `state_dict()` (models/nets/dtln/net.py), so a fine-tuned net saves to the same
file. torch keeps an LSTM's gates in the order input, forget, cell, output and has two biases; the gates of ONNX's LSTM
node stand in the order input, output, forget, cell; Keras, whose matrices model_2 still shows, agrees with torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.arrays import Float32
from models.common.errors import WeightsError
from models.weights.onnx import initialisers, read_graph
from models.weights.tensors import check_tensors, rnn_shapes

FRAME_SAMPLES = 512
BINS = FRAME_SAMPLES // 2 + 1
UNITS = 128
FEATURES = 256
NORM_EPSILON = 1e-7
_GATES = 4 * UNITS


SHAPES: Mapping[str, tuple[int, ...]] = {
    **rnn_shapes("core1.lstm1", 4, BINS, UNITS),
    **rnn_shapes("core1.lstm2", 4, UNITS, UNITS),
    "core1.mask.weight": (BINS, UNITS),
    "core1.mask.bias": (BINS,),
    "core2.encoder.weight": (FEATURES, FRAME_SAMPLES),
    "core2.norm.weight": (FEATURES,),
    "core2.norm.bias": (FEATURES,),
    **rnn_shapes("core2.lstm1", 4, FEATURES, UNITS),
    **rnn_shapes("core2.lstm2", 4, UNITS, UNITS),
    "core2.mask.weight": (FEATURES, UNITS),
    "core2.mask.bias": (FEATURES,),
    "core2.decoder.weight": (FRAME_SAMPLES, FEATURES),
}


_ADVICE = "give the weights of DTLN, or pull the weights again"
check = partial(check_tensors, "dtln", shapes=SHAPES, advice=_ADVICE)


class _OnnxFile:
    """One graph: its initialisers by name, and what else decides how they are meant."""

    def __init__(self, data: bytes, label: str) -> None:
        graph = read_graph(data, f"dtln: {label}", "DTLN")
        from onnx.helper import get_attribute_value  # late, and after read_graph has said whether onnx is there

        self.label = label
        self._tensors = initialisers(graph)
        self._lstm = {
            node.name: {a.name: get_attribute_value(a) for a in node.attribute}
            for node in graph.node
            if node.op_type == "LSTM"
        }

    def tensor(self, name: str, *shape: int) -> NDArray[Any]:
        """The initialiser `name`, whose shape must be `shape`."""
        value = self._tensors.get(name)
        if value is None:
            raise WeightsError(f"dtln: {self.label}: no tensor {name!r}; this is not the published DTLN graph")
        if value.shape != shape:
            raise WeightsError(f"dtln: {self.label}: {name}: expected shape {list(shape)}, got {list(value.shape)}")
        return np.asarray(value)

    def lstm_node(self, name: str, prefix: str, inputs: int) -> dict[str, NDArray[Any]]:
        """An LSTM that is one node: gates input, output, forget, cell; two biases in a row."""
        expected = {"activations": [b"Sigmoid", b"Tanh", b"Tanh"], "direction": b"forward", "hidden_size": UNITS}
        if self._lstm.get(name) != expected:
            raise WeightsError(f"dtln: {self.label}: LSTM {name!r}: expected {expected}, got {self._lstm.get(name)}")

        def torch_order(value: NDArray[Any]) -> NDArray[Any]:
            gate_in, gate_out, forget, cell = np.split(value, 4)
            return np.concatenate([gate_in, forget, cell, gate_out])

        bias = self.tensor(f"{name}_B", 1, 2 * _GATES)[0]
        return {
            f"{prefix}.weight_ih_l0": torch_order(self.tensor(f"{name}_W", 1, _GATES, inputs)[0]),
            f"{prefix}.weight_hh_l0": torch_order(self.tensor(f"{name}_R", 1, _GATES, UNITS)[0]),
            f"{prefix}.bias_ih_l0": torch_order(bias[:_GATES]),
            f"{prefix}.bias_hh_l0": torch_order(bias[_GATES:]),
        }

    def lstm_matrices(self, name: str, prefix: str, inputs: int) -> dict[str, NDArray[Any]]:
        """An LSTM written out as Keras does: gates input, forget, cell, output; matrices [inputs, gates]; one bias."""
        stem = f"model_2/{name}"
        return {
            f"{prefix}.weight_ih_l0": self.tensor(f"{stem}/MatMul/ReadVariableOp/resource:0", inputs, _GATES).T,
            f"{prefix}.weight_hh_l0": self.tensor(f"{stem}/MatMul_1/ReadVariableOp/resource:0", UNITS, _GATES).T,
            f"{prefix}.bias_ih_l0": self.tensor(f"{stem}/BiasAdd/ReadVariableOp/resource:0", _GATES),
            f"{prefix}.bias_hh_l0": np.zeros(_GATES, np.float32),
        }


def read_onnx(model_1: bytes, model_2: bytes) -> dict[str, Float32]:
    """Read the authors' published pair of ONNX graphs.

    Args:
        model_1: the file model_1.onnx (magnitude to mask).
        model_2: the file model_2.onnx (frame to frame, in the learned basis).

    Returns:
        float32 arrays by the names of `SHAPES`.

    Raises:
        WeightsError: one of them is not that graph (a tensor, a shape, an activation or the epsilon differs).
        MissingDependencyError: onnx is not installed.
    """
    one, two = _OnnxFile(model_1, "model_1.onnx"), _OnnxFile(model_2, "model_2.onnx")
    norm = "model_2/instant_layer_normalization_1"
    epsilon = float(two.tensor(f"{norm}/add/y:0"))
    if not np.isclose(epsilon, NORM_EPSILON, rtol=1e-3):
        raise WeightsError(f"dtln: model_2.onnx: expected a normalisation epsilon of {NORM_EPSILON:g}, got {epsilon:g}")
    return check(
        {
            **one.lstm_node("lstm_4", "core1.lstm1", BINS),
            **one.lstm_node("lstm_5", "core1.lstm2", UNITS),
            "core1.mask.weight": one.tensor("dense_2/kernel:0", UNITS, BINS).T,
            "core1.mask.bias": one.tensor("dense_2/bias:0", BINS),
            "core2.encoder.weight": two.tensor("conv1d_2/kernel:0", FEATURES, FRAME_SAMPLES, 1)[:, :, 0],
            "core2.norm.weight": two.tensor(f"{norm}/mul/ReadVariableOp/resource:0", FEATURES),
            "core2.norm.bias": two.tensor(f"{norm}/add_1/ReadVariableOp/resource:0", FEATURES),
            **two.lstm_matrices("lstm_6", "core2.lstm1", FEATURES),
            **two.lstm_matrices("lstm_7", "core2.lstm2", UNITS),
            "core2.mask.weight": two.tensor("model_2/dense_3/Tensordot/Reshape_1:0", UNITS, FEATURES).T,
            "core2.mask.bias": two.tensor("model_2/dense_3/BiasAdd/ReadVariableOp/resource:0", FEATURES),
            "core2.decoder.weight": two.tensor("conv1d_3/kernel:0", FRAME_SAMPLES, FEATURES, 1)[:, :, 0],
        }
    )
