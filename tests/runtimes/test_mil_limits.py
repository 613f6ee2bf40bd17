"""Each operation that multiplies is held to the limits before it makes anything, whatever the program declares."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from models.common.errors import ArtefactError, HearpackError
from runtimes.mil import Program
from runtimes.mil.code import CALL_ERRORS
from runtimes.mil.graph import Block, Function, Named, Operation, ValueType
from runtimes.mil.limits import MAX_ELEMENTS, MAX_LIST, Budget, held, room, room_to_broadcast, room_to_pad
from tests.runtimes.mil_programs import const, kind, ones, op, program

SIDE = 1 << 14  # squared beyond the limit, alone nothing


LIE = kind(1)
WIDE, TALL = kind(1, SIDE), kind(SIDE, 1)
# An operation on small values whose result would be enormous, and which is declared as one element.
PRODUCTS: dict[str, tuple[dict[str, ValueType], Operation, str]] = {
    "add": ({"a": WIDE, "b": TALL}, op("add", LIE, {"x": "a", "y": "b"}), "CoreML7"),
    "select": (
        {"a": WIDE, "b": TALL},
        op("select", LIE, {"cond": const(True), "a": "a", "b": "b"}),
        "CoreML7",
    ),
    "real_div": ({"a": WIDE, "b": TALL}, op("real_div", LIE, {"x": "a", "y": "b"}), "CoreML7"),
    "prelu": (
        {"a": kind(SIDE, 1, 1, 1)},
        op("prelu", LIE, {"x": "a", "alpha": const(ones(SIDE))}),
        "CoreML7",
    ),
    "matmul": ({"a": TALL, "b": WIDE}, op("matmul", LIE, {"x": "a", "y": "b"}), "CoreML7"),
    "matmul of batches": (
        {"a": kind(SIDE, 1, 1, 1), "b": kind(1, SIDE, 1, 1)},
        op("matmul", LIE, {"x": "a", "y": "b"}),
        "CoreML7",
    ),
    "linear": ({"a": TALL}, op("linear", LIE, {"x": "a", "weight": const(ones(SIDE, 1))}), "CoreML7"),
    "einsum": (
        {"a": TALL, "b": WIDE},
        op("einsum", LIE, {"values": ("a", "b"), "equation": const("ij,jk->ik")}),
        "CoreML7",
    ),
    "attention": (
        {"q": kind(1, SIDE, 1), "k": kind(1, SIDE, 1)},
        op("scaled_dot_product_attention", LIE, {"query": "q", "key": "k", "value": "k"}),
        "CoreML8",
    ),
    "conv": (
        {"a": kind(1, 1, SIDE)},
        op("conv", LIE, {"x": "a", "weight": const(ones(SIDE, 1, 1))}),
        "CoreML7",
    ),
    "conv that pads at a call": (
        {"a": kind(1, None, SIDE)},
        op(
            "conv",
            LIE,
            {
                "x": "a",
                "weight": const(ones(1, 1, 2)),
                "pad_type": const("same"),
                "dilations": const([1 << 28]),
            },
        ),
        "CoreML7",
    ),
    "conv_transpose": (
        {"a": kind(1, 1, SIDE)},
        op("conv_transpose", LIE, {"x": "a", "weight": const(ones(1, SIDE, 1))}),
        "CoreML7",
    ),
    "conv_transpose with strides": (
        {"a": kind(1, 1, 4)},
        op(
            "conv_transpose",
            LIE,
            {"x": "a", "weight": const(ones(1, 1, 1)), "strides": const([1 << 28])},
        ),
        "CoreML7",
    ),
    "max_pool that hangs over": (
        {"a": kind(1, 1, 4)},
        op(
            "max_pool",
            LIE,
            {
                "x": "a",
                "kernel_sizes": const([1 << 28]),
                "strides": const([1]),
                "pad_type": const("same"),
            },
        ),
        "CoreML7",
    ),
    "gather": ({"a": WIDE, "i": kind(SIDE, dtype="int32")}, op("gather", LIE, {"x": "a", "indices": "i"}), "CoreML7"),
    "gather of constants": (
        {"a": WIDE},
        op("gather", LIE, {"x": "a", "indices": const(np.zeros(SIDE, np.int32))}),
        "CoreML7",
    ),
    "gather in batches": (
        {"a": kind(64, 1, SIDE), "i": kind(64, 256, dtype="int32")},
        op("gather", LIE, {"x": "a", "indices": "i", "axis": const(1), "batch_dims": const(1)}),
        "CoreML7",
    ),
    "gather_nd": (
        {"a": WIDE, "i": kind(SIDE, 1, dtype="int32")},
        op("gather_nd", LIE, {"x": "a", "indices": "i"}),
        "CoreML7",
    ),
    "sliding_windows": (
        {"a": kind(2 * SIDE)},
        op("sliding_windows", LIE, {"x": "a", "axis": const(0), "size": const(SIDE)}),
        "CoreML7",
    ),
    "concat": ({"a": kind(SIDE * 16)}, op("concat", LIE, {"values": ("a",) * 1024, "axis": const(0)}), "CoreML7"),
    "stack": ({"a": kind(SIDE * 16)}, op("stack", LIE, {"values": ("a",) * 1024, "axis": const(0)}), "CoreML7"),
    "batch_to_space": (
        {"a": kind(4, 1, 2, 2)},
        op(
            "batch_to_space",
            LIE,
            {"x": "a", "block_shape": const([2, 2]), "crops": const([[-SIDE, -SIDE], [-SIDE, -SIDE]])},
        ),
        "CoreML7",
    ),
    "local_response_norm": (
        {"a": kind(1, 1, 2, 2)},
        op("local_response_norm", LIE, {"x": "a", "size": const(1 << 28)}),
        "CoreML7",
    ),
    "instance_norm": (
        {"a": kind(SIDE, 1, 1)},
        op("instance_norm", LIE, {"x": "a", "gamma": const(ones(SIDE)), "beta": const(ones(SIDE))}),
        "CoreML7",
    ),
    "resample": (
        {"a": kind(1, SIDE, 1, 1), "c": kind(1, SIDE, 1, 2)},
        op("resample", LIE, {"x": "a", "coordinates": "c"}),
        "CoreML7",
    ),
    "crop_resize": (
        {"a": kind(1, 1, 128, 128), "b": kind(SIDE, 4), "i": kind(SIDE, dtype="int32")},
        op("crop_resize", LIE, {"x": "a", "boxes": "b", "box_indices": "i"}),
        "CoreML7",
    ),
    "affine": (
        {"a": kind(1, 1, 2, 2), "t": kind(1, 6)},
        op(
            "affine",
            LIE,
            {
                "x": "a",
                "transform_matrix": "t",
                "output_height": const(SIDE),
                "output_width": const(SIDE),
            },
        ),
        "CoreML7",
    ),
    "rnn": (
        {"a": kind(SIDE, 1, 1), "h": kind(SIDE, 1)},
        op(
            "rnn",
            LIE,
            {"x": "a", "initial_h": "h", "weight_ih": const(ones(1, 1)), "weight_hh": const(ones(1, 1))},
        ),
        "CoreML7",
    ),
}


def _run_on_zeros(inputs: dict[str, ValueType], operation: Operation, opset: str) -> None:
    made = program(inputs, operation, opset=opset)
    types = {"fp32": np.float32, "int32": np.int32}
    made.run({p.name: np.zeros([n or 1 for n in p.shape], types[p.dtype]) for p in made.inputs})


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_refused_before_it_is_made(name: str) -> None:
    inputs, operation, opset = PRODUCTS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Some give several results; the first declaration is enough.
    if name == "rnn":
        operation = Operation(operation.type, operation.inputs, (*operation.outputs, Named("h2", LIE)), ())
    with pytest.raises(HearpackError, match=rf"more than {MAX_ELEMENTS} elements"):
        _run_on_zeros(inputs, operation, opset)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    assert grown < (400 << 10) * (1024 if sys.platform == "darwin" else 1)


def test_a_result_that_is_not_as_declared_stops_the_call() -> None:
    made = program({"a": kind(2, 3)}, op("relu", LIE, {"x": "a"}))
    with pytest.raises(ArtefactError, match=r"declared with 1 elements, computed as \[2, 3\]"):
        made.run({"a": ones(2, 3)})
    two = Operation("split", {"x": ("a",), "num_splits": (const(2),), "axis": (const(0),)},
                    (Named("u", kind(None, 3)), Named("v", LIE)), ())  # fmt: skip
    with pytest.raises(ArtefactError, match="declared with 1 elements"):
        program({"a": kind(2, 3)}, two).run({"a": ones(2, 3)})


def test_values_of_unknown_size_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimes.mil.code.MAX_LIVING_ELEMENTS", 40)
    free, names = kind(None), [f"v{i}" for i in range(6)]
    kept = [op("add", free, {"x": "a", "y": const(1.0)}, name) for name in names]
    total = op("concat", free, {"values": tuple(names), "axis": const(0)})
    made = program({"a": free}, *kept, total)
    assert made.run({"a": ones(2)})["y"].shape == (12,)
    with pytest.raises(ArtefactError, match="more than 40 elements live at the same time"):
        made.run({"a": ones(10)})
    # What is not used any more does not count.
    chain = [op("add", free, {"x": "a" if i == 0 else f"v{i - 1}", "y": const(1.0)}, f"v{i}") for i in range(6)]
    assert program({"a": free}, *chain).run({"a": ones(10)})["v5"].tolist() == [7.0] * 10


def compressed(parts: Mapping[str, Any], declared: ValueType, what: str) -> Operation:
    return op(what, declared, parts)


SHAPE = [SIDE, SIDE]
EXPANDED: dict[str, Operation] = {
    "lut, packed": compressed(
        {"indices": const(np.zeros(4, np.uint8), "uint8"), "lut": const(ones(2)), "shape": const(SHAPE)},
        kind(8),
        "constexpr_lut_to_dense",
    ),
    "lut, packed, as declared": compressed(
        {"indices": const(np.zeros(4, np.uint8), "uint8"), "lut": const(ones(2)), "shape": const([64])},
        kind(64),
        "constexpr_lut_to_dense",
    ),
    "lut, vectors": compressed(
        {"indices": const(np.zeros((SIDE, 1), np.uint8), "uint4"), "lut": const(np.ones((1, 1, 2, SIDE), np.float32))},
        kind(8),
        "constexpr_lut_to_dense",
    ),
    "sparse, packed": compressed(
        {"nonzero_data": const(ones(4)), "mask": const(np.zeros(4, np.uint8), "uint8"), "shape": const(SHAPE)},
        kind(8),
        "constexpr_sparse_to_dense",
    ),
    "affine": compressed(
        {
            "quantized_data": const(np.ones((SIDE, 1), np.int8), "int8"),
            "scale": const(ones(SIDE)),
            "zero_point": const(np.zeros(1, np.int8), "int8"),
            "axis": const(1),
        },
        kind(SIDE, 1),
        "constexpr_affine_dequantize",
    ),
}


@pytest.mark.parametrize("name", EXPANDED)
def test_a_compressed_constant_is_held_against_its_declaration(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(HearpackError, match=r"corrupt|do not fit"):
        program({"a": kind(1)}, EXPANDED[name], op("relu", kind(1), {"x": "a"}, "z"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (200 << 10) * (1024 if sys.platform == "darwin" else 1)


def test_the_same_bytes_named_often_are_not_the_package_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimes.mil.limits.FEWEST_CONSTANT_ELEMENTS", 1000)
    weight = const(ones(100))
    made = [Operation("const", {}, (Named(f"c{i}", kind(100)),), (), weight) for i in range(11)]
    with pytest.raises(ArtefactError, match="more elements than a package of this size can hold"):
        program({"a": kind(1)}, *made, op("relu", kind(1), {"x": "a"}))
    assert program({"a": kind(1)}, *made[:10], op("relu", kind(1), {"x": "a"})).run({"a": ones(1)})


def test_lists_are_bounded() -> None:
    items = ValueType("list", "fp32", (4,))
    long = op("make_list", items, {"init_length": const(MAX_LIST + 1), "elem_shape": const([4])})
    with pytest.raises(HearpackError, match=rf"longer than {MAX_LIST}"):
        program({"a": kind(4)}, long, op("relu", kind(4), {"x": "a"}, "z"))
    short = op("make_list", items, {"init_length": const(1), "elem_shape": const([4])}, "l")
    far = op("list_write", items, {"ls": "l", "index": const(MAX_LIST), "value": "a"}, "m")
    gone = op("list_length", kind(dtype="int32"), {"ls": "m"}, "n")
    with pytest.raises(HearpackError, match=rf"longer than {MAX_LIST}"):
        program({"a": kind(4)}, short, far, gone).run({"a": ones(4)})
    none = op("list_gather", kind(0, 4), {"ls": "l", "indices": const(np.zeros(0, np.int32))}, "g")
    assert program({"a": kind(4)}, short, none).run({"a": ones(4)})["g"].shape == (0, 4)


def test_a_state_is_bounded_and_keeps_its_shape() -> None:
    state = Named("s", ValueType("state", "fp32", (1 << 20, 1 << 20)))
    with pytest.raises(ArtefactError, match=r"the states: .*more than"):
        Program(Function("main", "CoreML8", Block((state,), (), ())), "fp32")


def test_helpers() -> None:
    import torch

    room([MAX_ELEMENTS])
    room_to_pad([MAX_ELEMENTS - 2], [1, 1])
    room_to_broadcast(torch.ones(1, SIDE), torch.ones(1, SIDE))
    with pytest.raises(ValueError, match="more than"):
        room_to_broadcast(torch.ones(1, SIDE), torch.ones(SIDE, 1))
    assert held((torch.ones(3), [torch.ones(2)] * 4, "text")) == 11
    budget = Budget(0)
    assert budget.fold(1 << 20)
    assert not budget.fold(math.prod([1 << 27, 2]))
    assert ValueError in CALL_ERRORS
