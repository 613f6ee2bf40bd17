"""The table of operations, and what a builder sees of the operation it builds.

A builder runs once, at load. It reads static attributes from its Node and returns a Kernel: a function on
tensors and the names of the parameters that supply them. Floats of every width are float32 tensors here;
rounding to half is put around a kernel by the compiler, so no builder knows of number modes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.common.errors import ArtefactError
from runtimes.mil.graph import Named, Operation, UndefinedWarning, ValueType
from runtimes.mil.limits import room_to_broadcast

# uint16 and uint32 values are held in the next wider signed type: torch lacks arithmetic for them.
TORCH_DTYPES: dict[str, torch.dtype] = {
    "bool": torch.bool,
    "fp16": torch.float32,
    "fp32": torch.float32,
    "fp64": torch.float32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int32": torch.int32,
    "uint32": torch.int64,
    "int64": torch.int32,
    "uint64": torch.int64,
    "int4": torch.int8,
    "uint1": torch.uint8,
    "uint2": torch.uint8,
    "uint3": torch.uint8,
    "uint4": torch.uint8,
    "uint6": torch.uint8,
}


class Kernel(NamedTuple):
    """What runs at a call: `fn` on the values of `operands` (parameter names).

    A parameter that binds several values gives them all, in order; `captured` outer values (by value name)
    follow. `fn` None means: the output is the operand.
    """

    fn: Callable[..., Any] | None
    operands: tuple[str, ...]
    captured: tuple[str, ...] = ()


class SubProgram(NamedTuple):
    """An inner block: `run` takes its inputs, then the `captured` outer values, and returns its outputs.

    It writes into its inputs at the places `in_place`; the caller gives values there that nobody else has.
    """

    run: Callable[..., tuple[Any, ...]]
    captured: tuple[str, ...]
    in_place: tuple[int, ...] = ()


class Node:
    """An operation as its builder sees it.

    Args:
        operation: the operation.
        opset: iOS version of the program's opset (15, 16, 17, 18, 26).
        statics: values known at load, by name: tensors, or text.
        types: type of every value seen so far, by name.
        subprogram: compiles an inner block.
        strict: stop at undefined behaviour, see `undefined`.
        in_place: whether the operation may write into its data.
    """

    def __init__(
        self,
        operation: Operation,
        opset: int,
        statics: Mapping[str, Any],
        types: Mapping[str, ValueType],
        subprogram: Callable[[int], SubProgram],
        strict: bool = False,
        in_place: bool = False,
    ) -> None:
        self.operation = operation
        self.opset = opset
        self.subprogram = subprogram
        self.in_place = in_place
        self._strict, self._warned = strict, False
        self._statics = statics
        self._types = types

    @property
    def place(self) -> str:
        """For messages: operation and output name."""
        return f"{self.operation.type} (output {self.operation.name!r})"

    @property
    def outputs(self) -> tuple[Named, ...]:
        return self.operation.outputs

    @property
    def out_type(self) -> ValueType:
        """Type of the first output."""
        return self.operation.outputs[0].type

    def names(self, parameter: str) -> tuple[str, ...]:
        """Names of the values that a parameter binds."""
        return tuple(b for b in self.operation.inputs.get(parameter, ()) if isinstance(b, str))

    def has(self, parameter: str) -> bool:
        """Whether the parameter is given."""
        return bool(self.names(parameter))

    def count(self, parameter: str) -> int:
        """Values the parameter binds."""
        return len(self.names(parameter))

    def is_static(self, parameter: str) -> bool:
        """Whether all of the parameter is known at load."""
        names = self.names(parameter)
        return bool(names) and all(n in self._statics for n in names)

    def static(self, parameter: str) -> Any:
        """The parameter's value, which must be known at load; None where it is not given."""
        names = self.names(parameter)
        if not names:
            return None
        if names[0] not in self._statics:
            raise ArtefactError(f"{self.place}: parameter {parameter!r} must be a constant; the program computes it")
        return self._statics[names[0]]

    def tensor(self, parameter: str) -> Tensor | None:
        """A constant tensor, or None where it is not given."""
        value = self.static(parameter)
        if value is not None and not isinstance(value, Tensor):
            raise ArtefactError(f"{self.place}: parameter {parameter!r} is text; expected a tensor")
        return value

    def need(self, parameter: str) -> Tensor:
        """A constant tensor that must be given."""
        value = self.tensor(parameter)
        if value is None:
            raise ArtefactError(f"{self.place}: parameter {parameter!r} is missing")
        return value

    def number(self, parameter: str, default: float) -> float:
        value = self.tensor(parameter)
        return default if value is None else float(value.reshape(-1)[0])

    def integer(self, parameter: str, default: int) -> int:
        value = self.tensor(parameter)
        return default if value is None else int(value.reshape(-1)[0])

    def flag(self, parameter: str, default: bool) -> bool:
        value = self.tensor(parameter)
        return default if value is None else bool(value.reshape(-1)[0])

    def text(self, parameter: str, default: str) -> str:
        value = self.static(parameter)
        return default if value is None else str(value)

    def integers(self, parameter: str) -> list[int] | None:
        """A constant vector of integers, or None where it is not given."""
        value = self.tensor(parameter)
        return None if value is None else [int(v) for v in value.reshape(-1).tolist()]

    def flags(self, parameter: str) -> list[bool] | None:
        """A constant vector of booleans, or None where it is not given."""
        value = self.tensor(parameter)
        return None if value is None else [bool(v) for v in value.reshape(-1).tolist()]

    def type(self, parameter: str = "x") -> ValueType:
        """Type of a parameter's (first) value."""
        names = self.names(parameter)
        if not names:
            raise ArtefactError(f"{self.place}: parameter {parameter!r} is missing")
        return self._types[names[0]]

    def types(self, parameter: str) -> list[ValueType]:
        """Types of all values that a parameter binds."""
        return [self._types[name] for name in self.names(parameter)]

    def shape(self, parameter: str = "x") -> tuple[int, ...] | None:
        """Static shape of a parameter, or None where it is known only at the call."""
        return self.type(parameter).static_shape

    def rank(self, parameter: str = "x") -> int:
        """Rank of a parameter."""
        kind = self.type(parameter)
        if kind.variadic:
            raise ArtefactError(f"{self.place}: the rank of {parameter!r} is not known at load")
        return len(kind.shape)

    def is_float(self, parameter: str = "x") -> bool:
        """Whether a parameter holds floats."""
        return self.type(parameter).dtype.startswith("fp")

    def axis(self, parameter: str, default: int, of: str = "x") -> int:
        """A constant axis, counted from the front."""
        axis, rank = self.integer(parameter, default), self.rank(of)
        if not -rank <= axis < max(rank, 1):
            raise ArtefactError(f"{self.place}: axis {axis} is out of range for rank {rank}")
        return axis % max(rank, 1)

    def undefined(self, what: str) -> None:
        """Note that Core ML does not define what the operation is asked for: the first time a warning.

        Raises:
            ValueError: the program is strict.
        """
        if self._strict:
            raise ValueError(f"undefined in Core ML: {what}")
        if not self._warned:
            self._warned = True
            warnings.warn(f"{self.place}: undefined in Core ML, a device may differ: {what}", UndefinedWarning, 2)

    def declared_elements(self, output: int = 0) -> int:
        """Elements of an output by its declaration.

        Raises:
            ArtefactError: its shape is not fixed.
        """
        shape = self.operation.outputs[output].type.static_shape if output < len(self.operation.outputs) else None
        if shape is None:
            raise self.refuse(f"output {output} has no fixed shape")
        return math.prod(shape)

    def refuse(self, what: str) -> ArtefactError:
        """An error that names this operation."""
        return ArtefactError(f"{self.place}: {what}")


