"""A bundle opens when it is whole and valid; otherwise one clear error says what is wrong."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.common.errors import BundleError, UsageError
from models.common.hashing import sha256_bytes
from models.geometry import GraphSignature
from runtimes.bundle import Bundle, Decisions, parse_manifest, require_output
from runtimes.protocol import Array, Outputs, RuntimeInfo, State, check_call, zero_state
from streaming.core.loop import make_loop, run_loop

ROOT = Path(__file__).resolve().parents[2]
DATA = b"TFL3 not really"
LABELS = b"a\nb\n"


def manifest() -> dict[str, Any]:
    """A small valid manifest of a classifier."""
    file = {"path": "litert/tiny.fp32.tflite", "sha256": sha256_bytes(DATA), "bytes": len(DATA)}
    audio = {"name": "audio", "shape": [1, 4], "dtype": "float32", "range": [-1.0, 1.0], "meaning": "waveform"}
    scores = {"name": "scores", "shape": [1, 2], "dtype": "float32", "range": [0.0, 1.0], "meaning": "probabilities"}
    return {
        "schema": "hearpack/1",
        "name": "tiny",
        "task": "classifier",
        "created_by": {"hearpack": "0", "toolchain": {}},
        "original": {"factory": "models.tiny:build", "weights_sha256": "0" * 64},
        "geometry": {"sample_rate_hz": 8000, "channels": 1, "window_samples": 4, "hop_samples": 2, "delay_samples": 0},
        "buffer": {"kind": "window", "hops_per_call": 1, "samples": 4},
        "inputs": [audio],
        "outputs": [scores],
        "states": [{"in": "h1", "out": "h1_out", "shape": [1, 3], "dtype": "float32", "reset": "zeros"}],
        "decisions": {"window_hop_samples": 2, "on_threshold": 0.5, "off_threshold": 0.3},
        "artefacts": [
            {
                "id": "litert-fp32",
                "format": "litert",
                "precision": {"weights": "fp32", "compute": "fp32"},
                "files": [file],
                "minimum_os": {"android_api": 26},
                "allowed_compute": ["cpu"],
                "io": {},
                "state_mode": "explicit",
                "tolerance": [{"metric": "score_max_abs_error", "limit": 1e-4}],
            }
        ],
        "files": [{"path": "labels.txt", "sha256": sha256_bytes(LABELS), "bytes": len(LABELS)}],
        "weights": [{"source": "p", "version": "1", "sha256": "0" * 64, "licence": "MIT", "citation": "c"}],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle = tmp_path / "tiny-4.hearpack"
    (bundle / "litert").mkdir(parents=True)
    (bundle / "litert" / "tiny.fp32.tflite").write_bytes(DATA)
    (bundle / "labels.txt").write_bytes(LABELS)
    (bundle / "manifest.json").write_text(json.dumps(manifest()))
    return bundle


def test_a_whole_bundle_opens(folder: Path) -> None:
    for path in (folder, folder / "manifest.json", str(folder)):
        bundle = Bundle.open(path)
        assert bundle.manifest.folder_name == folder.name
        assert bundle.manifest.signature.output_names == ("scores", "h1_out")
        assert bundle.labels() == ("a", "b")
        bundle.check_files()


def test_an_open_bundle_is_taken_as_it_is(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert Bundle.of(bundle) is bundle
    assert Bundle.of(str(folder)).manifest == Bundle.of(folder).manifest == bundle.manifest


def test_dump_is_sorted_stable_and_reads_back(folder: Path) -> None:
    parsed = Bundle.open(folder).manifest
    text = parsed.dump()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert '"in": "h1"' in text
    assert parse_manifest(text, "x") == parsed


def test_unknown_fields_are_ignored() -> None:
    data = manifest()
    data["from_the_future"] = 1
    data["geometry"]["from_the_future"] = 1
    assert parse_manifest(json.dumps(data), "x").name == "tiny"


def drop(*path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for part in path[:-1]:
            data = data[part]
        del data[path[-1]]

    return change


def put(value: Any, *path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for part in path[:-1]:
            data = data[part]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("schema"), "expected a manifest with schema"),
        (put("hearpack/2", "schema"), "not one this hearpack reads"),
        (put("other/1", "schema"), "expected a manifest with schema"),
        (drop("geometry"), "geometry: Field required"),
        (drop("decisions"), "must have `decisions`"),
        (put("detector", "task"), "task: Input should be"),
        (put(0, "geometry", "hop_samples"), "geometry.hop_samples"),
        (put(5, "buffer", "samples"), "buffer.samples says 5"),
        (put([1, 5], "inputs", 0, "shape"), "audio takes 5 samples"),
        (put("../x.tflite", "artefacts", 0, "files", 0, "path"), "does not stay inside"),
        (put("/etc/passwd", "artefacts", 0, "files", 0, "path"), "does not stay inside"),
        (put("0", "artefacts", 0, "files", 0, "sha256"), "sha256"),
        (put([], "artefacts"), "artefacts"),
        (put(0.9, "decisions", "off_threshold"), "off_threshold 0.9 is above on_threshold 0.5"),
        (put({"a": {"on_threshold": 0.1}}, "decisions", "per_label"), "per_label"),
    ],
)
def test_an_invalid_manifest_names_the_fault(change: Callable[[Any], None], message: str) -> None:
    data = copy.deepcopy(manifest())
    change(data)
    with pytest.raises(BundleError, match=message):
        parse_manifest(json.dumps(data), "manifest.json")


def embedder() -> dict[str, Any]:
    """The same as an embedder: windows in, a vector out."""
    data = manifest()
    vector = {"name": "embedding", "shape": [1, 3], "dtype": "float32", "range": [-1.0, 1.0], "meaning": "a voice"}
    data.update(task="embedder", outputs=[vector], states=[])
    del data["decisions"]
    return data


class Voice:
    """A runtime whose embedding is the window's first three samples."""

    def __init__(self, signature: GraphSignature) -> None:
        self.signature, self.info = signature, RuntimeInfo("torch", "fake")

    def reset(self) -> State:
        return zero_state(self.signature)

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        check_call(self.signature, block, state)
        return {"embedding": block[:, :3].copy()}, state

    def close(self) -> None:
        """Nothing is held."""


