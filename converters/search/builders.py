"""A plan as something that runs, for each format.

LiteRT: the very file that an export writes. Core ML: its weights as it stores them, widened and put into the float32
.tflite: Core ML computes in float32 with widened weights, and LiteRT is tens of times as fast as the evaluator. The
package that is chosen is then executed itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from converters.compress import litert
from converters.compress.coreml import BLOCK, GROUP_CHANNELS, fitting
from converters.compress.palette import palette
from converters.compress.recipe import SCHEMES, Plan, Scheme
from converters.litert.tflite_edit import read_model, write_model
from converters.search.parts import Part
from converters.search.search import FLOAT
from models.geometry import GraphSignature
from runtimes.bundle import Format
from runtimes.litert import LiteRTRuntime
from runtimes.protocol import Runtime

# What a part may be stored as, by format; what compression keeps in float32 takes eight bits and float arithmetic.
_LITERT, _LITERT_KEPT = ("int8-weights", "int8", "int4"), ("int8-weights",)
_COREML, _COREML_KEPT = ("int8", "pal6", "pal4-grouped", "int4", "pal2"), ("int8",)
# From [out, height, width, in] and [1, height, width, out] to Core ML's [out, in, height, width].
_TO_COREML = {"CONV_2D": (0, 3, 1, 2), "TRANSPOSE_CONV": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2)}
_SCALE_BYTES = 4


class Builder(Protocol):
    """Makes plans of one format."""

    format: Format

    def precisions(self, part: Part) -> tuple[str, ...]:
        """What a part may be stored as."""
        ...

    def make(self, modules: Mapping[str, str]) -> tuple[Runtime, int]:
        """What runs a plan (module -> precision; the rest in float32), and the bytes of its artefact."""
        ...


class LiteRTBuilder:
    """The file that an export would write."""

    format: Format = "litert"

    def __init__(self, tflite: bytes, graph: Any, signature: GraphSignature) -> None:
        self._tflite, self._graph, self._signature = tflite, graph, signature

    def precisions(self, part: Part) -> tuple[str, ...]:
        """Four bits only where there is an operation that has them."""
        if part.kept:
            return _LITERT_KEPT
        return tuple(p for p in _LITERT if p != "int4" or part.operations & set(litert.FOUR_BITS))

    def make(self, modules: Mapping[str, str]) -> tuple[Runtime, int]:
        """See `Builder`."""
        if any(precision != FLOAT for precision in modules.values()):
            data = litert.compress(self._tflite, self._graph, Plan(FLOAT, modules))
        else:
            data = write_model(litert.without_names(read_model(self._tflite)), share=True)
        return LiteRTRuntime(data, self._signature, "compiled", tried=True), len(data)


class CoreMLBuilder:
    """Weights as a package stores them, widened, in the float32 .tflite.

    Attributes:
        more_bytes: what a package weighs beside its weights more than the .tflite does; added to every estimate.
    """

    format: Format = "coreml"

    def __init__(self, tflite: bytes, graph: Any, signature: GraphSignature) -> None:
        self._tflite, self._signature = tflite, signature
        self._places = _places(tflite, graph)
        self._widened: dict[tuple[int, str], tuple[NDArray[np.float32], int]] = {}
        self.more_bytes = 0

    def precisions(self, part: Part) -> tuple[str, ...]:
        """All that Core ML has."""
        return _COREML_KEPT if part.kept else _COREML

    def make(self, modules: Mapping[str, str]) -> tuple[Runtime, int]:
        """See `Builder`; the bytes are an estimate."""
        plan = Plan(FLOAT, modules)
        model = read_model(self._tflite)
        size = len(self._tflite)
        for buffer, (module, operation, shape) in self._places.items():
            scheme = SCHEMES.get(plan.of(module))
            if scheme is None:
                continue
            key = (buffer, scheme.name)
            if key not in self._widened:
                values = model.buffers[buffer].data.view(np.float32).reshape(shape)
                self._widened[key] = _widened(values, operation, scheme)
            stored, count = self._widened[key]
            model.buffers[buffer].data = stored.reshape(-1).view(np.uint8)
            size -= stored.nbytes - count
        return LiteRTRuntime(write_model(model), self._signature, "compiled", tried=True), size + self.more_bytes


def _places(tflite: bytes, graph: Any) -> dict[int, tuple[str, str, tuple[int, ...]]]:
    """Buffer of each weight -> its module, its operation and its shape."""
    owners = {(w.operation, w.scope): w.module for w in litert.weights_of(tflite, graph)}
    model = read_model(tflite)
    names = litert.operation_names()
    found = {}
    for subgraph in model.subgraphs:
        for op in subgraph.operators:
            operation = names[model.operatorCodes[op.opcodeIndex].builtinCode]
            key = (operation, litert.scope_of(subgraph, op))
            if key in owners:
                tensor = subgraph.tensors[op.inputs[litert.WEIGHT_INPUT[operation]]]
                found[int(tensor.buffer)] = (owners[key], operation, tuple(int(n) for n in tensor.shape))
    return found


def _widened(values: NDArray[np.float32], operation: str, scheme: Scheme) -> tuple[NDArray[np.float32], int]:
    """Weights after a scheme, in the file's order, and the bytes that a package stores for them."""
    order = _TO_COREML.get(operation)
    ours = values if order is None else np.ascontiguousarray(values.transpose(order))
    fit = fitting(scheme, ours)
    if fit is None:
        return values, values.nbytes
    stored, count = _palettes(ours, fit) if fit.kind == "palette" else _linear(ours, fit)
    back = stored if order is None else stored.transpose(np.argsort(order))
    return np.ascontiguousarray(back, np.float32), count


def _linear(values: NDArray[np.float32], scheme: Scheme) -> tuple[NDArray[np.float32], int]:
    rows = values.reshape(len(values), -1)
    if scheme.bits == 4:  # a scale for a block of inputs; of a convolution each position has its own
        rows = np.moveaxis(values.reshape(*values.shape[:2], -1), 1, -1).reshape(-1, BLOCK)
    top = 2 ** (scheme.bits - 1) - 1
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / top, np.finfo(np.float32).tiny)
    stored = (np.clip(np.round(rows / scales), -top - 1, top) * scales).astype(np.float32)
    if scheme.bits == 4:
        stored = np.moveaxis(stored.reshape(len(values), -1, values.shape[1]), -1, 1)
    return stored.reshape(values.shape), values.size * scheme.bits // 8 + scales.size * _SCALE_BYTES


def _palettes(values: NDArray[np.float32], scheme: Scheme) -> tuple[NDArray[np.float32], int]:
    groups = len(values) // GROUP_CHANNELS if scheme.name.endswith("-grouped") else 1
    stored = []
    for group in np.split(values, max(1, groups)):
        table, indices = palette(group, scheme.bits)
        stored.append(table[indices].reshape(group.shape))
    tables = len(stored) * 2**scheme.bits * _SCALE_BYTES
    return np.concatenate(stored), values.size * scheme.bits // 8 + tables
