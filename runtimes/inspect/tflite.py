"""What is inside a .tflite: inputs, outputs, ops, weights, metadata, and what is wrong with it.

Read straight from the FlatBuffer with every offset checked; nothing is executed and neither
TensorFlow nor LiteRT is needed (op names come from ai_edge_litert's schema where it is installed).
Field numbers: tensorflow/compiler/mlir/lite/schema/schema.fbs and mediapipe/tasks/metadata/metadata_schema.fbs.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.common.errors import ArtefactError
from runtimes.inspect.flatbuffer import Table, root, span
from runtimes.inspect.tflite_checks import called, check_calls, check_ops, check_tensor, damaged, in_range
from runtimes.inspect.tflite_ops import op_name
from runtimes.zips import ZipError, bounded_zip

IDENTIFIER = b"TFL3"
METADATA_IDENTIFIER = b"M001"
METADATA_NAME = "TFLITE_METADATA"
MOST_SIGNATURES = 64
MOST_LABEL_BYTES = 4 * 1024 * 1024  # 521 labels have 10 kB
DTYPES = (
    *("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64"),
    *("complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16", "int2", "uint4"),
    *("float8_e4m3fn", "float8_e5m2"),
)
# Ops that audio nets may hold and XNNPACK leaves to the reference kernels (no case in the delegate's VisitNode).
_NOT_DELEGATED = frozenset(
    (
        *("WHILE", "IF", "CALL_ONCE", "RFFT2D", "GATHER", "GATHER_ND", "SELECT", "SELECT_V2", "CUMSUM", "SCATTER_ND"),
        *("REVERSE_V2", "SPLIT_V", "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "TILE"),
        *("ONE_HOT", "TOPK_V2", "ARG_MAX", "L2_NORMALIZATION"),
    )
)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a signature: our name, shape (-1: dynamic), numpy dtype name, index in its subgraph."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    index: int


@dataclass(frozen=True)
class Signature:
    """One way to call the file."""

    key: str
    subgraph: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True)
class TfliteReport:
    """What `hearpack inspect` prints of a .tflite.

    Attributes:
        file_bytes: size of the file.
        signatures: named entry points; the subgraph's own tensors where the file has none.
        ops: how often each op occurs.
        weight_bytes: bytes of constants by element type.
        metadata: model metadata (name, description, version, author, licence, sample rate ...), empty where absent.
        labels: number of labels in the packed label file.
        lints: what will hurt on a phone, one sentence each.
    """

    file_bytes: int
    signatures: tuple[Signature, ...]
    ops: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    metadata: Mapping[str, object] = field(default_factory=dict)
    labels: int = 0
    lints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A checked walk over one subgraph: indices are known to be in range."""

    tensors: tuple[TensorInfo, ...]
    buffers: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ops: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True)
class Walk:
    """Everything read from a file in one checked pass.

    Attributes:
        opcodes: (builtin code, custom name) by opcode index.
        graphs: the subgraphs.
        buffer_spans: (start, bytes) of each buffer, (0, 0) where empty.
        named: metadata name -> buffer index.
        signatures: named entry points as the file has them.
    """

    opcodes: tuple[tuple[int, str], ...]
    graphs: tuple[Graph, ...]
    buffer_spans: tuple[tuple[int, int], ...]
    named: Mapping[str, int]
    signatures: tuple[Signature, ...]


