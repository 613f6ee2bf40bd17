"""An ML Program as a small graph: plain dataclasses read from the protobuf, constants still undecoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.common.errors import ArtefactError
from runtimes.mil.blob import STORED, BlobFile, Value, decode
from runtimes.mil.package import Package

Constant = Value | str
MAX_DEPTH = 32

_TYPES = {
    1: "bool",
    2: "string",
    10: "fp16",
    11: "fp32",
    12: "fp64",
    13: "bf16",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    25: "int4",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    34: "uint64",
    35: "uint4",
    36: "uint2",
    37: "uint1",
    38: "uint6",
    39: "uint3",
    40: "fp8e4m3fn",
    41: "fp8e5m2",
}
_NUMPY = {"fp32": "<f4", "fp64": "<f8", "int64": "<i8", "uint64": "<u8", "bool": "?"}


class UndefinedWarning(UserWarning):
    """A program asks for something that Core ML does not define."""


@dataclass(frozen=True)
class ValueType:
    """Type of a value.

    Attributes:
        kind: "tensor", "list", "state", "tuple" or "dict".
        dtype: element type ("fp16", "int32", ...); "" where there is none.
        shape: None where a size is known only at the call; () for a scalar.
        variadic: the rank itself is unknown.
    """

    kind: str
    dtype: str = ""
    shape: tuple[int | None, ...] = ()
    variadic: bool = False

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape where all of it is known, else None."""
        known = tuple(n for n in self.shape if n is not None)
        return known if len(known) == len(self.shape) and not self.variadic and self.kind == "tensor" else None

    def __str__(self) -> str:
        sizes = ", ".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.dtype or self.kind} [{sizes}]"


@dataclass(frozen=True)
class Named:
    """A name with its type."""

    name: str
    type: ValueType


@dataclass(frozen=True)
class Literal:
    """A value written into the program; `decode()` reads it."""

    type: ValueType
    decode: Callable[[], Constant]
    stored_in_blob: bool = False


@dataclass(frozen=True)
class Operation:
    """One operation: `inputs` bind each parameter to names of values or literals."""

    type: str
    inputs: Mapping[str, tuple[str | Literal, ...]]
    outputs: tuple[Named, ...]
    blocks: tuple[Block, ...]
    value: Literal | None = None

    @property
    def name(self) -> str:
        """Name of its first output: its place in the program."""
        return self.outputs[0].name if self.outputs else f"{self.type} without output"