def test_an_embedder_is_read_and_streamed_as_windows() -> None:
    parsed = parse_manifest(json.dumps(embedder()), "x")
    assert (parsed.output_kind, parsed.gives_audio, parsed.hop_samples) == ("embedding", False, 2)
    assert "output_kind" not in parsed.dump()
    results = run_loop(make_loop(parsed, Voice(parsed.signature)), np.arange(8, dtype=np.float32))
    assert [r.end_sample for r in results] == [4, 6, 8]
    assert [r.values.tolist() for r in results] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]


@pytest.mark.parametrize(
    "change",
    [
        put({"window_hop_samples": 2}, "decisions"),
        put([1, 2, 3], "outputs", 0, "shape"),
        put({"kind": "step", "hops_per_call": 2, "samples": 4}, "buffer"),
    ],
)
def test_an_embedder_has_windows_and_one_vector_and_decides_nothing(change: Callable[[Any], None]) -> None:
    data = embedder()
    change(data)
    with pytest.raises(BundleError, match="an embedder takes windows, gives one `embedding`"):
        parse_manifest(json.dumps(data), "x")


def test_what_cannot_take_an_output_says_so_in_one_line() -> None:
    voice = parse_manifest(json.dumps(embedder()), "x")
    require_output(voice, "calibrate", "audio", "embedding")
    with pytest.raises(UsageError) as refused:
        require_output(voice, "simulate", "audio", "scores")
    assert str(refused.value) == (
        "simulate: tiny is an embedder, which simulate does not take; it takes an enhancer or a classifier"
    )
    data = manifest()
    data.update(task="separator", outputs=[{**data["outputs"][0], "name": name} for name in ("left", "right")])
    del data["decisions"]
    parts = parse_manifest(json.dumps(data), "x")
    assert parts.sources == ("left", "right")
    with pytest.raises(UsageError, match=r"is a separator \(1 channels in, 2 outputs\), which install does not take"):
        require_output(parts, "install", "audio", "scores")


def test_a_minor_schema_of_the_same_major_is_read() -> None:
    data = manifest()
    data["schema"] = "hearpack/1.3"
    assert parse_manifest(json.dumps(data), "x").name == "tiny"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '"x"', "{}"])
def test_text_that_is_no_manifest(text: str) -> None:
    with pytest.raises(BundleError):
        parse_manifest(text, "manifest.json")


SCALARS = st.none() | st.booleans() | st.floats() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(JSON)
def test_any_json_gives_a_manifest_or_a_bundle_error(data: Any) -> None:
    for value in (data, {**manifest(), "geometry": data}, {**manifest(), "artefacts": data}):
        with contextlib.suppress(BundleError):
            parse_manifest(json.dumps(value), "x")


