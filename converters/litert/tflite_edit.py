"""Editing a .tflite: read it as objects, cast weights to half, write it back with aligned buffers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from models.common.errors import ConversionError, MissingDependencyError
from runtimes.inspect.tflite import IDENTIFIER, walk

ALIGNMENT = 16
# Smaller tensors and vectors (biases, scales) stay: they weigh nothing and rounding them costs accuracy.
MIN_HALF_ELEMENTS = 256
_HALF_MAX = 65504.0


@dataclass(frozen=True)
class HalfReport:
    """A .tflite with half weights and what became of each large constant.

    Attributes:
        tflite: the new file.
        halved: names of the constants that are stored as halves now.
        kept: large constants that stayed float32, name -> why.
        halved_bytes: their size before, in bytes.
        kept_bytes: size of all float32 constants that remain, in bytes.
    """

    tflite: bytes
    halved: tuple[str, ...]
    kept: dict[str, str]
    halved_bytes: int
    kept_bytes: int


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as exc:
        raise MissingDependencyError("ai-edge-litert", "export", "editing a .tflite") from exc
    return schema_py_generated


def read_model(tflite: bytes) -> Any:
    """A .tflite as a tree of objects, data kept outside the flatbuffer brought in.

    Raises:
        ArtefactError: damaged file.
    """
    found = walk(tflite)
    schema = _schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite, 0))
    for buffer, (start, size) in zip(model.buffers, found.buffer_spans, strict=True):
        # A trailing zip or external weights would move: everything is written inside again.
        buffer.data = np.frombuffer(tflite, np.uint8, size, start) if size else None
        buffer.offset = buffer.size = 0
    return model


def write_model(model: Any, share: bool = False) -> bytes:
    """Serialise; every buffer's data starts at a multiple of 16 bytes, as the schema asks.

    Args:
        model: a tree of `read_model`.
        share: write equal vectors of shapes, scales and zero points once. A zero point of 8 bytes for each channel is a
            tenth of a small net's int8 weights.
    """
    import flatbuffers

    schema = _schema()

    class Aligned(schema.BufferT):  # type: ignore[misc, name-defined]
        """The generated Pack aligns to 4 only."""

        def Pack(self, builder: Any) -> Any:  # noqa: N802 (name given by the schema)
            data = None
            if self.data is not None and len(self.data):
                payload = bytes(self.data)
                builder.StartVector(1, len(payload), ALIGNMENT)
                builder.head -= len(payload)
                builder.Bytes[builder.head : builder.head + len(payload)] = payload
                data = builder.EndVector()
            schema.BufferStart(builder)
            if data is not None:
                schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    total = sum(0 if b.data is None else len(b.data) for b in model.buffers)
    model.buffers = [Aligned(b.data) for b in model.buffers]

    class Sharing(flatbuffers.Builder):  # type: ignore[misc]
        """Equal vectors at one place; what refers to them is told apart by nothing but its offset."""

        written: ClassVar[dict[tuple[str, bytes], int]] = {}

        def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802 (name given by the library)
            key = (x.dtype.str, x.tobytes())
            if key not in self.written:
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    builder = (Sharing if share else flatbuffers.Builder)(total + (1 << 16))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def cast_to_half(tflite: bytes, keep: Callable[[str], str | None]) -> HalfReport:
    """Store large float32 constants as halves; a DEQUANTIZE op widens each when the file is loaded.

    The arithmetic stays float32. XNNPACK folds the DEQUANTIZE away at load time.

    Args:
        tflite: a float32 file.
        keep: given the names that speak for a constant (its own and those of its consumers' results,
            joined by ";"), why it must stay float32, or None.

    Raises:
        ArtefactError: damaged file.
        ConversionError: nothing could be cast.
    """
    schema = _schema()
    model = read_model(tflite)
    outside = _buffer_users(model)
    opcode = _dequantize_code(schema, model)
    halved: list[str] = []
    kept: dict[str, str] = {}
    halved_bytes = kept_bytes = 0
    for number, graph in enumerate(model.subgraphs):
        consumers: dict[int, list[Any]] = {}
        for op in graph.operators:
            for index in {int(i) for i in (op.inputs if op.inputs is not None else []) if i >= 0}:
                consumers.setdefault(index, []).append(op)
        widening = []
        for index in range(len(graph.tensors)):
            tensor = graph.tensors[index]
            data = model.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.FLOAT32 or data is None or index not in consumers:
                continue
            name = _text(tensor.name)
            names = [name] + [_text(graph.tensors[i].name) for op in consumers[index] for i in op.outputs]
            values = data.view(np.float32) if len(data) % 4 == 0 else None
            shape = [] if tensor.shape is None else list(tensor.shape)
            reason = keep(";".join(names)) or _why_kept(shape, values)
            if reason is None and outside[tensor.buffer] != [(number, index)]:
                reason = "its bytes are shared with another tensor"
            if reason is not None or values is None:
                kept_bytes += len(data)
                if len(shape) > 1 and math.prod(shape) >= MIN_HALF_ELEMENTS:
                    kept[name] = reason or "odd size"
                continue
            half = schema.TensorT()
            half.shape, half.type, half.buffer, half.hasRank = (
                tensor.shape,
                schema.TensorType.FLOAT16,
                tensor.buffer,
                tensor.hasRank,
            )
            half.name = f"{name};half".encode()
            half.quantization = schema.QuantizationParametersT()
            model.buffers[tensor.buffer].data = values.astype(np.float16).view(np.uint8)
            tensor.buffer = 0  # buffer 0 is the empty one by convention
            graph.tensors.append(half)
            op = schema.OperatorT()
            op.opcodeIndex, op.inputs, op.outputs = opcode, [len(graph.tensors) - 1], [index]
            op.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
            op.builtinOptions = schema.DequantizeOptionsT()
            widening.append(op)
            halved.append(name)
            halved_bytes += len(data)
        graph.operators = widening + list(graph.operators)
    if not halved:
        raise ConversionError(
            f"no float32 constant of at least {MIN_HALF_ELEMENTS} elements can be stored as halves; "
            f"ship the fp32 file, it is no larger (kept: {', '.join(sorted(kept)) or 'none'})"
        )
    return HalfReport(write_model(model), tuple(halved), kept, halved_bytes, kept_bytes)


def _why_kept(shape: list[int], values: np.ndarray[Any, Any] | None) -> str | None:
    if len(shape) < 2 or math.prod(shape) < MIN_HALF_ELEMENTS:
        return "small"
    if values is None or not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > _HALF_MAX:
        return f"a value lies outside half precision (largest finite {_HALF_MAX:g})"
    return None


def _buffer_users(model: Any) -> dict[int, list[tuple[int, int]]]:
    users: dict[int, list[tuple[int, int]]] = {}
    for number, graph in enumerate(model.subgraphs):
        for index, tensor in enumerate(graph.tensors):
            users.setdefault(int(tensor.buffer), []).append((number, index))
    return users


def _dequantize_code(schema: Any, model: Any) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # the version that takes float16
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _text(name: bytes | None) -> str:
    return "" if name is None else name.decode("utf-8", "replace")