@dataclass(frozen=True)
class Block:
    """A straight list of operations; inner blocks see the values of outer ones."""

    inputs: tuple[Named, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def walk(self) -> Iterator[Operation]:
        """Every operation, inner blocks too."""
        for operation in self.operations:
            yield operation
            for inner in operation.blocks:
                yield from inner.walk()


@dataclass(frozen=True)
class Function:
    """An entry point of the program.

    Attributes:
        name: "main" unless the package holds several.
        opset: "CoreML7" and the like.
        block: its body; `block.inputs` are the function's.
        stored_bytes: what the package's files take, weights included.
    """

    name: str
    opset: str
    block: Block
    stored_bytes: int = 0

    def walk(self) -> Iterator[Operation]:
        """Every operation, inner blocks too."""
        yield from self.block.walk()


def _value_type(proto: Any) -> ValueType:
    kind = proto.WhichOneof("type")
    if kind == "tensorType":
        tensor = proto.tensorType
        sizes = tuple(
            int(d.constant.size) if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions
        )
        variadic = any(d.WhichOneof("dimension") == "unknown" and d.unknown.variadic for d in tensor.dimensions)
        return ValueType("tensor", _TYPES.get(tensor.dataType, f"type {tensor.dataType}"), sizes, variadic)
    if kind == "listType":
        return replace(_value_type(proto.listType.type), kind="list")
    if kind == "stateType":
        return replace(_value_type(proto.stateType.wrappedType), kind="state")
    return ValueType({"tupleType": "tuple", "dictionaryType": "dict"}.get(kind, "unknown"))


class _Reader:
    def __init__(self, package: Package) -> None:
        self._package = package
        self._blobs: dict[str, BlobFile] = {}

    def _blob(self, name: str) -> BlobFile:
        if name not in self._blobs:
            path = self._package.resolve(name)
            try:
                self._blobs[name] = BlobFile(path)
            except OSError as exc:
                raise ArtefactError(f"{path.name} cannot be read: {exc}") from exc
        return self._blobs[name]

    @staticmethod
    def _decode_list(proto: Any) -> Constant:
        """A list of texts or of integers (class labels), as Python values."""
        items: list[Any] = []
        for item in proto.immediateValue.list.values:
            tensor = item.immediateValue.tensor
            field = tensor.WhichOneof("value")
            values: list[Any] = []
            if field in ("strings", "ints", "longInts"):
                values = list(getattr(tensor, field).values)
            if len(values) != 1:
                raise ArtefactError("a constant list holds something else than single texts or integers; not supported")
            items.append(str(values[0]) if field == "strings" else int(values[0]))
        return np.array(items, dtype=object)

    def _decode(self, proto: Any, kind: ValueType) -> Constant:
        if kind.kind == "list":
            return self._decode_list(proto)
        shape = kind.static_shape
        if shape is None:
            raise ArtefactError(f"a constant of type {kind} has no fixed tensor shape; not supported")
        if proto.WhichOneof("value") == "blobFileValue":
            return self._blob(proto.blobFileValue.fileName).read(proto.blobFileValue.offset, kind.dtype, shape)
        tensor = proto.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field is None:
            if 0 in shape:
                return np.zeros(shape, _NUMPY.get(kind.dtype, "<f4"))
            if kind.dtype == "string":
                return ""
            raise ArtefactError(f"a constant of type {kind} holds no values; the package is corrupt")
        values = getattr(tensor, field).values
        if field == "bytes":
            return decode(values, kind.dtype, shape)
        if field == "strings":
            if len(values) == 1 and shape == ():
                return str(values[0])
            return np.array([str(v) for v in values], dtype=object)
        numpy_type = _NUMPY.get(kind.dtype) or STORED.get(kind.dtype, (0, 0, "<i4"))[2]
        array = np.array(values, dtype=numpy_type)
        if array.size != int(np.prod(shape, dtype=object)):
            raise ArtefactError(f"a constant of type {kind} holds {array.size} values; the package is corrupt")
        return array.reshape(shape)

    def literal(self, proto: Any) -> Literal:
        kind = _value_type(proto.type)
        return Literal(kind, lambda: self._decode(proto, kind), proto.WhichOneof("value") == "blobFileValue")

    def operation(self, proto: Any, depth: int) -> Operation:
        inputs = {
            name: tuple(
                b.name if b.WhichOneof("binding") == "name" else self.literal(b.value) for b in argument.arguments
            )
            for name, argument in proto.inputs.items()
        }
        # Older packages keep a compressed constant's parts among the attributes.
        inputs.update(
            {k: (self.literal(v),) for k, v in proto.attributes.items() if k not in ("name", "val") and k not in inputs}
        )
        return Operation(
            type=proto.type,
            inputs=inputs,
            outputs=tuple(Named(o.name, _value_type(o.type)) for o in proto.outputs),
            blocks=tuple(self.block(b, depth + 1) for b in proto.blocks),
            value=self.literal(proto.attributes["val"]) if "val" in proto.attributes else None,
        )

    def block(self, proto: Any, depth: int = 0) -> Block:
        if depth > MAX_DEPTH:
            raise ArtefactError(f"blocks are nested deeper than {MAX_DEPTH}; refused")
        return Block(
            inputs=tuple(Named(i.name, _value_type(i.type)) for i in proto.inputs),
            operations=tuple(self.operation(o, depth) for o in proto.operations),
            outputs=tuple(proto.outputs),
        )


def function_names(package: Package) -> tuple[str, ...]:
    """Entry points of the package, sorted."""
    return tuple(sorted(package.spec.mlProgram.functions))


def read_function(package: Package, name: str | None = None) -> Function:
    """Read one entry point.

    Args:
        package: the opened package.
        name: which function; None takes the package's default, or "main".

    Raises:
        ArtefactError: no such function, or the program is malformed.
    """
    try:
        return _read_function(package, name)
    except (ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise ArtefactError(f"{package.root.name}: the program is malformed: {exc}") from exc


def _read_function(package: Package, name: str | None) -> Function:
    functions = package.spec.mlProgram.functions
    wanted = name or package.spec.description.defaultFunctionName or "main"
    if wanted not in functions:
        raise ArtefactError(f"{package.root.name} has no function {wanted!r}; it has: {', '.join(sorted(functions))}")
    proto = functions[wanted]
    if proto.opset not in proto.block_specializations:
        raise ArtefactError(f"{package.root.name}: function {wanted!r} has no body for its opset {proto.opset!r}")
    body = _Reader(package).block(proto.block_specializations[proto.opset])
    inputs = tuple(Named(i.name, _value_type(i.type)) for i in proto.inputs)
    return Function(wanted, proto.opset, Block(inputs, body.operations, body.outputs), package.stored_bytes())
