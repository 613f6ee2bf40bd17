"""A program as a flat list of calls. All that load can know is settled here, none of it at a call.

Each value has a slot. Constants stay in their slots; another value leaves its slot after its last use. An
operation whose operands are all constant runs here, once. Inner blocks become programs of their own that
take the outer values they use as further arguments, so no call shares slots with another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.common.errors import ArtefactError
from runtimes.mil.blob import Value
from runtimes.mil.code import CALL_ERRORS, CHECKED, UNKNOWN, Call, Code, accumulated, several, with_deaths
from runtimes.mil.graph import Block, Function, Named, Operation, ValueType
from runtimes.mil.graph import Literal as Immediate
from runtimes.mil.limits import MAX_CONSTANT_ELEMENTS, MAX_ELEMENTS, MAX_LIVING_ELEMENTS, Budget
from runtimes.mil.ops.table import TABLE, TORCH_DTYPES, Entry, Kernel, Node, SubProgram

Mode = Literal["fp32", "fp16"]


def round_to_half(x: Tensor) -> Tensor:
    """The nearest half, as float32: saturates to infinity, keeps NaN and denormals."""
    return x.half().float()


def opset_version(opset: str) -> int:
    """iOS version of an opset name: CoreML5 is iOS 15, CoreML9 is iOS 26."""
    digits = opset.removeprefix("CoreML")
    if not digits.isdecimal():
        raise ArtefactError(f"unknown opset {opset!r}; expected CoreML5 to CoreML9")
    number = int(digits)
    return 26 if number >= 9 else number + 10


def to_tensor(value: Value | str, kind: ValueType) -> Any:
    """A decoded constant as the tensor that calls use (floats widened exactly); text stays text."""
    if isinstance(value, str) or value.dtype == object:
        return value
    if kind.dtype not in TORCH_DTYPES:
        raise ArtefactError(f"constants of type {kind.dtype} are not supported")
    dtype = TORCH_DTYPES[kind.dtype]
    if dtype == torch.float32:
        return torch.from_numpy(np.array(value, np.float32))
    return torch.from_numpy(np.array(value, np.int64 if value.dtype.kind in "iu" else value.dtype)).to(dtype)


def _elements(kind: ValueType) -> int:
    """Elements by the declared shape; an unknown size counts as one."""
    return math.prod(n or 1 for n in kind.shape) if kind.kind == "tensor" and 0 not in kind.shape else 0


def _is_constexpr(operation: Operation) -> bool:
    return operation.type.startswith("constexpr_")


def _declared_size(kind: ValueType) -> int:
    """Elements of a result by its declaration; UNKNOWN for what only a call shows, CHECKED for what has none."""
    if kind.kind == "list":
        return UNKNOWN
    if kind.kind != "tensor" or kind.dtype == "string":
        return CHECKED
    return UNKNOWN if kind.static_shape is None else _elements(kind)


def check_operations(function: Function) -> None:
    """Stop at load when an operation is not in the table.

    Raises:
        ArtefactError: with the operation's name, the opset, and its output.
    """
    for operation in function.walk():
        if operation.type != "const" and operation.type not in TABLE:
            raise ArtefactError(
                f"operation {operation.type!r} of opset {function.opset} is not implemented by the evaluator "
                f"(output {operation.name!r}); run this package on macOS, or convert without that operation"
            )


class Settings(NamedTuple):
    """What all blocks of a program share."""

    mode: Mode
    opset: int
    strict: bool
    budget: Budget


class _Scope:
    """Compiles one block; inner blocks get a scope each."""

    def __init__(
        self, block: Block, settings: Settings, outer: _Scope | None = None, in_place: Iterable[str] = ()
    ) -> None:
        self._block, self._settings, self._outer = block, settings, outer
        self._slots: dict[str, int] = {}
        self._template: list[Any] = []
        self._captured: list[str] = []
        self.statics: dict[str, Any] = {} if outer is None else dict(outer.statics)
        self.types: dict[str, ValueType] = {} if outer is None else dict(outer.types)
        self._anonymous, self._in_place = 0, frozenset(in_place)

    def _new_slots(self, names: Iterable[str]) -> list[int]:
        places = []
        for name in names:
            self._slots[name] = len(self._template)
            places.append(len(self._template))
            self._template.append(None)
        return places

    def _define(self, outputs: Iterable[Named]) -> None:
        for output in outputs:
            self.types[output.name] = output.type
            self.statics.pop(output.name, None)

    def slot(self, name: str) -> int:
        """Where a value lies; an outer one is captured, a constant put in place, at first use."""
        if name not in self._slots:
            (place,) = self._new_slots([name])
            if name in self.statics:
                self._template[place] = self.statics[name]
            elif self._outer is not None and self._outer.knows(name):
                self._captured.append(name)
            else:
                raise ArtefactError(f"the program uses value {name!r} before anything computes it")
        return self._slots[name]

    def knows(self, name: str) -> bool:
        """Whether a value exists here or further out."""
        return name in self._slots or name in self.statics or (self._outer is not None and self._outer.knows(name))

    def _named(self, operation: Operation) -> Operation:
        """The operation with each literal operand entered as a constant."""
        inputs: dict[str, tuple[str | Immediate, ...]] = {}
        for parameter, bindings in operation.inputs.items():
            names: list[str] = []
            for binding in bindings:
                if isinstance(binding, str):
                    if not self.knows(binding):
                        raise ArtefactError(
                            f"{operation.type} (output {operation.name!r}) uses unknown value {binding!r}"
                        )
                    names.append(binding)
                    continue
                self._anonymous += 1
                name = f"{operation.name}.{parameter}.{self._anonymous}"
                self.statics[name] = self._constant(binding)
                self.types[name] = binding.type
                names.append(name)
            inputs[parameter] = tuple(names)
        return Operation(operation.type, inputs, operation.outputs, operation.blocks, operation.value)

    def _constant(self, literal: Immediate) -> Any:
        self._settings.budget.constant(_elements(literal.type))
        return to_tensor(literal.decode(), literal.type)

    def _subprogram(self, operation: Operation, index: int) -> SubProgram:
        if index >= len(operation.blocks):
            raise ArtefactError(f"{operation.type} (output {operation.name!r}) lacks its block {index}")
        body = operation.blocks[index]
        is_round = operation.type == "while_loop" and index == 1
        carried, copied = accumulated(body) if is_round else ({}, frozenset())
        scope = _Scope(body, self._settings, self, carried.keys() | copied)
        code = scope.compile()
        return SubProgram(code, tuple(scope._captured), tuple(carried.values()))

    def _rounded(self, kernel: Kernel, entry: Entry, outputs: tuple[Named, ...]) -> Kernel:
        """The kernel with half outputs rounded, where the mode asks for it."""
        halves = [o.type.dtype == "fp16" and o.type.kind == "tensor" for o in outputs]
        if self._settings.mode == "fp32" or not entry.rounds or not any(halves):
            return kernel
        fn = kernel.fn
        if fn is None:
            # A value taken over as it is from another type (a cast to half) is rounded, too.
            return Kernel(round_to_half, kernel.operands, kernel.captured)
        if len(outputs) == 1:
            return Kernel(lambda *values: fn(*values).half().float(), kernel.operands, kernel.captured)

        def each(*values: Any) -> tuple[Any, ...]:
            return tuple(round_to_half(y) if half else y for y, half in zip(fn(*values), halves, strict=True))

        return Kernel(each, kernel.operands, kernel.captured)

    def _fold(self, node: Node, kernel: Kernel, names: list[str]) -> bool:
        """Run an operation on constants now; whether that was possible."""
        if not all(n in self.statics for n in names) or any(o.type.static_shape is None for o in node.outputs):
            return False
        # The parts of a compressed constant are expanded already, and counted.
        if not _is_constexpr(node.operation) and not self._settings.budget.fold(
            sum(_elements(o.type) for o in node.outputs)
        ):
            return False
        values = [self.statics[n] for n in names]
        try:
            result = values[0] if kernel.fn is None else kernel.fn(*values)
        except CALL_ERRORS as exc:
            raise node.refuse(f"the constant cannot be computed: {exc}") from exc
        results = (result,) if len(node.outputs) == 1 else tuple(result)
        if len(results) != len(node.outputs):
            raise node.refuse(f"{len(node.outputs)} results declared, {len(results)} computed; the package is corrupt")
        for output, value in zip(node.outputs, results, strict=True):
            if isinstance(value, torch.Tensor) and value.numel() != _elements(output.type):
                raise node.refuse(f"declared as {output.type}, computed as {list(value.shape)}; the package is corrupt")
            self.statics[output.name] = value
        return True

    def _operation(self, raw: Operation) -> Call | None:
        if raw.type == "const":
            if raw.value is None or len(raw.outputs) != 1:
                raise ArtefactError(f"const (output {raw.name!r}) holds no value")
            self._define(raw.outputs)
            self.statics[raw.name] = self._constant(raw.value)
            return None
        operation, entry = self._named(raw), TABLE[raw.type]
        most = MAX_CONSTANT_ELEMENTS if _is_constexpr(raw) else MAX_ELEMENTS
        for output in operation.outputs:
            if output.type.kind == "tensor" and output.type.dtype not in {*TORCH_DTYPES, "string"}:
                raise ArtefactError(f"{output.name!r} ({operation.type}): type {output.type.dtype} is not supported")
            if _elements(output.type) > most:
                raise ArtefactError(
                    f"{output.name!r} ({operation.type}): {output.type} has more than {most} elements; refused"
                )
            if _is_constexpr(raw):
                self._settings.budget.constant(_elements(output.type))
        settings = self._settings
        node = Node(
            operation,
            settings.opset,
            self.statics,
            self.types,
            lambda i: self._subprogram(operation, i),
            settings.strict,
            operation.name in self._in_place,
        )
        try:
            kernel = self._rounded(entry.build(node), entry, operation.outputs)
        except CALL_ERRORS as exc:
            raise node.refuse(f"malformed: {exc}") from exc
        names: list[str] = []
        for parameter in kernel.operands:
            if not node.has(parameter):
                raise node.refuse(f"parameter {parameter!r} is missing")
            names += node.names(parameter)
        names += kernel.captured
        if entry.pure and not operation.blocks and self._fold(node, kernel, names):
            for output in operation.outputs:
                self.types[output.name] = output.type
            return None
        args = tuple(self.slot(n) for n in names)
        self._define(operation.outputs)
        if kernel.fn is None:
            self._slots[operation.name] = args[0]
            return None
        places = self._new_slots(o.name for o in operation.outputs)
        out: int | slice = (
            places[0] if len(places) == 1 else slice(len(self._template) - len(places), len(self._template))
        )
        # A branch or a loop gives what its block gave, in sizes that were checked there.
        sizes = [UNKNOWN if operation.blocks else _declared_size(o.type) for o in operation.outputs]
        if operation.type == "classify":  # plain Python values
            sizes = [CHECKED] * len(sizes)
        if len(places) == 1:
            return Call(kernel.fn, args, out, (), node.place, sizes[0])
        return Call(several(kernel.fn, sizes), args, out, (), node.place, UNKNOWN if UNKNOWN in sizes else CHECKED)

    def compile(self) -> Code:
        """The block as code."""
        self._define(self._block.inputs)
        inputs = self._new_slots(i.name for i in self._block.inputs)
        calls = [c for c in map(self._operation, self._block.operations) if c is not None]
        outputs = tuple(self.slot(name) for name in self._block.outputs)
        captured = [self._slots[name] for name in self._captured]
        constants = {s for s, value in enumerate(self._template) if value is not None}
        calls = list(with_deaths(calls, {*outputs, *constants}))
        self._check_memory(calls)
        counted = any(c.size == UNKNOWN for c in calls)
        return Code(tuple(calls), tuple(self._template), (*inputs, *captured), outputs, counted)

    def _check_memory(self, calls: list[Call]) -> None:
        """Stop when what lives at the same time, by the declared shapes, is beyond the limit."""
        sizes = dict.fromkeys(range(len(self._template)), 0)
        sizes |= {slot: _elements(self.types[name]) for name, slot in self._slots.items() if name in self.types}
        living = 0
        for call in calls:
            made = range(call.out.start, call.out.stop) if isinstance(call.out, slice) else (call.out,)
            living += sum(sizes[slot] for slot in made)
            if living > MAX_LIVING_ELEMENTS:
                raise ArtefactError(
                    f"{call.place}: more than {MAX_LIVING_ELEMENTS} elements would live at the same time; refused"
                )
            living -= sum(sizes[slot] for slot in call.dead)


def compile_function(function: Function, mode: Mode, strict: bool = False) -> Code:
    """Compile an entry point.

    Args:
        function: the entry point.
        mode: number mode, see runtimes.mil.
        strict: stop at undefined behaviour, see runtimes.mil.

    Returns:
        code that takes the function's inputs in order and returns its outputs.

    Raises:
        ArtefactError: an operation is missing or malformed, or a constant cannot be read.
    """
    check_operations(function)
    settings = Settings(mode, opset_version(function.opset), strict, Budget(function.stored_bytes))
    try:
        with torch.inference_mode():
            return _Scope(function.block, settings).compile()
    except CALL_ERRORS as exc:
        raise ArtefactError(f"the program is malformed: {exc}") from exc
