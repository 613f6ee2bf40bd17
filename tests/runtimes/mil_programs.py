"""Programs written by hand, without a converter and without a package: what no converter would write, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from runtimes.mil import Program
from runtimes.mil.graph import Block, Function, Literal, Named, Operation, ValueType


def kind(*shape: int | None, dtype: str = "fp32") -> ValueType:
    return ValueType("tensor", dtype, shape)


def const(value: Any, dtype: str = "") -> Literal:
    if isinstance(value, str):
        return Literal(ValueType("tensor", "string"), lambda: value)
    array = np.array(value)
    default = {"f": "fp32", "b": "bool"}.get(array.dtype.kind, "int32")
    return Literal(kind(*array.shape, dtype=dtype or default), lambda: array)


def op(what: str, result: ValueType, inputs: Mapping[str, Any], name: str = "y", blocks: Any = ()) -> Operation:
    bound = {k: v if isinstance(v, tuple) else (v,) for k, v in inputs.items()}
    return Operation(what, bound, (Named(name, result),), blocks)


def program(
    inputs: Mapping[str, ValueType], *operations: Operation, opset: str = "CoreML7", strict: bool = False
) -> Program:
    """A program that gives what its last operation gives first."""
    ports = tuple(Named(n, t) for n, t in inputs.items())
    outputs = tuple(o.name for o in operations[-1].outputs)
    return Program(Function("main", opset, Block(ports, operations, outputs)), "fp32", strict)


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)
