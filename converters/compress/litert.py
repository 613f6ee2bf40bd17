"""A float32 .tflite with its weights stored in fewer bits, by ai-edge-quantizer, operation by operation.

Inputs, outputs and states stay float32. ai-edge-quantizer is told the exact name of every operation it may touch: a
rule for all of them would also take a matrix product whose constant stands left, which writes a file that no LiteRT
loads.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.compress.recipe import SCHEMES, Plan, require
from converters.litert.names import recorded_name
from converters.litert.tflite_edit import MIN_HALF_ELEMENTS, read_model, write_model
from models.common.errors import ConversionError, MissingDependencyError, first_line
from runtimes.native_output import quiet

if TYPE_CHECKING:
    from torch import nn

# Smaller weights stay: they weigh nothing, and their scales cost as much as is saved.
LEAST_ELEMENTS = MIN_HALF_ELEMENTS
# Where the weights stand among an operation's inputs.
WEIGHT_INPUT = {
    "FULLY_CONNECTED": 1,
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "BATCH_MATMUL": 1,
}
FOUR_BITS = ("FULLY_CONNECTED", "CONV_2D")
_QUANTIZER_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}


@dataclass(frozen=True)
class Weight:
    """The weights of one operation.

    Attributes:
        operation: "FULLY_CONNECTED".
        scope: what ai-edge-quantizer knows the operation by.
        module: dotted torch module that it belongs to; "" where the names do not tell.
        elements: how many there are.
    """

    operation: str
    scope: str
    module: str
    elements: int


def compress(tflite: bytes, graph: nn.Module | None, plan: Plan) -> bytes:
    """Store the weights of a file as a plan says.

    Args:
        tflite: a float32 file.
        graph: the graph it was converted from, whose modules the plan names; None: names in the file are all there is.
        plan: what is stored how.

    Returns:
        the new file; equal arguments give equal bytes. It has not been run yet.

    Raises:
        ConversionError: nothing can be compressed, LiteRT cannot store it so, or the quantizer fails.
        MissingDependencyError: ai-edge-quantizer is not installed.
    """
    for precision in plan.used:
        require("litert", precision)
    chosen: dict[tuple[str, int], dict[str, list[str]]] = {}
    for weight in weights_of(tflite, graph):
        precision = _stored(weight, plan)
        if precision in SCHEMES:
            found = SCHEMES[precision]
            bits = found.bits if weight.operation in FOUR_BITS else 8
            key = (found.compute["litert"], bits)
            chosen.setdefault(key, {}).setdefault(weight.operation, []).append(weight.scope)
    if not chosen:
        raise ConversionError(
            f"no weights of at least {LEAST_ELEMENTS} elements can be compressed; ship the fp32 file, it is no larger"
        )
    return write_model(without_names(read_model(_quantize(tflite, chosen))), share=True)


def without_names(model: Any) -> Any:
    """Without what nothing at run time reads: names inside the graph, a third of GTCRN's file, and empty scales."""
    for subgraph in model.subgraphs:
        outside = {int(i) for i in (*subgraph.inputs, *subgraph.outputs)}
        for index, tensor in enumerate(subgraph.tensors):
            if index not in outside:
                tensor.name = None
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
    return model


def weights_of(tflite: bytes, graph: nn.Module | None) -> list[Weight]:
    """Every operation of a file with weights that could be compressed, in the file's order."""
    schema, names = _schema(), operation_names()
    modules = {} if graph is None else _module_scopes(graph)
    model = read_model(tflite)
    found = []
    for subgraph in model.subgraphs:
        for op in subgraph.operators:
            operation = names[model.operatorCodes[op.opcodeIndex].builtinCode]
            place = WEIGHT_INPUT.get(operation)
            if place is None or len(op.inputs) <= place:
                continue
            tensor = subgraph.tensors[op.inputs[place]]
            data = model.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) // 4 < LEAST_ELEMENTS:
                continue
            if not np.isfinite(data.view(np.float32)).all():
                continue
            scope = scope_of(subgraph, op)
            # What a graph gives is called after its output; there only the weights' own name tells.
            names_it_has = scope + tensor.name.decode("utf-8", "replace")
            found.append(Weight(operation, scope, _owner(names_it_has, modules), len(data) // 4))
    return found


def operation_names() -> dict[int, str]:
    """LiteRT's operations by their number: "FULLY_CONNECTED"."""
    return {value: name for name, value in vars(_schema().BuiltinOperator).items() if isinstance(value, int)}


def scope_of(subgraph: Any, op: Any) -> str:
    """What ai-edge-quantizer knows an operation by."""
    return "".join(f"{subgraph.tensors[i].name.decode('utf-8', 'replace')};" for i in op.outputs)


def _stored(weight: Weight, plan: Plan) -> str:
    """The precision of an operation's weights; a front end that only its name tells of stays in float32."""
    if not weight.module and "front_end" in weight.scope:
        return "fp32"
    return plan.of(weight.module)


def _module_scopes(graph: nn.Module) -> Mapping[str, str]:
    """How litert-torch spells each submodule in the names of tensors: its classes and attributes from the top."""
    scopes = {}
    kinds = {name: ".".join(recorded_name(type(module))) for name, module in graph.named_modules()}
    top = f"hearpack.Graph/{kinds['']}_wrapped"
    for name in kinds:
        parts = name.split(".") if name else []
        segments = [f"{kinds['.'.join(parts[: n + 1])]}_{part}" for n, part in enumerate(parts)]
        scopes["/".join([top, *segments])] = name
        scopes["/".join(["hearpack.Graph", *segments])] = name  # a graph of fx leaves no name of its own
    return scopes


def _owner(scope: str, modules: Mapping[str, str]) -> str:
    """The innermost module that a name leads to; a fused operation has several names, and the deepest counts."""
    best = ""
    for name in filter(None, scope.split(";")):
        path = name
        while path and path not in modules:
            path = path.rpartition("/")[0]
        found = modules.get(path, "")
        if len(found) > len(best):
            best = found
    return best


def _quantize(tflite: bytes, chosen: Mapping[tuple[str, int], Mapping[str, list[str]]]) -> bytes:
    """Through ai-edge-quantizer: the one seam where its errors become ours."""
    try:
        with quiet(), _no_prints():
            from ai_edge_quantizer import qtyping, quantizer
    except ImportError as exc:
        raise MissingDependencyError("ai-edge-quantizer", "export", "compressing a .tflite") from exc
    try:
        with quiet(), _no_prints():
            work = quantizer.Quantizer(tflite)
            for (compute, bits), operations in chosen.items():
                add = work.add_weight_only_config if compute == "fp32" else work.add_dynamic_config
                # Four bits need scales that clip; for eight the largest value is as good.
                how = "OCTAV" if bits < 8 else "min_max_uniform_quantize"
                for operation, scopes in operations.items():
                    name = qtyping.TFLOperationName(_QUANTIZER_NAMES.get(operation, operation))
                    rule = "^(?:" + "|".join(map(re.escape, dict.fromkeys(scopes))) + ")$"
                    add(rule, name, bits, algorithm_key=how)
            return bytes(work.quantize().quantized_model)
    except Exception as exc:  # it raises every built-in kind
        raise ConversionError(f"ai-edge-quantizer cannot compress this file: {first_line(exc)}") from exc


@contextlib.contextmanager
def _no_prints() -> Iterator[None]:
    """Its report goes to Python's own streams, its progress bar too."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated
