"""Graphs that a valid flatbuffer may hold and LiteRT may not see: each is refused by name before anything opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.litert.tflite_edit import read_model, write_model
from models.common.errors import ArtefactError
from runtimes.inspect.tflite import op_names, walk
from runtimes.inspect.tflite_ops import ARITY, NEVER

STEP = (Path(__file__).resolve().parents[2] / "fixtures" / "tflite" / "step.tflite").read_bytes()
NAMES = op_names(walk(STEP))


def first(model: Any, name: str) -> Any:
    return next(op for op in model.subgraphs[0].operators if NAMES[op.opcodeIndex] == name)


def computed(model: Any) -> Any:
    """A tensor that an operator writes."""
    graph = model.subgraphs[0]
    return graph.tensors[first(model, "LOGISTIC").outputs[0]]


def constant(model: Any) -> Any:
    return next(t for t in model.subgraphs[0].tensors if model.buffers[t.buffer].data is not None)


def changed(change: Callable[[Any], None]) -> bytes:
    model = read_model(STEP)
    change(model)
    return write_model(model)


def leave_out(name: str, place: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        op = first(model, name)
        op.inputs = [*op.inputs[:place], -1, *op.inputs[place + 1 :]]

    return change


def result_of(name: str, shape: list[int]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[first(model, name).outputs[0]]
        tensor.shape, tensor.shapeSignature = shape, None

    return change


def shape_of_the_input(*shape: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shape = list(shape)

    return change


def calls_itself(model: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    code, op, options = schema.OperatorCodeT(), schema.OperatorT(), schema.CallOnceOptionsT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = 129, 127, 1
    model.operatorCodes.append(code)
    op.opcodeIndex, op.inputs, op.outputs = len(model.operatorCodes) - 1, [], []
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.CallOnceOptions, options
    model.subgraphs[0].operators.append(op)


def scales(model: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    tensor = constant(model)
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [0.1] * 77, [0] * 77


def signature_of_another_tensor(model: Any) -> None:
    model.signatureDefs[0].inputs[0].tensorIndex = int(first(model, "LOGISTIC").outputs[0])


def swap(model: Any) -> None:
    graph = model.subgraphs[0]
    graph.operators = graph.operators[::-1]


def write_twice(model: Any) -> None:
    graph = model.subgraphs[0]
    graph.operators = [*graph.operators, graph.operators[-1]]


def write_into_a_constant(model: Any) -> None:
    tensors = model.subgraphs[0].tensors
    first(model, "LOGISTIC").outputs = [
        next(i for i, t in enumerate(tensors) if model.buffers[t.buffer].data is not None)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (leave_out("LOGISTIC", 0), r"\(LOGISTIC\) leaves out input 0, which it needs"),
        (leave_out("FULLY_CONNECTED", 1), r"\(FULLY_CONNECTED\) leaves out input 1"),
        (leave_out("MUL", 1), r"\(MUL\) leaves out input 1"),
        (lambda m: setattr(first(m, "MUL"), "inputs", []), r"\(MUL\) has 0 inputs, expected 2"),
        (lambda m: setattr(first(m, "LOGISTIC"), "outputs", []), r"\(LOGISTIC\) has 0 outputs, expected 1"),
        (lambda m: setattr(first(m, "MUL"), "inputs", [9999, 0]), "tensor 9999, there are"),
        (lambda m: setattr(first(m, "LOGISTIC"), "outputs", [-1]), "writes tensor -1, which is not its own"),
        (swap, "reads tensor [0-9]+, which nothing has written"),
        (write_twice, "writes tensor [0-9]+, which is not its own"),
        (write_into_a_constant, "writes tensor [0-9]+, which is not its own"),
        (lambda m: setattr(m.subgraphs[0], "operators", []), "gives out tensor [0-9]+, which nothing has written"),
        (result_of("LOGISTIC", [1, 31]), r"\(LOGISTIC\) gives \[1, 31\], which is not what it makes of"),
        (result_of("MUL", [1, 1]), r"\(MUL\) gives \[1, 1\], which is not what it makes of"),
        (result_of("RESHAPE", [7]), r"\(RESHAPE\) gives \[7\], which is not what it makes of"),
        (lambda m: setattr(m, "signatureDefs", m.signatureDefs * 65), "more than 64 signatures"),
        (lambda m: setattr(first(m, "LOGISTIC"), "outputs", [9, 9]), "has 2 outputs, expected 1"),
        (lambda m: setattr(m.subgraphs[0], "inputs", [0, 0]), "names an input twice"),
        (calls_itself, "a subgraph calls itself"),
        (scales, "has 77 scales for"),
        (signature_of_another_tensor, "which is no input of its subgraph"),
        (shape_of_the_input(1, 1 << 30), "would take 4294967296 bytes"),
        (shape_of_the_input(1 << 30, 1 << 30, 1 << 30), "would take"),
        (shape_of_the_input(1, -5), r"has the shape \[1, -5\]"),
        (shape_of_the_input(*[1] * 60), "has the shape"),
        (lambda m: setattr(constant(m), "shape", [1 << 20]), "its buffer has"),
        (lambda m: setattr(constant(m), "type", 1), "its buffer has"),
        (lambda m: setattr(constant(m), "isVariable", True), "is a variable and has constant data"),
        (lambda m: setattr(m.operatorCodes[0], "builtinCode", 51), r"\(DELEGATE\) is no operator of a file"),
    ],
)
def test_a_wrong_graph_is_refused_by_name(change: Callable[[Any], None], message: str) -> None:
    with pytest.raises(ArtefactError, match=f"damaged .tflite file: .*{message}"):
        walk(changed(change))


def test_lists_that_lie_over_each_other_are_no_work() -> None:
    """Offsets that all lead to one tensor with a long name: 12 MB of file would be terabytes of reading."""
    import flatbuffers

    b = flatbuffers.Builder(1 << 20)
    name = b.CreateString("n" * 1_000_000)
    b.StartObject(4)
    b.PrependUOffsetTRelativeSlot(3, name, 0)
    tensor = b.EndObject()
    b.StartVector(4, 150_000, 4)
    for _ in range(150_000):
        b.PrependUOffsetTRelative(tensor)
    tensors = b.EndVector()
    b.StartObject(5)
    b.PrependUOffsetTRelativeSlot(0, tensors, 0)
    graph = b.EndObject()
    b.StartVector(4, 1, 4)
    b.PrependUOffsetTRelative(graph)
    graphs = b.EndVector()
    b.StartObject(1)
    buffer = b.EndObject()
    b.StartVector(4, 1, 4)
    b.PrependUOffsetTRelative(buffer)
    buffers = b.EndVector()
    b.StartObject(8)
    b.PrependUOffsetTRelativeSlot(2, graphs, 0)
    b.PrependUOffsetTRelativeSlot(4, buffers, 0)
    b.Finish(b.EndObject(), b"TFL3")
    with pytest.raises(ArtefactError, match="its lists lie over each other"):
        walk(bytes(b.Output()))


def test_a_bias_may_be_left_out() -> None:
    walk(changed(leave_out("FULLY_CONNECTED", 2)))


def test_a_change_that_changes_nothing_is_no_fault() -> None:
    assert len(walk(changed(lambda _: None)).graphs[0].ops) == len(walk(STEP).graphs[0].ops)


def test_every_operator_of_the_schema_has_its_arity() -> None:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    codes = {value for value in vars(BuiltinOperator).values() if isinstance(value, int)}
    assert len(codes) > 200
    assert codes <= set(ARITY) | NEVER
    assert not set(ARITY) & NEVER


@pytest.mark.parametrize("name", ["LOGISTIC", "FULLY_CONNECTED", "MUL"])
def test_the_table_agrees_with_what_a_converter_writes(name: str) -> None:
    code = {n: c for n, (c, _) in zip(NAMES, walk(STEP).opcodes, strict=True)}[name]
    counts = [len(ins) for opcode, ins, _ in walk(STEP).graphs[0].ops if NAMES[opcode] == name]
    assert counts
    assert np.all(np.clip(counts, *ARITY[code].inputs) == counts)
