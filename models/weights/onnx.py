"""Published ONNX graphs as a source of weights: read, never run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import MissingDependencyError, WeightsError


def read_graph(data: bytes, net: str, title: str) -> Any:
    """The graph of an ONNX file, onnx.GraphProto.

    Args:
        data: the file.
        net: for messages; with a file's name behind it where there are several.
        title: the net's name as people write it.

    Raises:
        WeightsError: not an ONNX model.
        MissingDependencyError: onnx is not installed.
    """
    try:
        import onnx  # late: heavy, and needed only when weights are pulled
        from google.protobuf.message import DecodeError
    except ImportError as exc:
        raise MissingDependencyError("onnx", "export", f"reading the published weights of {title}") from exc
    try:
        return onnx.load_model_from_string(data).graph
    except DecodeError as exc:
        raise WeightsError(f"{net}: not an ONNX model ({len(data)} bytes); pull the weights again") from exc


def initialisers(graph: Any) -> dict[str, NDArray[Any]]:
    """The constants of a graph by name."""
    from onnx.numpy_helper import to_array

    return {t.name: np.asarray(to_array(t)) for t in graph.initializer}


def torch_gru(
    from_input: NDArray[Any], from_hidden: NDArray[Any], biases: NDArray[Any], name: str, place: str
) -> dict[str, NDArray[Any]]:
    """One direction of an ONNX GRU under torch's names `name`.PART_`place`.

    ONNX keeps the gates in the order update, reset, new, and both biases in a row; torch has reset, update, new.
    """
    parts = dict(zip(("weight_ih", "weight_hh"), (from_input, from_hidden), strict=True))
    parts |= dict(zip(("bias_ih", "bias_hh"), np.split(biases, 2), strict=True))
    tensors: dict[str, NDArray[Any]] = {}
    for part, value in parts.items():
        update, reset, new = np.split(value, 3)
        tensors[f"{name}.{part}_{place}"] = np.concatenate([reset, update, new])
    return tensors
