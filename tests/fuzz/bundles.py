"""Bundles: manifest, golden vectors and labels, read by what opens, runs, simulates, installs and checks them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from models.common.hashing import sha256_file
from tests.fuzz.kinds import Kind
from tests.fuzz.mutate import damage_bytes, damage_json, damage_text

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
RATE, SAMPLES = 16_000, 256
LABELS = ("Bell", "Horn", "Dog", "Voice", "Rain")
MODEL = "litert/tiny.fp32.tflite"


def manifest(model: Path) -> dict[str, Any]:
    """Of tests/fixtures/tflite/step.tflite."""
    audio = {"name": "audio", "shape": [1, SAMPLES], "range": [-1.0, 1.0], "meaning": "waveform"}
    scores = {"name": "scores", "shape": [1, len(LABELS)], "range": [0.0, 1.0], "meaning": "probabilities"}
    return {
        "schema": "hearpack/1",
        "name": "tiny",
        "task": "classifier",
        "created_by": {"hearpack": "0", "toolchain": {"torch": "2"}},
        "original": {"factory": "models.tiny:build", "weights_sha256": "0" * 64},
        "geometry": {
            "sample_rate_hz": RATE,
            "channels": 1,
            "window_samples": SAMPLES,
            "hop_samples": SAMPLES,
            "delay_samples": 0,
        },
        "buffer": {"kind": "step", "hops_per_call": 1, "samples": SAMPLES},
        "inputs": [{**audio, "dtype": "float32"}],
        "outputs": [{**scores, "dtype": "float32"}],
        "states": [{"in": "h", "out": "h_out", "shape": [1, 32], "dtype": "float32", "reset": "zeros"}],
        "decisions": {
            "window_hop_samples": SAMPLES,
            "smoothing_windows": 3,
            "on_threshold": 0.5,
            "off_threshold": 0.3,
            "min_on_ms": 10.0,
            "min_off_ms": 20.0,
            "per_label": {"Bell": {"on_threshold": 0.6}},
        },
        "dsp": [{"kind": "highpass", "cutoff_hz": 80.0}, {"kind": "gain", "gain_db": 3.0}],
        "playout": {"prefill_samples": 128},
        "artefacts": [
            {
                "id": "litert-fp32",
                "format": "litert",
                "precision": {"weights": "fp32", "compute": "fp32"},
                "files": [entry(model, MODEL)],
                "minimum_os": {"android_api": 26},
                "allowed_compute": ["cpu"],
                "io": {},
                "state_mode": "explicit",
                "tolerance": [{"metric": "score_max_abs_error", "limit": 1e-4}],
            }
        ],
        "weights": [{"source": "p", "version": "1", "sha256": "0" * 64, "licence": "MIT", "citation": "c"}],
    }


def entry(file: Path, path: str) -> dict[str, Any]:
    return {"path": path, "sha256": sha256_file(file), "bytes": file.stat().st_size}


def make_bundle(folder: Path) -> None:
    """tiny-256.hearpack, whole, with a golden stream of half a second, and a sound beside it."""
    from streaming.files.wav import write_wav

    (folder / "litert").mkdir(parents=True)
    (folder / "golden").mkdir()
    shutil.copyfile(FIXTURES / "tflite" / "step.tflite", folder / MODEL)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    (folder / "MODEL_CARD.md").write_text("# tiny\n")
    (folder / "LICENSES").mkdir()
    (folder / "LICENSES" / "tiny.txt").write_text("MIT\n")
    random = np.random.default_rng(1)
    calls = 31
    (folder / "golden" / "input.f32").write_bytes(random.normal(0, 0.1, calls * SAMPLES).astype("<f4").tobytes())
    (folder / "golden" / "scores.f32").write_bytes(random.random((calls, len(LABELS))).astype("<f4").tobytes())
    event = {"label": "Bell", "index": 0, "onset_sample": 0, "offset_sample": 256, "confidence": 0.5}
    stream = {"sample_rate_hz": RATE, "input": "input.f32", "outputs": {"scores": "scores.f32"}}
    stream |= {"shape": [calls, len(LABELS)], "events": [event]}
    data = manifest(folder / MODEL)
    golden = {"streams": [stream], "decisions": data["decisions"]}
    (folder / "golden" / "golden.json").write_text(json.dumps(golden))
    (folder / "manifest.json").write_text(json.dumps(data))
    write_list(folder)
    write_wav(folder.parent / "sound.wav", random.normal(0, 0.1, RATE // 2).astype(np.float32), RATE)


def write_list(folder: Path) -> None:
    """The manifest's `files` as they are now: what would hide a damaged file from its reader."""
    file = folder / "manifest.json"
    data = json.loads(file.read_text())
    own = {"manifest.json", *(f["path"] for a in data["artefacts"] for f in a["files"])}
    names = (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file())
    data["files"] = [entry(folder / name, name) for name in names if name not in own]
    for artefact in data["artefacts"]:
        artefact["files"] = [entry(folder / f["path"], f["path"]) for f in artefact["files"]]
    file.write_text(json.dumps(data))


