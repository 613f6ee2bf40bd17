"""The pickle inside a torch checkpoint, read by an interpreter that calls nothing.

A pickle is a program. torch's `weights_only` runs it with few functions allowed; each of those, and each object that
takes a state, has been a way in. Here the program is followed on paper: a tensor is noted as (storage, offset, shape,
strides), a dict stays a dict, and whatever else a checkpoint holds beside its weights (numpy's arrays of a sampler,
an epoch's date) becomes one and the same inert object. Opcodes: pickletools of the standard library.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import BinaryIO

# Of a state_dict of 10,000 tensors a fifth is used.
MOST_STEPS = 2_000_000
# numpy type of a storage's elements. torch writes half a dozen more that no net of floats has.
STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16",
    "UntypedStorage": "bytes",
}
_DTYPES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "bfloat16",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "bool": "bool",
}
# What may be named beside tensors, and is thrown away: numpy's own, sets, and torch's plain values.
_INERT = re.compile(
    r"numpy(\.\w+)*\.\w+|_codecs\.encode|(builtins|__builtin__)\.(set|frozenset|complex|bytearray|slice|range)"
    r"|collections\.(Counter|defaultdict)|torch\.(Size|device|Tensor|Generator|strided|per_\w+|(q|c|b?float|u?int|bool)\w*)"
    r"|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout|torch\._utils\._rebuild_\w+"
)


class ForeignObjectError(Exception):
    """The pickle names something that is no data; its argument is the name."""


class BrokenPickleError(Exception):
    """Truncated, or no pickle of torch's."""


class Inert:
    """Everything that a checkpoint holds and no weight needs."""


@dataclass(frozen=True)
class StorageRef:
    """Elements that several tensors may share: where they are kept, of what type, and how many it claims."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor on paper: elements of a storage."""

    storage: StorageRef
    kind: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    text: str


_INERT_OBJECT = Inert()
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUTS, _GETS = ("BINPUT", "LONG_BINPUT", "PUT"), ("BINGET", "LONG_BINGET", "GET")
_VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
        *("SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE"),
        *("SHORT_BINUNICODE", "BINUNICODE8"),
    )
)


def read_pickle(stream: BinaryIO, storages: dict[str, StorageRef]) -> object:
    """Follow one pickle to its end.

    Args:
        stream: stands behind the pickle afterwards.
        storages: gets all storages that are named, by key, those of what is thrown away too.

    Returns:
        dict, list, tuple, str, bytes, number, None; TensorRef, StorageRef; Inert for anything else.

    Raises:
        ForeignObjectError: it names a class or function that is no data.
        BrokenPickleError: truncated, damaged, or longer than MOST_STEPS.
    """
    machine = _Machine(storages)
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if opcode.name == "STOP":
                return machine.pop()
            if number > MOST_STEPS:
                raise BrokenPickleError(f"more than {MOST_STEPS} steps")
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, ArithmeticError, AttributeError, EOFError) as exc:
        raise BrokenPickleError(str(exc)[:100]) from exc
    raise BrokenPickleError("no end")


