"""Builds, signs and verifies the Android sample's APK without Gradle: aapt2, D8, zipalign, apksigner.

It has no LiteRT library for Android in it, which is not to be had here: it proves structure, not function. Version,
SDK levels, application id and what stays uncompressed are read from app/build.gradle.kts.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from models.weights.fetch import cache_dir
from tools.android.build import app, core, library, litert_api, stubs
from tools.android.parts import JAVA, Part, built, run
from tools.android.resources import gradle_facts, link, resources
from tools.android.toolchain import Toolchain

_KEY_PASSWORD = "android"  # noqa: S105 - a throw-away key made on this machine


def dex(tools: Toolchain) -> Part:
    """classes.dex of app, library, core and Kotlin's library, as a zip."""
    parts = (app(tools), library(tools), core(tools), resources(tools))

    def make(out: Path) -> None:
        command: list[str | Path] = [*JAVA, "-cp", tools.file("bundletool.jar"), "com.android.tools.r8.D8", "--release"]
        command += ["--min-api", str(gradle_facts().min_sdk), "--lib", tools.file("android-23.jar")]
        command += ["--classpath", litert_api(tools).file, "--classpath", stubs(tools).file]
        run([*command, "--output", out, *(p.file for p in parts), *tools.kotlin_libraries], "D8")

    return built("dex", (), parts, make, ".zip")


def _key() -> Path:
    """A signing key of this machine."""
    store = cache_dir() / "android-build" / "debug.p12"
    if not store.exists():
        command = ["keytool", "-genkeypair", "-keystore", str(store), "-storetype", "PKCS12", "-alias", "debug"]
        command += ["-keyalg", "RSA", "-keysize", "2048", "-validity", "10000", "-dname", "CN=debug"]
        run([*command, "-storepass", _KEY_PASSWORD, "-keypass", _KEY_PASSWORD], "keytool")
    return store


def build_apk(tools: Toolchain, out: Path, assets: Path | None = None) -> Path:
    """Build and sign the APK.

    Args:
        tools: the toolchain.
        out: the file to write.
        assets: the folder of assets, or none.

    Returns:
        `out`.
    """
    scratch = out.parent / f".{out.name}.parts"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    linked = link(tools, scratch, assets)
    with zipfile.ZipFile(dex(tools).file) as code, zipfile.ZipFile(linked, "a") as package:
        for name in sorted(code.namelist()):
            if name.endswith(".dex"):
                package.writestr(name, code.read(name), zipfile.ZIP_DEFLATED)
    aligned = scratch / "aligned.apk"
    run(["zipalign", "-f", "-p", "4", linked, aligned], "zipalign")
    sign: list[str | Path] = ["apksigner", "sign", "--ks", _key(), "--ks-pass", f"pass:{_KEY_PASSWORD}"]
    sign += ["--v1-signing-enabled", "false", "--v2-signing-enabled", "true", "--v3-signing-enabled", "true"]
    run([*sign, "--min-sdk-version", str(gradle_facts().min_sdk), "--out", out, aligned], "apksigner")
    shutil.rmtree(scratch)
    return out
