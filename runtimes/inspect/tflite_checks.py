"""What LiteRT takes for granted in the graph of a .tflite: checked before it sees the file.

Offsets that stay inside the file (runtimes/inspect/flatbuffer.py) are not enough: a valid flatbuffer may leave out an
input that a kernel follows, read a tensor that nothing writes, or claim a terabyte. Each is refused here by name.
"""

from __future__ import annotations

import graphlib
import math
from collections.abc import Sequence

from models.common.errors import ArtefactError
from runtimes.inspect.flatbuffer import Table
from runtimes.inspect.tflite_ops import BROADCAST, NEVER, SAME_ELEMENTS, SAME_SHAPE, SUBGRAPHS, arity, op_name

# Largest tensor that is computed, and largest dimension. The largest of the catalogue is 8 MB.
MOST_BYTES = 1 << 29
MOST_ELEMENTS = 1 << 31
MOST_RANK = 8  # of LiteRT's kernels
_BITS = {
    **dict.fromkeys(("int64", "float64", "uint64", "complex64"), 64),
    **dict.fromkeys(("float32", "int32", "uint32"), 32),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 16),
    "complex128": 128,
    "int4": 4,
    "uint4": 4,
    "int2": 2,
}
_UNSIZED = ("string", "resource", "variant")
_SHAPED = SAME_SHAPE | SAME_ELEMENTS | BROADCAST
Shape = tuple[int, ...]
Op = tuple[int, tuple[int, ...], tuple[int, ...]]


def damaged(what: str) -> ArtefactError:
    """The error of a graph that no exporter writes."""
    return ArtefactError(f"damaged .tflite file: {what}; export it again")


def in_range(index: int, count: int, what: str, of: str, lowest: int = 0) -> None:
    """Raise ArtefactError unless `index` is one of `count`."""
    if not lowest <= index < count:
        raise damaged(f"{what} refers to {of} {index}, there are {count}")


