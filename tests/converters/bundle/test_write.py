"""converters.bundle.write: the manifest of an export reads back as it was meant; labels, licences, card beside it."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest

from converters.bundle.write import (
    artefact_entry,
    artefact_path,
    build_manifest,
    write_labels,
    write_licences,
    write_model_card,
)
from converters.spec import ExportSpec
from models.catalog import CATALOG
from models.common.errors import WeightsError
from models.common.hashing import sha256_bytes
from models.nets.dtln.entry import DTLN
from models.nets.silero_vad.entry import SILERO_VAD
from models.nets.unet.entry import UNET_SEPARATOR
from models.nets.yamnet.entry import YAMNET
from models.weights.fetch import Source
from models.weights.store import WeightsFile
from runtimes.bundle import Manifest, Tolerance, parse_manifest
from tests.converters.bundle.nets import WEIGHTS, classifier, enhancer, manifest_of

LIMITS = (Tolerance(metric="snr_db", limit=60.0),)


def package(folder: Path, name: str) -> Path:
    """Something with the layout of a .mlpackage."""
    path = folder / name
    (path / "Data" / "weights").mkdir(parents=True)
    (path / "Manifest.json").write_text("{}")
    (path / "Data" / "weights" / "weight.bin").write_bytes(bytes(7))
    (path / "Data" / "model.mlmodel").write_bytes(b"model")
    return path


def test_a_files_entry_has_its_hash_its_size_and_its_limits(tmp_path: Path) -> None:
    file = tmp_path / artefact_path("litert", "net", "fp32")
    file.parent.mkdir()
    file.write_bytes(b"TFL3")
    entry = artefact_entry(tmp_path, file, "litert", "fp32", YAMNET, LIMITS)
    assert (entry.id, entry.path, entry.size_bytes) == ("litert-fp32", "litert/net.fp32.tflite", 4)
    assert entry.files[0].sha256 == sha256_bytes(b"TFL3")
    assert entry.tolerance == LIMITS
    assert (entry.minimum_os.android_api, entry.minimum_os.ios) == (26, None)


def test_a_packages_entry_has_every_file_in_order_and_its_folder_as_path(tmp_path: Path) -> None:
    entry = artefact_entry(
        tmp_path, package(tmp_path, artefact_path("coreml", "net", "fp16")), "coreml", "fp16", enhancer(), LIMITS
    )
    assert (entry.id, entry.path, entry.size_bytes) == ("coreml-fp16", "coreml/net.fp16.mlpackage", 14)
    assert [f.path.removeprefix("coreml/net.fp16.mlpackage/") for f in entry.files] == [
        "Data/model.mlmodel",
        "Data/weights/weight.bin",
        "Manifest.json",
    ]
    assert (entry.minimum_os.android_api, entry.minimum_os.ios) == (None, "16.0")


@pytest.mark.parametrize(
    ("form", "precision", "kept", "weights", "compute"),
    [
        ("litert", "fp32", True, "fp32", "fp32"),
        ("litert", "fp16", False, "fp16", "fp32"),
        ("litert", "fp16", True, "mixed-fp16", "fp32"),
        ("coreml", "fp16", False, "fp16", "fp16"),
        ("coreml", "fp16", True, "mixed-fp16", "mixed-fp16"),
        ("coreml", "fp32", True, "fp32", "fp32"),
    ],
)
def test_what_stays_in_float32_makes_a_precision_mixed(
    tmp_path: Path, form: Any, precision: Any, kept: bool, weights: str, compute: str
) -> None:
    file = tmp_path / "net"
    file.write_bytes(b"x")
    model = dataclasses.replace(enhancer(), fp32_modules=("cell",) if kept else ())
    entry = artefact_entry(tmp_path, file, form, precision, model, ())
    assert (entry.precision.weights, entry.precision.compute) == (weights, compute)


def read_again(manifest: Manifest) -> Manifest:
    return parse_manifest(manifest.dump(), "manifest.json")


@pytest.mark.parametrize("name", CATALOG)
def test_every_nets_manifest_reads_back_as_it_was_written(name: str, tmp_path: Path) -> None:
    model = CATALOG[name]
    for hops in {1, model.max_hops}:
        manifest = manifest_of(model, tmp_path, hops)
        assert read_again(manifest) == manifest
        assert manifest.signature == model.signature(hops)
        assert manifest.buffer.samples == model.buffer_samples(hops)
        assert manifest.folder_name == ExportSpec(model, hops).folder_name
        assert manifest.original.factory == model.factory
        assert (manifest.decisions is None) == (model.task != "classifier")


@pytest.mark.parametrize("make", [enhancer, classifier])
def test_a_users_nets_manifest_reads_back_and_holds_the_hash_of_its_source(make: Any, tmp_path: Path) -> None:
    manifest = manifest_of(make(), tmp_path)
    assert read_again(manifest) == manifest
    assert manifest.original.source_sha256 == "2" * 64
    assert manifest.original.weights_sha256 == WEIGHTS.sha256
    text = manifest.dump()
    assert text.endswith("}\n")
    assert not any(secret in text for secret in (str(tmp_path), str(Path.home()), os.uname().nodename))


def test_states_come_out_under_another_name_and_are_reset_to_zeros(tmp_path: Path) -> None:
    states = manifest_of(DTLN, tmp_path).states
    assert [(s.in_name, s.out_name, s.shape, s.reset) for s in states] == [
        (s.name, f"{s.name}_out", s.shape, "zeros") for s in DTLN.states
    ]


def test_a_step_classifier_decides_once_a_call(tmp_path: Path) -> None:
    two = dataclasses.replace(SILERO_VAD, max_hops=2)
    for hops in (1, 2):
        decisions = manifest_of(two, tmp_path, hops).decisions
        assert decisions is not None
        assert decisions.window_hop_samples == hops * 512


def test_a_windowed_classifier_decides_as_its_entry_says(tmp_path: Path) -> None:
    decisions = manifest_of(classifier(), tmp_path).decisions
    assert decisions is not None
    assert (decisions.window_hop_samples, decisions.on_threshold, decisions.off_threshold) == (80, 0.6, 0.4)


SOURCE = Source("a-package", "1.2", "a.whl", "3" * 64, 0.1, "MIT", "somebody, 2020", ())


def weights_of(*sources: Source, licences: tuple[Path, ...] = ()) -> WeightsFile:
    return WeightsFile(Path("w.safetensors"), "4" * 64, sources, licences)


def origins(model: Any, weights: WeightsFile, folder: Path) -> list[tuple[str, str, str]]:
    artefacts = manifest_of(model, folder).artefacts
    manifest = build_manifest(ExportSpec(model), weights, artefacts)
    return [(w.source, w.version, w.licence) for w in manifest.weights]


def test_where_the_weights_come_from_is_said_for_each_kind_of_them(tmp_path: Path) -> None:
    assert origins(DTLN, weights_of(SOURCE), tmp_path) == [("a-package", "1.2", "MIT")]
    assert origins(DTLN, weights_of(), tmp_path) == [("user file", "", "supplied by the user")]
    assert origins(enhancer(), weights_of(), tmp_path) == [("the user's net.py:build", "", "CC0-1.0")]
    assert DTLN.origins(weights_of(SOURCE))[0].licence == "MIT"
    assert DTLN.origins(weights_of())[0].licence == "supplied by the user"
    assert enhancer().origins(weights_of(SOURCE))[0].licence == "CC0-1.0"


def test_labels_are_lines_in_the_order_of_the_scores(tmp_path: Path) -> None:
    model = dataclasses.replace(classifier(), labels=("Lärm", "quiet, very"))
    assert write_labels(tmp_path, model) == ("Lärm", "quiet, very")
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8") == "Lärm\nquiet, very\n"


def test_labels_of_another_net_are_refused_and_an_enhancer_has_none(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="loudness: expected 2 labels, its package has 3"):
        write_labels(tmp_path, dataclasses.replace(classifier(), labels=("a", "b", "c")))
    assert write_labels(tmp_path, enhancer()) == ()
    assert not list(tmp_path.iterdir())


def test_licences_are_copied_or_said_to_be_the_users(tmp_path: Path) -> None:
    (tmp_path / "LICENCE-mit.txt").write_text("MIT License")
    cases = {
        "package": (DTLN, weights_of(SOURCE, licences=(tmp_path / "LICENCE-mit.txt",))),
        "file": (DTLN, weights_of()),
        "custom": (enhancer(), weights_of()),
    }
    written = {}
    for name, (model, weights) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        write_licences(folder, model, weights)
        written[name] = {f.name: f.read_text() for f in (folder / "LICENSES").iterdir()}
    assert written["package"] == {"LICENCE-mit.txt": "MIT License"}
    assert "supplied by the user" in written["file"]["WEIGHTS.txt"]
    assert "CC0-1.0\nnobody, 2026" in written["custom"]["WEIGHTS.txt"]


@pytest.mark.parametrize(
    "model", [DTLN, YAMNET, SILERO_VAD, UNET_SEPARATOR, enhancer(), classifier()], ids=lambda m: m.name
)
def test_the_card_names_every_tensor_every_artefact_and_every_limit(model: Any, tmp_path: Path) -> None:
    manifest = manifest_of(model, tmp_path, limits=LIMITS)
    write_model_card(tmp_path, ExportSpec(model), manifest, {})
    card = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {model.name}: {model.summary}\n")
    signature = model.signature(1)
    assert all(f"`{t.name}` {list(t.shape)}" in card for t in (*signature.inputs, *signature.outputs))
    assert all(f"`{s.name}` -> `{s.out_name}` {list(s.shape)}" in card for s in model.states)
    assert ("states: none" in card) == (not model.states)
    assert re.search(r"\| litert-fp32 \| 9 \| \d+ \| fp32 \| fp32 \| snr_db 60 \|", card)
    assert f"algorithmic delay: {model.geometry.delay_samples} samples" in card
    assert ("Kept in float32 in the fp16 artefacts" in card) == bool(model.fp32_modules)
    if model.name in CATALOG:
        assert model.text(model.card_file).strip().splitlines()[-1] in card
    else:
        assert "- its licence was guessed" in card
