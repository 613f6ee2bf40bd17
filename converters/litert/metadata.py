"""MediaPipe metadata for a .tflite, so that its AudioClassifier loads the file as it is.

Written with flatbuffers' builder by field number (mediapipe/tasks/metadata/metadata_schema.fbs,
Apache-2.0); MediaPipe's own writer imports a module that is not there and drops external weights.
The label file rides behind the model as a stored zip entry: a .tflite is read from its front, a zip from its end.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

from converters.litert.tflite_edit import ALIGNMENT, read_model, write_model
from models.common.errors import ConversionError, MissingDependencyError
from runtimes.inspect.tflite import METADATA_IDENTIFIER, METADATA_NAME, TensorInfo, walk

LABEL_FILE = "labels.txt"
_AUDIO_PROPERTIES = 4  # union ContentProperties
_AXIS_LABELS = 2  # enum AssociatedFileType: one line a class
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


def add_mediapipe_metadata(
    tflite: bytes,
    labels: Sequence[str],
    sample_rate_hz: int,
    channels: int,
    name: str,
    description: str,
    version: str,
    licence: str,
    author: str,
) -> bytes:
    """Metadata of an audio classifier, labels included.

    Args:
        tflite: a file with one input [1, samples] and one output [1, classes].
        labels: one label a class, in order.
        sample_rate_hz: rate of the waveform it takes.
        channels: audio channels it takes.
        name: short name of the model.
        description: what it does, in a sentence.
        version: version of the model.
        licence: SPDX identifier or sentence.
        author: who made the model.

    Returns:
        the new file; equal arguments give equal bytes.

    Raises:
        ConversionError: more than one input, or labels that do not fit the output.
        ArtefactError: damaged file.
    """
    signature = _only_signature(tflite)
    if len(signature[0]) != 1 or len(signature[0][0].shape) > 2:
        shapes = ", ".join(f"{t.name} {list(t.shape)}" for t in signature[0])
        raise ConversionError(f"MediaPipe's AudioClassifier takes one input of rank 1 or 2, the file has: {shapes}")
    if sample_rate_hz < 1 or channels < 1:
        raise ConversionError(f"expected a positive rate and channel count, got {sample_rate_hz} Hz and {channels}")
    scores = signature[1][0]
    if scores.shape[-1] != len(labels):
        raise ConversionError(
            f"output {scores.name!r} has {scores.shape[-1]} classes, got {len(labels)} labels; give one a class"
        )
    broken = [label for label in labels if not label.strip() or len(label.splitlines()) != 1]
    if broken:
        raise ConversionError(f"a label must be one non-empty line, got {broken[0]!r}")
    fields = {"name": name, "description": description, "version": version, "author": author, "license": licence}
    table = _metadata_table(fields, signature, (sample_rate_hz, channels))
    return _append_labels(_embed(tflite, table), labels)


def _only_signature(tflite: bytes) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of the first subgraph under our names, in its own order: MediaPipe counts them so."""
    found = walk(tflite)
    graph = found.graphs[0]
    ours = {t.index: t for s in found.signatures[:1] for t in (*s.inputs, *s.outputs)}
    return tuple(ours.get(i, graph.tensors[i]) for i in graph.inputs), tuple(
        ours.get(i, graph.tensors[i]) for i in graph.outputs
    )


def _metadata_table(
    fields: Mapping[str, str], signature: tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]], audio: tuple[int, int]
) -> bytes:
    """ModelMetadata as a flatbuffer of its own. Children first, as flatbuffers wants it."""
    try:
        import flatbuffers
    except ImportError as exc:
        raise MissingDependencyError("flatbuffers", "export", "writing metadata into a .tflite") from exc
    b = flatbuffers.Builder(1024)

    def table(slots: Mapping[int, tuple[str, int]], count: int) -> int:
        """A table with `count` fields; slots: number -> (kind, value)."""
        b.StartObject(count)
        for slot, (kind, value) in slots.items():
            {
                "ref": b.PrependUOffsetTRelativeSlot,
                "u32": b.PrependUint32Slot,
                "i8": b.PrependInt8Slot,
                "u8": b.PrependUint8Slot,
            }[kind](slot, value, 0)
        return int(b.EndObject())

    def vector(offsets: Sequence[int]) -> int:
        b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return int(b.EndVector())

    def tensor(info: TensorInfo) -> int:
        slots = {0: ("ref", int(b.CreateString(info.name)))}
        if info is signature[0][0]:
            rate, channels = audio
            properties = table({0: ("u32", rate), 1: ("u32", channels)}, 2)
            slots[3] = ("ref", table({0: ("u8", _AUDIO_PROPERTIES), 1: ("ref", properties)}, 3))
        if info is signature[1][0]:
            text, what = b.CreateString(LABEL_FILE), b.CreateString("labels of the classes, one a line")
            slots[6] = ("ref", vector([table({0: ("ref", text), 1: ("ref", what), 2: ("i8", _AXIS_LABELS)}, 5)]))
        return table(slots, 7)

    inputs, outputs = (vector([tensor(info) for info in side]) for side in signature)
    subgraph = table({2: ("ref", inputs), 3: ("ref", outputs)}, 10)
    subgraphs = vector([subgraph])
    strings = {key: int(b.CreateString(value)) for key, value in fields.items()}
    slots = {0: "name", 1: "description", 2: "version", 4: "author", 5: "license"}
    parser = int(b.CreateString("1.3.0"))  # the first version that knows AudioProperties
    model = {slot: ("ref", strings[key]) for slot, key in slots.items()} | {3: ("ref", subgraphs), 7: ("ref", parser)}
    b.Finish(table(model, 8), METADATA_IDENTIFIER)
    return bytes(b.Output())


def _embed(tflite: bytes, table: bytes) -> bytes:
    """The model with `table` as the buffer that its metadata entry names; an older one is replaced."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = read_model(tflite)
    data = np.frombuffer(table, np.uint8)
    entries = list(model.metadata or [])
    for entry in entries:
        if entry.name == METADATA_NAME.encode():
            model.buffers[entry.buffer].data = data
            return write_model(model)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = data
    model.buffers.append(buffer)
    entry.name, entry.buffer = METADATA_NAME.encode(), len(model.buffers) - 1
    model.metadata = [*entries, entry]
    return write_model(model)


def _append_labels(tflite: bytes, labels: Sequence[str]) -> bytes:
    """The label file as a stored zip entry behind the model, dated 1980 so that bytes do not depend on the day."""
    stream = io.BytesIO()
    stream.write(tflite + b"\0" * (-len(tflite) % ALIGNMENT))
    entry = zipfile.ZipInfo(LABEL_FILE, _FIXED_DATE)
    entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_STORED, 3, 0o644 << 16
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry, "".join(f"{label}\n" for label in labels).encode("utf-8"))
    return stream.getvalue()