def load_bytes(source: Path | bytes) -> bytes:
    """The bytes of a file, or the bytes themselves.

    Raises:
        ArtefactError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as exc:
        raise ArtefactError(f"cannot read {source}: {exc.strerror or exc}") from exc


def walk(data: bytes) -> Walk:
    """Read a .tflite with every offset and index checked, and what LiteRT takes for granted of a graph.

    Raises:
        ArtefactError: not a .tflite, truncated, damaged, or a graph that cannot be run.
    """
    model = root(data, IDENTIFIER, "a .tflite file")
    opcodes = tuple((max(code.scalar(0, "b"), code.scalar(3, "i")), code.text(1)) for code in model.tables(1))
    spans = tuple(_buffer_span(data, buffer) for buffer in model.tables(4))
    tables = model.tables(2)
    read = [_graph(table, opcodes, spans, len(tables)) for table in tables]
    if not read:
        raise damaged("it has no subgraph")
    if len(model.tables(7)) > MOST_SIGNATURES:
        raise damaged(f"it has more than {MOST_SIGNATURES} signatures")
    graphs = tuple(graph for graph, _ in read)
    check_calls([calls for _, calls in read])
    named = {}
    for entry in model.tables(6):
        index = entry.scalar(1, "I")
        in_range(index, len(spans), "metadata", "buffer")
        named[entry.text(0)] = index
    return Walk(opcodes, graphs, spans, named, tuple(_signature(table, graphs) for table in model.tables(7)))


def _buffer_span(data: bytes, buffer: Table) -> tuple[int, int]:
    offset, size = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
    if offset > 1:  # data appended behind the flatbuffer (files near 2 GB)
        span(data, offset, size, 1)
        return offset, size
    found = buffer.raw(0)
    return found if found is not None else (0, 0)


def _graph(
    table: Table, opcodes: tuple[tuple[int, str], ...], spans: tuple[tuple[int, int], ...], graph_count: int
) -> tuple[Graph, tuple[int, ...]]:
    """One subgraph, and the numbers of those that it calls."""
    tensors, buffers, held = [], [], set()
    shapes: list[tuple[int, ...] | None] = []
    for index, tensor in enumerate(table.tables(0)):
        code, buffer = tensor.scalar(1, "b"), tensor.scalar(2, "I")
        in_range(code, len(DTYPES), f"tensor {index}", "element type")
        in_range(buffer, len(spans), f"tensor {index}", "buffer")
        shape = tensor.ints(0)
        info = TensorInfo(tensor.text(3), tensor.ints(7) or shape, DTYPES[code], index)
        check_tensor(tensor, info.name, shape, info.dtype, spans[buffer][1])
        if spans[buffer][1] or 0 in shape or tensor.scalar(5, "B"):
            held.add(index)
        tensors.append(info)
        buffers.append(buffer)
        shapes.append(None if min(info.shape, default=0) < 0 else shape)
    ops: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = []
    calls: list[int] = []
    for number, op in enumerate(table.tables(3)):
        opcode, ins, outs = op.scalar(0, "I"), op.ints(1), op.ints(2)
        in_range(opcode, len(opcodes), f"op {number}", "operator code")
        for index in (*ins, *outs, *op.ints(8)):
            in_range(index, len(tensors), f"op {number}", "tensor", lowest=-1)  # -1: optional, left out
        calls += called(op, opcodes[opcode][0], graph_count)
        ops.append((opcode, ins, outs))
    inputs, outputs = table.ints(1), table.ints(2)
    for index in (*inputs, *outputs):
        in_range(index, len(tensors), "a subgraph", "tensor")
    check_ops(ops, opcodes, inputs, outputs, frozenset(held), shapes)
    return Graph(tuple(tensors), tuple(buffers), inputs, outputs, tuple(ops)), tuple(calls)


def _signature(table: Table, graphs: tuple[Graph, ...]) -> Signature:
    subgraph = table.scalar(4, "I")
    in_range(subgraph, len(graphs), "a signature", "subgraph")
    graph = graphs[subgraph]

    def named(slot: int, side: str, own: frozenset[int]) -> tuple[TensorInfo, ...]:
        found = []
        for entry in table.tables(slot):
            index = entry.scalar(1, "I")
            if index not in own:
                raise damaged(f"a signature names tensor {index}, which is no {side} of its subgraph")
            info = graph.tensors[index]
            found.append(TensorInfo(entry.text(0), info.shape, info.dtype, index))
        return tuple(found)

    return Signature(
        table.text(2),
        subgraph,
        named(0, "input", frozenset(graph.inputs)),
        named(1, "output", frozenset(graph.outputs)),
    )


def aliased_outputs(found: Walk) -> tuple[str, ...]:
    """Names of outputs that are also an input of their subgraph.

    LiteRT's CompiledModel computes garbage with such a file; the classic interpreter copes.
    """
    names: list[str] = []
    for number, graph in enumerate(found.graphs):
        for index in sorted(set(graph.inputs) & set(graph.outputs)):
            ours = [t.name for s in found.signatures if s.subgraph == number for t in s.outputs if t.index == index]
            names.append(ours[0] if ours else graph.tensors[index].name)
    return tuple(names)


def op_names(found: Walk) -> tuple[str, ...]:
    """The name of each operator code of the file."""
    return tuple(op_name(code, custom) for code, custom in found.opcodes)


def describe(source: Path | bytes) -> TfliteReport:
    """Inspect a .tflite without running it.

    Args:
        source: the file, or its bytes.

    Raises:
        ArtefactError: it cannot be read, is no .tflite, or is damaged.
    """
    try:
        return _describe(load_bytes(source))
    except ArtefactError as exc:
        if isinstance(source, bytes) or str(source) in str(exc):
            raise
        raise ArtefactError(f"{source}: {exc}") from exc


def _describe(data: bytes) -> TfliteReport:
    found = walk(data)
    names = op_names(found)
    ops = Counter(names[opcode] for graph in found.graphs for opcode, _, _ in graph.ops)
    signatures = found.signatures or tuple(
        Signature("", number, tuple(g.tensors[i] for i in g.inputs), tuple(g.tensors[i] for i in g.outputs))
        for number, g in enumerate(found.graphs)
    )
    metadata, labels = read_metadata(data, found)
    return TfliteReport(
        file_bytes=len(data),
        signatures=signatures,
        ops=dict(sorted(ops.items(), key=lambda pair: (-pair[1], pair[0]))),
        weight_bytes=_weight_bytes(found),
        metadata=metadata,
        labels=len(labels),
        lints=_lints(found, ops, signatures),
    )


def _weight_bytes(found: Walk) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    seen: set[int] = set()
    for graph in found.graphs:
        for tensor, buffer in zip(graph.tensors, graph.buffers, strict=True):
            if buffer not in seen and found.buffer_spans[buffer][1]:
                seen.add(buffer)
                sizes[tensor.dtype] += found.buffer_spans[buffer][1]
    return dict(sorted(sizes.items()))


def _lints(found: Walk, ops: Mapping[str, int], signatures: tuple[Signature, ...]) -> tuple[str, ...]:
    lints = [
        f"output {name!r} is an input handed through: CompiledModel computes garbage; use index_select or clamp"
        for name in aliased_outputs(found)
    ]
    if not found.signatures:
        lints.append("no signature: tensors can only be guessed by index")
    lints += [f"custom op {name[7:]!r}: needs a runtime built with it" for name in ops if name.startswith("CUSTOM ")]
    slow = sorted(_NOT_DELEGATED & set(ops))
    if slow:
        lints.append(f"not run by XNNPACK, hence slow reference kernels and a split graph: {', '.join(slow)}")
    for signature in signatures:
        for tensor in (*signature.inputs, *signature.outputs):
            if min(tensor.shape, default=0) < 0:
                lints.append(
                    f"{tensor.name!r} has a dynamic shape {list(tensor.shape)}: memory is planned at every change"
                )
    return tuple(lints)


def read_metadata(data: bytes, found: Walk | None = None) -> tuple[dict[str, object], tuple[str, ...]]:
    """Model metadata and labels of a .tflite, as MediaPipe would read them.

    Args:
        data: the file.
        found: its walk, where the caller has one.

    Returns:
        metadata (empty where the file has none) and labels (empty where it packs no label file).

    Raises:
        ArtefactError: the metadata or the packed files are damaged.
    """
    found = found or walk(data)
    if METADATA_NAME not in found.named:
        return {}, ()
    start, size = found.buffer_spans[found.named[METADATA_NAME]]
    model = root(data[start : start + size], METADATA_IDENTIFIER, "TFLite metadata")
    fields = {"name": 0, "description": 1, "version": 2, "author": 4, "licence": 5, "min_parser_version": 7}
    result: dict[str, object] = {key: model.text(slot) for key, slot in fields.items() if model.text(slot)}
    labels: tuple[str, ...] = ()
    for subgraph in model.tables(3)[:1]:
        for key, slot in (("inputs", 2), ("outputs", 3)):
            result[key] = [_tensor_metadata(table) for table in subgraph.tables(slot)]
        for tensor in subgraph.tables(3):
            for file in tensor.tables(6):
                if file.scalar(2, "b") == 2:  # TENSOR_AXIS_LABELS
                    labels = _packed_labels(data, file.text(0))
                    result["label_file"] = file.text(0)
    return result, labels


def _tensor_metadata(table: Table) -> dict[str, object]:
    result: dict[str, object] = {"name": table.text(0), "description": table.text(1)}
    content = table.table(3)
    if content is not None and content.scalar(0, "B") == 4:  # AudioProperties
        audio = content.table(1)
        if audio is not None:
            result |= {"sample_rate_hz": audio.scalar(0, "I"), "channels": audio.scalar(1, "I")}
    return result


def _packed_labels(data: bytes, name: str) -> tuple[str, ...]:
    try:
        with bounded_zip(io.BytesIO(data), MOST_LABEL_BYTES) as archive:
            return tuple(archive.read(name).decode("utf-8").splitlines())
    except (ZipError, UnicodeDecodeError) as exc:
        raise ArtefactError(
            f"the metadata names the label file {name!r}, which cannot be read from the .tflite: {exc}"
        ) from exc
