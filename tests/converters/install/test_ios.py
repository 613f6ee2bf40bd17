"""hearpack install --ios: a bundle into the iOS sample."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from converters.install.install import install
from converters.install.ios import PROJECT, deployment_target
from hearpack.cli import app
from models.common.errors import ArtefactError, BundleError, UsageError
from runtimes.bundle import Bundle

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "ios-sample"


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """What install looks at of the sample."""
    target = tmp_path / "ios-sample"
    for name in (PROJECT, "bundle-schema.txt"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SAMPLE / name, target / name)
    return target


def raise_minimum(bundle: Path, ios: str) -> Bundle:
    manifest = json.loads((bundle / "manifest.json").read_text())
    for artefact in manifest["artefacts"]:
        artefact["minimum_os"]["ios"] = ios
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.open(bundle)


@pytest.mark.parametrize("name", ["yamnet", "dtln"])
def test_what_lies_in_the_app_is_what_was_exported(sample: Path, exported: dict[str, Path], name: str) -> None:
    bundle = Bundle.open(exported[name])
    done = CliRunner().invoke(app, ["install", str(exported[name]), "--ios", str(sample), "--json"])
    assert done.exit_code == 0
    result = json.loads(done.stdout)[0]
    folder = sample / "App" / "Bundles" / exported[name].name
    assert result["folder"] == str(folder)
    assert result["artefacts"] == ["coreml-fp32"]
    assert (folder / "manifest.json").read_bytes() == (exported[name] / "manifest.json").read_bytes()
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {e.path for e in bundle.artefact("coreml-fp32").files} <= files
    assert not any(f.startswith("litert/") for f in files)
    for entry in bundle.artefact("coreml-fp32").files:
        assert hashlib.sha256((folder / entry.path).read_bytes()).hexdigest() == entry.sha256
    assert "golden/golden.json" in files
    assert any(f.startswith("LICENSES/") for f in files)
    assert ("labels.txt" in files) == (name == "yamnet")


def test_another_artefact_replaces_the_first(sample: Path, exported: dict[str, Path]) -> None:
    bundle = Bundle.open(exported["dtln"])
    install(bundle, ios=sample)
    (again,) = install(bundle, ios=sample, artefacts=["coreml-fp16"])
    assert not (Path(again.folder) / "coreml" / "dtln.fp32.mlpackage").exists()
    assert (Path(again.folder) / "coreml" / "dtln.fp16.mlpackage" / "Manifest.json").is_file()


def test_deployment_target_is_below_what_the_artefact_needs(sample: Path, copy_of: Callable[[str], Path]) -> None:
    path = copy_of("dtln")
    bundle = raise_minimum(path, "17.4")
    with pytest.raises(BundleError) as refusal:
        install(bundle, ios=sample)
    error = str(refusal.value)
    assert "artefact coreml-fp32 needs iOS 17.4, the app's deployment target is 16.0" in error
    assert "IPHONEOS_DEPLOYMENT_TARGET" in error
    assert not (sample / "App").exists(), "nothing is copied"
    project = sample / PROJECT
    project.write_text(
        project.read_text().replace("IPHONEOS_DEPLOYMENT_TARGET = 16.0", "IPHONEOS_DEPLOYMENT_TARGET = 18")
    )
    assert install(bundle, ios=sample)[0].artefacts == ("coreml-fp32",)


def test_state_inside_core_ml_needs_ios_18(sample: Path, copy_of: Callable[[str], Path]) -> None:
    path = copy_of("dtln")
    manifest = json.loads((path / "manifest.json").read_text())
    for artefact in manifest["artefacts"]:
        artefact["state_mode"] = "mlstate"
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"needs iOS 18\.0"):
        install(Bundle.open(path), ios=sample)


def test_broken_hash_and_newer_schema(sample: Path, copy_of: Callable[[str], Path]) -> None:
    path = copy_of("dtln")
    weights = path / "coreml/dtln.fp32.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match="does not match the manifest"):
        install(Bundle.open(path), ios=sample)
    (sample / "bundle-schema.txt").write_text("hearpack/2\n")
    with pytest.raises(BundleError, match="reads hearpack/2, the bundle is hearpack/1"):
        install(Bundle.open(path), ios=sample)
    assert not (sample / "App").exists()


@pytest.mark.parametrize("text", ["not JSON", "{}", '{"itemInfoEntries": {}, "rootModelIdentifier": "x"}', "[]"])
def test_package_without_an_index(sample: Path, copy_of: Callable[[str], Path], text: str) -> None:
    path = copy_of("dtln")
    rewrite_index(path, text)
    with pytest.raises(ArtefactError, match=r"expected the index of an \.mlpackage"):
        install(Bundle.open(path), ios=sample)


def test_package_that_names_a_file_nobody_vouches_for(sample: Path, copy_of: Callable[[str], Path]) -> None:
    path = copy_of("dtln")
    index = json.loads((path / "coreml/dtln.fp32.mlpackage/Manifest.json").read_text())
    index["itemInfoEntries"]["extra"] = {"path": "com.apple.CoreML/other.bin"}
    rewrite_index(path, json.dumps(index))
    with pytest.raises(ArtefactError, match=r"names com\.apple\.CoreML/other\.bin, which the manifest does not"):
        install(Bundle.open(path), ios=sample)


def rewrite_index(bundle: Path, text: str) -> None:
    """Another Manifest.json in the package, with the hash that belongs to it."""
    name = "coreml/dtln.fp32.mlpackage/Manifest.json"
    (bundle / name).write_text(text)
    manifest = json.loads((bundle / "manifest.json").read_text())
    for artefact in manifest["artefacts"]:
        for entry in artefact["files"]:
            if entry["path"] == name:
                entry["sha256"] = hashlib.sha256(text.encode()).hexdigest()
                entry["bytes"] = len(text)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_folders_that_are_no_sample(sample: Path, exported: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a sample app's folder"):
        install(Bundle.open(exported["dtln"]), ios=tmp_path)
    (sample / PROJECT).write_text("{}")
    with pytest.raises(UsageError, match="expected an IPHONEOS_DEPLOYMENT_TARGET, found none"):
        install(Bundle.open(exported["dtln"]), ios=sample)
    (sample / PROJECT).unlink()
    with pytest.raises(UsageError, match="found no project there"):
        install(Bundle.open(exported["dtln"]), ios=sample)


def test_the_samples_own_target_runs_what_is_exported(exported: dict[str, Path]) -> None:
    for path in exported.values():
        for artefact in Bundle.open(path).manifest.artefacts:
            if artefact.format == "coreml":
                assert artefact.minimum_os.ios is not None
                assert tuple(map(int, artefact.minimum_os.ios.split("."))) <= deployment_target(SAMPLE)