Builder = Callable[[Node], Kernel]


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        build: the builder.
        rounds: whether its output can be something else than a half when its inputs are halves. Moving,
            selecting and comparing values never needs rounding.
        pure: whether equal operands always give equal results; pure operations on constants run at load.
    """

    build: Builder
    rounds: bool = True
    pure: bool = True


TABLE: dict[str, Entry] = {}


def op(*names: str, rounds: bool = True, pure: bool = True) -> Callable[[Builder], Builder]:
    """Enter a builder into the table under one or more operation names."""

    def enter(build: Builder) -> Builder:
        for name in names:
            TABLE[name] = Entry(build, rounds, pure)
        return build

    return enter


def simple(name: str, fn: Callable[..., Any], *operands: str, rounds: bool = True) -> None:
    """Enter an operation that has no attributes; several operands are broadcast."""
    kernel = Kernel(fn, operands)
    TABLE[name] = Entry(lambda node: kernel if len(operands) == 1 else broadcasting(node, fn, *operands), rounds)


def broadcasting(node: Node, fn: Callable[..., Any], *operands: str) -> Kernel:
    """A kernel that broadcasts its operands, held to the limits."""
    sizes = [node.static(p).numel() if node.is_static(p) else None for p in operands]
    if sizes.count(1) >= len(operands) - 1:  # nothing to multiply with
        return Kernel(fn, operands)

    def run(*values: Tensor) -> Any:
        room_to_broadcast(*values)
        return fn(*values)

    return Kernel(run, operands)