def check_tensor(tensor: Table, name: str, shape: tuple[int, ...], dtype: str, buffer_bytes: int) -> None:
    """Raise ArtefactError unless shape, buffer and quantization of a tensor belong together.

    Args:
        tensor: its table.
        name: as messages call it.
        shape: its shape.
        dtype: numpy name of its element type.
        buffer_bytes: size of its buffer, 0 for a tensor that is computed.
    """
    declared = tensor.ints(7)
    if len(shape) > MOST_RANK or min(shape, default=0) < 0 or (declared and len(declared) != len(shape)):
        raise damaged(f"{name!r} has the shape {list(shape)[:12]} (declared {list(declared)[:12]})")
    elements = math.prod(shape)
    size = -(-elements * _BITS.get(dtype, 8) // 8)
    if elements >= MOST_ELEMENTS or (not buffer_bytes and size > MOST_BYTES):
        raise damaged(f"{name!r} {list(shape)} {dtype} would take {size} bytes, at most {MOST_BYTES} are computed")
    sparse = tensor.table(6) is not None
    if buffer_bytes and dtype not in _UNSIZED and not sparse and buffer_bytes != size:
        raise damaged(f"constant {name!r} {list(shape)} {dtype} needs {size} bytes, its buffer has {buffer_bytes}")
    if buffer_bytes and tensor.scalar(5, "B"):
        raise damaged(f"{name!r} is a variable and has constant data")
    _check_quantization(tensor.table(4), shape, name)


def _check_quantization(quantization: Table | None, shape: Sequence[int], name: str) -> None:
    if quantization is None:
        return
    scales, zeros = quantization.raw(2, 4), quantization.raw(3, 8)
    count = scales[1] if scales else 0
    axis = quantization.scalar(6, "i")
    channels = shape[axis] if 0 <= axis < len(shape) else 1
    if count > 1 and count != channels:
        raise damaged(f"{name!r} has {count} scales for {channels} channels of axis {axis}")
    if count and zeros and zeros[1] not in (1, count):
        raise damaged(f"{name!r} has {count} scales and {zeros[1]} zero points")


def check_ops(
    ops: Sequence[Op],
    opcodes: Sequence[tuple[int, str]],
    inputs: Sequence[int],
    outputs: Sequence[int],
    held: frozenset[int],
    shapes: Sequence[Shape | None],
) -> None:
    """Raise ArtefactError unless every operator has its tensors, and every tensor that is read was written before.

    Args:
        ops: (operator code's index, inputs, outputs) in the order of execution, indices in range or -1.
        opcodes: (builtin code, custom name) by index.
        inputs, outputs: of the subgraph.
        held: tensors that need no writer: constants, variables and empty ones.
        shapes: of the tensors, None where one is dynamic.
    """
    if len(set(inputs)) != len(inputs):
        raise damaged("a subgraph names an input twice")
    written = set(inputs)
    for number, (opcode, ins, outs) in enumerate(ops):
        code = opcodes[opcode][0]
        wrong = _wrong_op(code, ins, outs, written, held) or _wrong_shape(code, ins, outs, shapes)
        if wrong:
            raise damaged(f"op {number} ({op_name(*opcodes[opcode])}) {wrong}")
        written.update(outs)
    for index in outputs:
        if index not in written and index not in held:
            raise damaged(f"a subgraph gives out tensor {index}, which nothing has written")


def _wrong_op(code: int, ins: tuple[int, ...], outs: tuple[int, ...], written: set[int], held: frozenset[int]) -> str:
    """What is wrong with one operator, given the tensors that are there before it; empty where nothing is."""
    if code in NEVER:
        return "is no operator of a file"
    known = arity(code, len(ins))
    for side, (fewest, most), came in (("inputs", known.inputs, ins), ("outputs", known.outputs, outs)):
        if not fewest <= len(came) <= most:
            return f"has {len(came)} {side}, expected {fewest if fewest == most else f'{fewest} to {most}'}"
    for place, index in enumerate(ins):
        if index < 0:
            if place not in known.optional:
                return f"leaves out input {place}, which it needs"
        elif index not in written and index not in held:
            return f"reads tensor {index}, which nothing has written"
    if len(set(outs)) != len(outs):
        return "writes a tensor twice"
    for index in outs:
        if index < 0 or index in written or index in held:
            return f"writes tensor {index}, which is not its own"
    return ""


def _wrong_shape(code: int, ins: tuple[int, ...], outs: tuple[int, ...], shapes: Sequence[Shape | None]) -> str:
    """What is wrong with the shape of an element by element operator's result; empty where nothing is."""
    if code not in _SHAPED:
        return ""
    given, result = shapes[ins[0]], shapes[outs[0]]
    if given is None or result is None:
        return ""
    fits = True
    if code in SAME_SHAPE:
        fits = given == result
    elif code in SAME_ELEMENTS:
        fits = math.prod(given) == math.prod(result)
    else:
        other = shapes[ins[1]]
        fits = other is None or _broadcast(given, other) == result
    return "" if fits else f"gives {list(result)}, which is not what it makes of {list(given)}"


def _broadcast(one: Shape, two: Shape) -> Shape | None:
    """The shape of two broadcast, None where they do not fit."""
    rank = max(len(one), len(two))
    pairs = list(zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(two)) + two, strict=True))
    return tuple(b if a == 1 else a for a, b in pairs) if all(1 in p or p[0] == p[1] for p in pairs) else None


def called(op: Table, code: int, count: int) -> tuple[int, ...]:
    """Subgraphs that an operator calls, in range of `count`."""
    slot, fields = SUBGRAPHS.get(code, (0, ()))
    options = op.table(slot) if fields else None
    found = tuple(options.scalar(field, "i") for field in fields) if options is not None else ()
    for index in found:
        in_range(index, count, f"an {op_name(code)}", "subgraph")
    return found


def check_calls(calls: Sequence[tuple[int, ...]]) -> None:
    """Raise ArtefactError where a subgraph ends up calling itself."""
    try:
        graphlib.TopologicalSorter(dict(enumerate(calls))).prepare()
    except graphlib.CycleError as exc:
        raise damaged("a subgraph calls itself") from exc
