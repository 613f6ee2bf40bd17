"""The APK that CI builds with both bundles installed: signed, small, and with the very bytes that were exported."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from converters.install.install import install
from runtimes.bundle import Bundle
from tools.android import apk, parts, resources, toolchain

WITHOUT_MODEL_BYTES = 3_000_000


@pytest.fixture(scope="module")
def sample(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample folder with both bundles installed."""
    folder = tmp_path_factory.mktemp("sample")
    shutil.copyfile(parts.SAMPLE / "bundle-schema.txt", folder / "bundle-schema.txt")
    for path in exported.values():
        install(Bundle.open(path), android=folder)
    return folder


@pytest.fixture(scope="module")
def package(tools: toolchain.Toolchain, sample: Path) -> Path:
    return apk.build_apk(tools, sample / "hearpack.apk", sample / "app/src/main/assets")


def _run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_signed_with_schemes_two_and_three(package: Path) -> None:
    said = _run("apksigner", "verify", "--verbose", "--min-sdk-version", resources.gradle_facts().min_sdk, package)
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in said
    assert "Verified using v3 scheme (APK Signature Scheme v3): true" in said


def test_a_changed_byte_is_noticed(package: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.apk"
    data = bytearray(package.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    done = subprocess.run(["apksigner", "verify", str(broken)], capture_output=True, text=True, check=False)
    assert done.returncode != 0


def test_manifest_as_declared(package: Path) -> None:
    facts = resources.gradle_facts()
    badging = _run("aapt2", "dump", "badging", package)
    assert f"package: name='{facts.application_id}' versionCode='{facts.version_code}'" in badging
    assert f"versionName='{facts.version_name}'" in badging
    assert f"sdkVersion:'{facts.min_sdk}'" in badging
    assert f"targetSdkVersion:'{facts.target_sdk}'" in badging
    permissions = set(re.findall(r"uses-permission: name='android\.permission\.(\w+)'", badging))
    assert permissions == {"RECORD_AUDIO", "FOREGROUND_SERVICE", "FOREGROUND_SERVICE_MICROPHONE", "POST_NOTIFICATIONS"}
    tree = _run("aapt2", "dump", "xmltree", package, "--file", "AndroidManifest.xml")
    assert re.search(r"foregroundServiceType\(0x01010599\)=0x00000080", tree), "a service of type microphone"
    assert f'"{facts.application_id}.traces"' in tree


def test_models_are_stored_uncompressed_and_aligned(package: Path, exported: dict[str, Path]) -> None:
    _run("zipalign", "-c", "-p", "4", package)
    with zipfile.ZipFile(package) as archive:
        models = [i for i in archive.infolist() if i.filename.endswith(".tflite")]
        assert len(models) == len(exported) >= 2
        for info in models:
            assert info.compress_type == zipfile.ZIP_STORED, info.filename


def test_every_asset_has_the_bytes_that_were_exported(package: Path, exported: dict[str, Path]) -> None:
    with zipfile.ZipFile(package) as archive:
        names = [n for n in archive.namelist() if n.startswith("assets/bundles/")]
        assert len(names) > 15
        bundles = {path.name: path for path in exported.values()}
        for name in names:
            _, _, bundle, inside = name.split("/", 3)
            assert archive.read(name) == (bundles[bundle] / inside).read_bytes(), name
        for bundle in bundles:
            manifest = json.loads(archive.read(f"assets/bundles/{bundle}/manifest.json"))
            (artefact,) = [a for a in manifest["artefacts"] if a["id"] == "litert-fp32"]
            (file,) = artefact["files"]
            model = archive.read(f"assets/bundles/{bundle}/{file['path']}")
            assert hashlib.sha256(model).hexdigest() == file["sha256"]


def test_small_without_the_models(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        bundles = sum(i.compress_size for i in archive.infolist() if i.filename.startswith("assets/bundles/"))
        assert "classes.dex" in archive.namelist()
    assert package.stat().st_size - bundles <= WITHOUT_MODEL_BYTES


def test_the_code_is_core_app_and_kotlin_and_nothing_of_ci(tools: toolchain.Toolchain, package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        dex = archive.read("classes.dex")
    assert b"Lhearpack/core/stream/StreamSession;" in dex
    assert b"Lhearpack/app/MainActivity;" in dex
    assert b"Lcom/sun/jna" not in dex
    assert b"Lhearpack/tests/" not in dex
