"""Each command does its job, in text and as JSON, on the real bundles."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from converters.bundle.test_audio import noisy_speech, street
from hearpack.cli import app
from models import pretrained
from models.catalog import CATALOG
from models.common.errors import MissingDependencyError
from runtimes.bundle import Bundle
from streaming.core.resample import resample

ROOT = Path(__file__).resolve().parents[2]
RATE = 16000


def hearpack(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*arguments: object) -> Any:
    result = hearpack(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_models_lists_both_with_geometry() -> None:
    rows = {row["name"]: row for row in as_json("models")}
    assert set(rows) == set(CATALOG)
    assert "zenodo" in rows["panns-cnn14"]["weights_from"]
    assert rows["dtln"]["hop_samples"] == 128
    assert "8 ms" in hearpack("models").output


def test_doctor_names_what_is_missing() -> None:
    report = as_json("doctor", "--quick")
    assert any(c["what"] == "run .tflite" and c["available"] for c in report["checks"])
    assert all(c["detail"] for c in report["checks"])


def test_manifests_fit_the_published_schema(exported: dict[str, Path]) -> None:
    schema = json.loads((ROOT / "docs" / "manifest.schema.json").read_text())
    for path in exported.values():
        text = (path / "manifest.json").read_text()
        jsonschema.validate(json.loads(text), schema)
        assert Bundle.open(path).manifest.dump() == text


def test_bundles_hold_what_the_contract_asks(exported: dict[str, Path]) -> None:
    for name, path in exported.items():
        held = {p.relative_to(path).as_posix() for p in path.rglob("*")}
        wanted = {f"litert/{name}.fp32.tflite", f"litert/{name}.fp16.tflite", "MODEL_CARD.md", "golden/golden.json"}
        wanted |= {f"coreml/{name}.fp32.mlpackage", f"coreml/{name}.fp16.mlpackage", "golden/input.f32"}
        assert wanted <= held
        assert any(h.startswith("LICENSES/") for h in held)
        assert not [h for h in held if Path(h).name.startswith(".")]
    assert len((exported["yamnet"] / "labels.txt").read_text().splitlines()) == 521


def test_an_unchanged_export_is_left_alone_and_edited_decisions_and_dsp_are_kept(tmp_path: Path) -> None:
    (first,) = as_json("export", "yamnet", "-o", tmp_path)
    manifest = Path(first["path"]) / "manifest.json"
    data = json.loads(manifest.read_text())
    data["decisions"]["on_threshold"] = 0.77
    data["dsp"] = [{"kind": "gate", "threshold_dbfs": -70.0, "hold_windows": 2}]
    manifest.write_text(json.dumps(data))
    before = manifest.stat().st_mtime_ns
    (second,) = as_json("export", "yamnet", "-o", tmp_path)
    assert second["cached"]
    assert second["kept_decisions"]
    assert manifest.stat().st_mtime_ns == before
    (manifest.parent / "MODEL_CARD.md").write_text("damaged")
    (third,) = as_json("export", "yamnet", "-o", tmp_path)
    assert third["kept_decisions"]
    assert json.loads(manifest.read_text())["decisions"]["on_threshold"] == 0.77
    assert json.loads(manifest.read_text())["dsp"] == data["dsp"]
    assert (manifest.parent / "MODEL_CARD.md").read_text() != "damaged"


def test_inspect_shows_bundles_and_both_formats(exported: dict[str, Path]) -> None:
    bundle = as_json("inspect", exported["dtln"])
    assert bundle["buffer_samples"] == 128
    assert all(a["intact"] for a in bundle["artefacts"])
    tflite = as_json("inspect", exported["yamnet"] / "litert" / "yamnet.fp32.tflite")
    assert tflite["labels"] == 521
    package = as_json("inspect", exported["dtln"] / "coreml" / "dtln.fp16.mlpackage")
    operations = dict(package["operations"])
    assert operations["linear"] > 0
    assert "while_loop" not in operations
    for path in (exported["dtln"], exported["dtln"] / "coreml" / "dtln.fp16.mlpackage"):
        assert "enhanced" in hearpack("inspect", path).output


def test_run_hears_the_bells(exported: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "street.wav"
    soundfile.write(file, street(RATE)[: 26 * RATE], RATE)
    result = as_json("run", exported["yamnet"], file, "-o", tmp_path / "events.csv")
    rows = list(csv.DictReader((tmp_path / "events.csv").open()))
    assert [r["label"] for r in rows] == [e["label"] for e in result["events"]]
    bells = [e for e in result["events"] if e["label"] == "Bicycle bell"]
    # labelled by hand: 6.9 s to 24.9 s
    assert any(6.0 * RATE < b["onset_sample"] < 9.0 * RATE and b["offset_sample"] > 20.0 * RATE for b in bells)
    assert "Bicycle bell" in hearpack("run", exported["yamnet"], file, "-o", tmp_path / "events.json").output
    assert json.loads((tmp_path / "events.json").read_text())["events"] == [
        {k: v for k, v in e.items() if k != "emitted_at_sample"} for e in result["events"]
    ]


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 96000])
def test_run_enhances_at_any_rate_without_delay(exported: dict[str, Path], tmp_path: Path, rate: int) -> None:
    clean, noisy = noisy_speech(RATE, 4.0)
    file, out = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(file, resample(noisy, RATE, rate), rate, subtype="FLOAT")
    as_json("run", exported["dtln"], file, "-o", out)
    enhanced, out_rate = soundfile.read(out, dtype="float32")
    assert out_rate == rate
    assert len(enhanced) == soundfile.info(file).frames
    if rate == RATE:
        # A sample of delay that is not taken out would cost more than what the enhancer gains.
        lags = range(-3, 4)
        products = [float(np.dot(np.roll(enhanced, lag), clean)) for lag in lags]
        assert lags[int(np.argmax(products))] == 0


def test_run_keeps_stereo(exported: dict[str, Path], tmp_path: Path) -> None:
    _, noisy = noisy_speech(RATE, 2.0)
    file, out = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(file, np.stack([noisy, np.zeros_like(noisy)], axis=1), RATE, subtype="FLOAT")
    as_json("run", exported["dtln"], file, "-o", out)
    enhanced, _ = soundfile.read(out, dtype="float32")
    assert enhanced.shape == (len(noisy), 2)
    assert np.abs(enhanced[:, 1]).max() < 1e-3 < np.abs(enhanced[:, 0]).max()


def test_every_artefact_runs_a_file_alike(exported: dict[str, Path], tmp_path: Path) -> None:
    _, noisy = noisy_speech(RATE, 2.0)
    file = tmp_path / "in.wav"
    soundfile.write(file, noisy, RATE, subtype="FLOAT")
    results = {}
    for artefact in Bundle.open(exported["dtln"]).manifest.artefacts:
        out = tmp_path / f"{artefact.id}.wav"
        as_json("run", exported["dtln"], file, "-o", out, "--artefact", artefact.id)
        results[artefact.id] = soundfile.read(out, dtype="float32")[0]
    reference = results.pop("litert-fp32")
    for name, signal in results.items():
        error = signal - reference
        snr_db = 10 * np.log10(np.sum(reference**2) / np.sum(error**2))
        assert snr_db > (100 if name.endswith("fp32") else 50), name


def test_verify_measures_every_artefact_and_writes_it_down(exported: dict[str, Path], copy_of: Any) -> None:
    bundle = copy_of("dtln")
    report = as_json("verify", bundle, "--seconds", "4")
    assert report["passed"]
    assert report["reference"] == "torch original"
    engines = {(a["artefact"], a["engine"]) for a in report["artefacts"]}
    assert {("litert-fp32", "litert-interpreter"), ("litert-fp32", "litert-compiled")} <= engines
    assert any(engine.startswith(("mil", "coreml")) for _, engine in engines)
    assert {s["stream"] for s in report["artefacts"][0]["stress"]} >= {"silence", "dc", "clipped"}
    (written,) = (bundle / "parity").glob("*.json")
    assert json.loads(written.read_text())["artefacts"] == report["artefacts"]


def test_verify_fails_past_the_tolerance(copy_of: Any) -> None:
    bundle = copy_of("dtln")
    manifest = json.loads((bundle / "manifest.json").read_text())
    for artefact in manifest["artefacts"]:
        artefact["tolerance"] = [{"metric": "snr_db", "limit": 190.0}]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    result = hearpack("verify", bundle, "--seconds", "2", "--artefact", "litert-fp32")
    assert result.exit_code == 1
    assert "FAILED" in result.output


def test_verify_without_torch_holds_against_golden_and_says_so(copy_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise MissingDependencyError("torch", "export", "running the original net")

    monkeypatch.setattr("converters.verify.load_net", absent)
    for name in ("dtln", "yamnet"):
        report = as_json("verify", copy_of(name), "--artefact", "litert-fp32")
        assert report["reference"] == "golden"
        assert "torch" in report["material"]
        assert report["passed"]


def test_a_checkpoint_of_ones_own_exports_and_verifies(tmp_path: Path) -> None:
    """The pretrained weights, saved by torch as a user would, with one layer changed: another net, another bundle."""
    own = {name: torch.from_numpy(value) for name, value in pretrained.load("dtln").items()}
    own["core1.mask.bias"] = own["core1.mask.bias"] + 1.0
    checkpoint = tmp_path / "mine.pt"
    torch.save({"state_dict": own}, checkpoint)
    (row,) = as_json(
        "export", "dtln", "--weights", checkpoint, "--format", "litert", "--precision", "fp32", "-o", tmp_path
    )
    manifest = Bundle.open(row["path"]).manifest
    assert manifest.weights[0].source == "user file"
    assert as_json("verify", row["path"], "--weights", checkpoint, "--seconds", "3")["passed"]
    plain = as_json("export", "dtln", "-o", tmp_path / "other")[0]["path"]
    golden = [(Path(p) / "golden" / "enhanced.f32").read_bytes() for p in (row["path"], plain)]
    assert golden[0] != golden[1]