class _Machine:
    def __init__(self, storages: dict[str, StorageRef]) -> None:
        self.storages = storages
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def pop(self) -> object:
        value = self.stack.pop()
        if value is _MARK:
            raise BrokenPickleError("a mark where a value should be")
        return value

    def to_mark(self) -> list[object]:
        values: list[object] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def step(self, name: str, argument: object) -> None:
        """One opcode."""
        push = self.stack.append
        if name in _VALUES:
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _PUTS:
            self.memo[int(str(argument))] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in _GETS:
            push(self.memo[int(str(argument))])
        elif name == "MARK":
            push(_MARK)
        elif name == "POP":
            self.stack.pop()
        elif name == "POP_MARK":
            self.to_mark()
        elif name == "DUP":
            push(self.stack[-1])
        elif name not in ("PROTO", "FRAME"):
            self.build(name, argument)

    def build(self, name: str, argument: object) -> None:
        """Opcodes that make something of what is on the stack."""
        push = self.stack.append
        if name == "EMPTY_DICT":
            push({})
        elif name in ("EMPTY_LIST", "EMPTY_SET"):
            push([])
        elif name in ("DICT", "LIST", "TUPLE", "FROZENSET"):
            values = self.to_mark()
            push(_fill({}, values) if name == "DICT" else values if name == "LIST" else tuple(values))
        elif name == "EMPTY_TUPLE":
            push(())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            push(tuple([self.pop() for _ in range(int(name[-1]))][::-1]))
        elif name in ("SETITEM", "SETITEMS"):
            pair = self.to_mark() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
            _fill(self.stack[-1], pair)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            added = [self.pop()] if name == "APPEND" else self.to_mark()
            if isinstance(self.stack[-1], list):
                self.stack[-1].extend(added)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            parts = [self.pop(), self.pop()][::-1] if name == "STACK_GLOBAL" else str(argument).split(" ", 1)
            push(_named(".".join(map(_text, parts))))
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            if name == "NEWOBJ_EX":
                self.pop()
            arguments, function = self.pop(), self.pop()
            push(_called(function, arguments))
        elif name == "BUILD":  # the state of what stays: OrderedDict's _metadata
            self.pop()
        elif name == "BINPERSID":
            storage = _storage(self.pop())
            self.storages[storage.key] = storage
            push(storage)
        else:
            raise ForeignObjectError(f"opcode {name}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BrokenPickleError("a name that is no text")
    return value


def _fill(target: object, pairs: list[object]) -> object:
    """Put items into a dict; keys other than text and whole numbers belong to nothing that a weight needs."""
    if len(pairs) % 2:
        raise BrokenPickleError("a key without a value")
    if isinstance(target, dict):
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(key, str | int):
                target[key] = value
    elif not isinstance(target, Inert):
        raise BrokenPickleError("items for what is no dict")
    return target


def _named(text: str) -> _Name:
    head, _, tail = text.rpartition(".")
    known = head in ("torch", "torch.storage") and tail in STORAGES
    if known or text == "collections.OrderedDict" or _INERT.fullmatch(text):
        return _Name(text)
    raise ForeignObjectError(text)


def _called(function: object, arguments: object) -> object:
    """What a call would give: nothing is called."""
    if not isinstance(arguments, tuple) or not isinstance(function, _Name | Inert):
        raise BrokenPickleError("a call of what is no name")
    text = function.text if isinstance(function, _Name) else ""
    if text == "collections.OrderedDict":
        return _fill({}, [part for pair in _pairs(arguments) for part in pair])
    if text in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return arguments[0]
    if text in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"):
        return _tensor(text, arguments)
    return _INERT_OBJECT


def _pairs(arguments: tuple[object, ...]) -> list[list[object]]:
    pairs = arguments[0] if arguments else []
    if not isinstance(pairs, list) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise BrokenPickleError("an OrderedDict of what are no pairs")
    return [list(pair) for pair in pairs]


def _storage(given: object) -> StorageRef:
    if not isinstance(given, tuple) or len(given) < 5 or given[0] != "storage" or not isinstance(given[1], _Name):
        raise BrokenPickleError("a reference that is no storage")
    kind, key, count = STORAGES.get(given[1].text.rpartition(".")[2]), given[2], given[4]
    if kind is None or not isinstance(key, str) or not _is_size(count) or any(part is not None for part in given[5:]):
        raise BrokenPickleError("a storage of an unknown kind")
    return StorageRef(key, kind, int(str(count)))


def _tensor(function: str, arguments: tuple[object, ...]) -> object:
    storage, offset, shape, strides, *rest = arguments
    if not isinstance(storage, StorageRef):
        return _INERT_OBJECT
    kind = storage.kind
    if function.endswith("_v3"):
        name = rest[2].text if isinstance(rest[2], _Name) else ""
        kind = _DTYPES.get(name.removeprefix("torch."), "")
    if kind in ("", "bytes") or any(isinstance(extra, dict) and extra for extra in rest[2:]):
        return _INERT_OBJECT  # an element type that we have not, or a tensor with a conjugate bit
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise BrokenPickleError("a tensor whose shape and strides differ")
    if not all(map(_is_size, (offset, *shape, *strides))):
        raise BrokenPickleError("a tensor of a negative size")
    return TensorRef(storage, kind, int(str(offset)), tuple(map(int, shape)), tuple(map(int, strides)))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