def _make(folder: Path) -> None:
    make_bundle(folder / "tiny-256.hearpack")
    app = folder / "app" / "app" / "src" / "main"
    app.mkdir(parents=True)
    (app / "AndroidManifest.xml").write_text("<manifest/>")
    (folder / "app" / "bundle-schema.txt").write_text("hearpack/1\n")


def _relist(folder: Path) -> None:
    write_list(folder / "tiny-256.hearpack")


def _open(folder: Path, random: Random) -> None:
    """What any command does first, then one command."""
    from runtimes.bundle import Bundle
    from runtimes.inspect.bundle import describe_bundle

    path = folder / "tiny-256.hearpack"
    bundle = Bundle.open(path)
    bundle.labels()
    describe_bundle(bundle)
    if random.random() < 0.2:
        random.choice((_run, _simulate, _install, _show))(folder, path)


def _run(folder: Path, path: Path) -> None:
    from streaming.files.stream_file import run

    run(path, folder / "sound.wav", output=folder / "events.csv")


def _simulate(folder: Path, path: Path) -> None:
    from streaming.simulator.modes import Simulate
    from streaming.simulator.simulate import simulate

    simulate(path, Simulate(audio=folder / "sound.wav", compute_ms=0.1, seconds=0.3), output=folder / "a.run")


def _install(folder: Path, path: Path) -> None:
    from hearpack import install

    install(path, android=folder / "app")


def _show(_folder: Path, path: Path) -> None:
    import contextlib
    import io

    from hearpack.commands.inspect import show
    from hearpack.commands.shared import to_plain
    from runtimes.inspect.inspect import inspect

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        show(to_plain(inspect(path)))
    if not said.getvalue().replace("\n", "").isprintable():
        raise AssertionError("inspect printed what controls a terminal")


def _golden(folder: Path, _random: Random) -> None:
    from converters.bundle.golden import read_golden
    from runtimes.bundle import Bundle

    read_golden(Bundle.open(folder / "tiny-256.hearpack"))


def _labels(folder: Path, _random: Random) -> None:
    from runtimes.bundle import Bundle
    from streaming.files.labels import read_labels

    Bundle.open(folder / "tiny-256.hearpack").labels()
    read_labels(folder / "labels.csv", LABELS, 60.0)
    read_labels(folder / "labels.csv", LABELS, 60.0, "Bell")


def _make_labels(folder: Path) -> None:
    _make(folder)
    (folder / "labels.csv").write_text("onset,offset,label\n0.5,1.25,Bell\n2,3.5,Horn\n7.0,9.0,Dog\n")


_BUNDLE = "tiny-256.hearpack"
KINDS = (
    Kind("manifest", _make, ((f"{_BUNDLE}/manifest.json", damage_json),), _open, suite=600),
    Kind(
        "golden",
        _make,
        (
            *((f"{_BUNDLE}/golden/golden.json", damage_json),) * 8,
            (f"{_BUNDLE}/golden/input.f32", damage_bytes),
            (f"{_BUNDLE}/golden/scores.f32", damage_bytes),
        ),
        _golden,
        after=_relist,
        suite=400,
    ),
    Kind(
        "labels",
        _make_labels,
        ((f"{_BUNDLE}/labels.txt", damage_text), ("labels.csv", damage_text), ("labels.csv", damage_text)),
        _labels,
        after=_relist,
        suite=400,
    ),
)
