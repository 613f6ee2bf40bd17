"""MediaPipe metadata: what is written is read back, by us and by MediaPipe itself."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.litert.metadata import add_mediapipe_metadata
from converters.litert.tflite_edit import cast_to_half
from models.common.errors import ArtefactError, ConversionError
from models.geometry import GraphSignature, TensorSpec
from runtimes.inspect.tflite import describe, read_metadata, walk
from runtimes.litert import LiteRTRuntime

FILES = Path(__file__).resolve().parents[2] / "fixtures" / "tflite"
WINDOW_FILE, STEP_FILE = (FILES / "window.tflite").read_bytes(), (FILES / "step.tflite").read_bytes()
LABELS = ("Speech", "Dog", "Fahrradklingel, hell", "Ветер", "Rain")
FACTS: dict[str, Any] = {
    "sample_rate_hz": 16000,
    "channels": 1,
    "name": "toy",
    "description": "A small classifier.",
    "version": "7",
    "licence": "Apache-2.0",
    "author": "Nobody",
}
SIGNATURE = GraphSignature(
    (TensorSpec("audio", (1, 256), (-1.0, 1.0), ""),), (TensorSpec("scores", (1, 5), (0.0, 1.0), ""),)
)


def classifier(precision: str) -> bytes:
    return WINDOW_FILE if precision == "fp32" else cast_to_half(WINDOW_FILE, lambda _: None).tflite


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_is_written_is_read_back_and_the_net_is_untouched(precision: str) -> None:
    plain = classifier(precision)
    tflite = add_mediapipe_metadata(plain, LABELS, **FACTS)
    metadata, labels = read_metadata(tflite)
    assert labels == LABELS
    assert metadata["inputs"] == [{"name": "audio", "description": "", "sample_rate_hz": 16000, "channels": 1}]
    assert {key: metadata[key] for key in ("name", "description", "version", "licence", "author")} == {
        key: FACTS[key] for key in ("name", "description", "version", "licence", "author")
    }
    assert read_metadata(plain) == ({}, ())
    before, after = describe(plain), describe(tflite)
    assert (before.ops, before.weight_bytes, before.signatures) == (after.ops, after.weight_bytes, after.signatures)
    block = np.random.default_rng(0).standard_normal((1, 256)).astype(np.float32)
    one, two = (LiteRTRuntime(data, SIGNATURE).step(block, {})[0]["scores"] for data in (plain, tflite))
    assert np.array_equal(one, two)


def test_buffers_are_aligned_and_labels_stored_with_a_fixed_date() -> None:
    tflite = add_mediapipe_metadata(classifier("fp16"), LABELS, **FACTS)
    starts = [start for start, size in walk(tflite).buffer_spans if size]
    assert len(starts) > 5
    assert not any(start % 16 for start in starts)
    (entry,) = zipfile.ZipFile(io.BytesIO(tflite)).infolist()
    assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)


def test_writing_again_replaces_and_equal_arguments_give_equal_bytes() -> None:
    once = add_mediapipe_metadata(WINDOW_FILE, LABELS, **FACTS)
    assert add_mediapipe_metadata(WINDOW_FILE, LABELS, **FACTS) == once
    assert add_mediapipe_metadata(once, LABELS, **FACTS) == once
    renamed = add_mediapipe_metadata(once, LABELS[::-1], **(FACTS | {"name": "other"}))
    metadata, labels = read_metadata(renamed)
    assert (metadata["name"], labels) == ("other", LABELS[::-1])


def test_weights_behind_the_flatbuffer_are_brought_in() -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(WINDOW_FILE, 0))
    data = [None if b.data is None else bytes(b.data) for b in model.buffers]
    large = max(range(len(data)), key=lambda i: len(data[i] or b""))
    payload = data[large]
    assert payload
    for offset in (2, 1 << 20):  # the second pass knows where the flatbuffer ends
        model.buffers[large].data, model.buffers[large].offset, model.buffers[large].size = None, offset, len(payload)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        front = bytes(builder.Output())
        model.buffers[large].offset = len(front)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        front = bytes(builder.Output())
    external = front + payload
    assert describe(external).weight_bytes == describe(WINDOW_FILE).weight_bytes
    done = add_mediapipe_metadata(external, LABELS, **FACTS)
    block = np.random.default_rng(1).standard_normal((1, 256)).astype(np.float32)
    one, two = (LiteRTRuntime(data, SIGNATURE).step(block, {})[0]["scores"] for data in (WINDOW_FILE, done))
    assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("tflite", "labels", "change", "message"),
    [
        (WINDOW_FILE, LABELS[1:], {}, "has 5 classes, got 4 labels"),
        (WINDOW_FILE, (*LABELS[1:], "two\nlines"), {}, "must be one non-empty line"),
        (WINDOW_FILE, (*LABELS[1:], " "), {}, "must be one non-empty line"),
        (WINDOW_FILE, LABELS, {"sample_rate_hz": 0}, "expected a positive rate"),
        (STEP_FILE, LABELS, {}, "takes one input of rank 1 or 2, the file has: audio"),
    ],
)
def test_what_mediapipe_would_choke_on_is_refused(
    tflite: bytes, labels: tuple[str, ...], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        add_mediapipe_metadata(tflite, labels, **(FACTS | change))


def test_a_cut_label_file_is_an_error_not_a_classifier_without_labels() -> None:
    tflite = add_mediapipe_metadata(WINDOW_FILE, LABELS, **FACTS)
    with pytest.raises(ArtefactError, match=r"names the label file 'labels.txt', which cannot be read"):
        read_metadata(tflite[:-40])


def repacked(content: bytes, **options: Any) -> bytes:
    """The classifier with another label zip behind it."""
    tflite = add_mediapipe_metadata(WINDOW_FILE, LABELS, **FACTS)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", **options) as archive:
        archive.writestr("labels.txt", content)
    return tflite[: tflite.rfind(b"PK\x03\x04")] + packed.getvalue()


def patched(data: bytes, local: int, central: int, value: int) -> bytes:
    changed = bytearray(data)
    changed[changed.rfind(b"PK\x03\x04") + local] = changed[changed.rfind(b"PK\x01\x02") + central] = value
    return bytes(changed)


@pytest.mark.parametrize(
    ("tflite", "message"),
    [
        (
            repacked(bytes(20_000_000), compression=zipfile.ZIP_DEFLATED),
            "it unpacks to 20000000 bytes, at most 4194304",
        ),
        (repacked(b"a", compression=zipfile.ZIP_BZIP2), "an unusual method"),
        (patched(repacked(b"a"), 6, 8, 1), "it is encrypted"),
        (patched(repacked(b"a"), 8, 10, 99), "an unusual method"),
        (patched(repacked(b"a" * 999, compression=zipfile.ZIP_DEFLATED), 41, 16, 0xFF), "cannot be read as a zip"),
        (repacked(b"\xff\xfe"), "utf-8"),
    ],
)
def test_a_label_zip_is_bounded_and_its_faults_are_one_error(tflite: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=f"names the label file 'labels.txt', which cannot .*{message}"):
        describe(tflite)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_mediapipe_gives_the_scores_of_our_interpreter(
    precision: str, mediapipe_scores: Callable[[bytes, np.ndarray, int], list[dict[int, tuple[str, float]]]]
) -> None:
    tflite = add_mediapipe_metadata(classifier(precision), LABELS, **FACTS)
    samples = (0.1 * np.random.default_rng(2).standard_normal(4 * 256 + 100)).astype(np.float32)
    theirs = mediapipe_scores(tflite, samples, 16000)
    padded = np.pad(samples, (0, 5 * 256 - len(samples))).reshape(5, 1, 256)  # it cuts without overlap, pads the tail
    runtime = LiteRTRuntime(tflite, SIGNATURE)
    ours = np.concatenate([runtime.step(block, {})[0]["scores"] for block in padded])
    assert len(theirs) == 5
    assert [[window[i][0] for i in range(5)] for window in theirs] == [list(LABELS)] * 5
    assert np.array_equal(np.array([[w[i][1] for i in range(5)] for w in theirs], np.float32), ours)