def test_missing_things_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        Bundle.open(tmp_path / "none")
    with pytest.raises(BundleError, match="expected a bundle"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match="it has: litert-fp32"):
        Bundle.open(folder).artefact("coreml-fp32")
    (folder / "labels.txt").write_text("a\n")
    with pytest.raises(BundleError, match=r"labels.txt: does not match the manifest"):
        Bundle.open(folder).labels()
    data = manifest()
    data["files"][0].update(sha256=sha256_bytes(b"a\n"), bytes=2)
    with pytest.raises(BundleError, match="expected 2 labels"):
        Bundle(folder, parse_manifest(json.dumps(data), "x")).labels()


def a_file(path: str) -> dict[str, Any]:
    return {"path": path, "sha256": "0" * 64, "bytes": 1}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no `files`, the list with a hash of every file: it was made by a hearpack that had none; export"),
        ([a_file("b"), a_file("a")], "expected sorted by path"),
        ([a_file("a"), a_file("a")], "'a' is listed twice"),
        ([a_file("A"), a_file("a")], "'a' is listed twice"),
        ([a_file("litert/tiny.fp32.tflite")], "is listed twice"),
        ([a_file("manifest.json")], "stands under no hash"),
        ([a_file("manifest.json.minisig")], "stands under no hash"),
        ([a_file("parity/linux.json")], "stands under no hash"),
        ([a_file("golden/../../x")], "does not stay inside"),
        ([a_file("/etc/passwd")], "does not stay inside"),
        ([{**a_file("a"), "bytes": 1 << 40}], "files.0.bytes"),
    ],
)
def test_files_lists_every_file_once(files: list[dict[str, Any]] | None, message: str) -> None:
    data = manifest()
    data.update(files=files)
    if files is None:
        del data["files"]
    with pytest.raises(BundleError, match=message):
        parse_manifest(json.dumps(data), "manifest.json")


def test_what_no_list_names_is_not_read(folder: Path) -> None:
    (folder / "golden").mkdir()
    (folder / "golden" / "golden.json").write_text("{}")
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match=r"'golden/golden.json' is not among the `files` of the manifest"):
        bundle.read("golden/golden.json")
    assert bundle.strangers(bundle.manifest.paths) == ("golden/golden.json",)
    bundle.check_files()
    bundle.check_others()
    with pytest.raises(BundleError, match=r"'golden/golden.json' is in no list of the manifest"):
        bundle.check_whole()


def test_parity_and_a_signature_are_no_strangers(folder: Path) -> None:
    (folder / "parity").mkdir()
    (folder / "parity" / "linux.json").write_text("{}")
    (folder / "manifest.json.minisig").write_text("")
    Bundle.open(folder).check_whole()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(0.1, "decisions", "on_treshold"), "unknown key 'on_treshold'; did you mean 'on_threshold'"),
        (put({"a": {"on_thresh": 0.9}}, "decisions", "per_label"), "did you mean 'on_threshold'"),
        (put({"prefil_samples": 1, "prefill_samples": 1}, "playout"), "did you mean 'prefill_samples'"),
        (put([{"kind": "gain", "gain_db": 1.0, "gian": 2}], "dsp"), "unknown key 'gian'"),
        (put(1, "decisions", "zzz"), "unknown key 'zzz'; known: window_hop_samples"),
    ],
)
def test_a_slip_in_what_people_edit_is_named(change: Callable[[Any], None], message: str) -> None:
    data = copy.deepcopy(manifest())
    change(data)
    with pytest.raises(BundleError, match=message):
        parse_manifest(json.dumps(data), "manifest.json")


@pytest.mark.parametrize("data", [DATA[:-1], b"X" + DATA[1:], None])
def test_an_artefact_that_was_changed_is_found(folder: Path, data: bytes | None) -> None:
    file = folder / "litert" / "tiny.fp32.tflite"
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)
    with pytest.raises(BundleError, match=r"missing|does not match the manifest"):
        Bundle.open(folder).check_files()


def test_decisions_are_outside_every_hash(folder: Path) -> None:
    data = manifest()
    data["decisions"]["on_threshold"] = 0.9
    (folder / "manifest.json").write_text(json.dumps(data))
    bundle = Bundle.open(folder)
    bundle.check_files()
    assert bundle.manifest.decisions == Decisions(window_hop_samples=2, on_threshold=0.9, off_threshold=0.3)


def test_published_schema_is_the_one_in_force() -> None:
    spec = importlib.util.spec_from_file_location("write_schema", ROOT / "tools" / "write_schema.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = (ROOT / "docs" / "manifest.schema.json").read_text()
    assert text == tool.schema_text(), "run: .venv/bin/python tools/write_schema.py"
    jsonschema.validate(manifest(), json.loads(text))
