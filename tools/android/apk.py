"""Builds, signs and verifies the Android sample's APK without Gradle: aapt2, D8, zipalign, apksigner.

It has no LiteRT library for Android in it, which is not to be had here: it proves structure, not function. Version,
SDK levels, application id and what stays uncompressed are read from app/build.gradle.kts.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.common.errors import ConversionError
from models.weights.fetch import cache_dir
from tools.android import build
from tools.android.build import JAVA, SAMPLE, Part, run

if TYPE_CHECKING:
    from tools.android.toolchain import Toolchain

_KEY_PASSWORD = "android"  # noqa: S105 - a throw-away key made on this machine


@dataclass(frozen=True)
class GradleFacts:
    """What app/build.gradle.kts says."""

    namespace: str
    application_id: str
    compile_sdk: int
    min_sdk: int
    target_sdk: int
    version_code: int
    version_name: str
    no_compress: str
    litert: str


def gradle_facts() -> GradleFacts:
    """Read app/build.gradle.kts.

    Raises:
        ConversionError: a line that CI needs is not there.
    """
    text = (SAMPLE / "app/build.gradle.kts").read_text(encoding="utf-8")

    def find(pattern: str) -> str:
        found = re.search(pattern, text)
        if found is None:
            raise ConversionError(f"app/build.gradle.kts: expected a line like {pattern}, found none")
        return found[1]

    return GradleFacts(
        namespace=find(r'namespace = "([\w.]+)"'),
        application_id=find(r'applicationId = "([\w.]+)"'),
        compile_sdk=int(find(r"compileSdk = (\d+)")),
        min_sdk=int(find(r"minSdk = (\d+)")),
        target_sdk=int(find(r"targetSdk = (\d+)")),
        version_code=int(find(r"versionCode = (\d+)")),
        version_name=find(r'versionName = "([\w.-]+)"'),
        no_compress=find(r'noCompress \+= "(\w+)"'),
        litert=find(r'"com\.google\.ai\.edge\.litert:litert:([\w.-]+)"'),
    )


def merged_manifest() -> str:
    """AndroidManifest.xml as Gradle would merge it."""
    facts = gradle_facts()
    text = (SAMPLE / "app/src/main/AndroidManifest.xml").read_text(encoding="utf-8")
    text = text.replace("${applicationId}", facts.application_id)
    # bookworm's aapt2 is of Android 10 and does not know this element; only LiteRT's GPU delegate needs it.
    text = re.sub(r"\s*<!--[^>]*-->\s*<uses-native-library[^>]*/>", "", text)
    head = f'package="{facts.application_id}" android:versionCode="{facts.version_code}"'
    head += f' android:versionName="{facts.version_name}" xmlns:android='
    text = text.replace("xmlns:android=", head, 1)
    sdk = f'<uses-sdk android:minSdkVersion="{facts.min_sdk}" android:targetSdkVersion="{facts.target_sdk}" />'
    return re.sub(r"(<manifest[^>]*>)", rf"\1\n    {sdk}", text, count=1)


def _link(tools: Toolchain, scratch: Path, assets: Path | None) -> Path:
    """Compile and link the resources; returns the APK without code. R.java lands in scratch/java."""
    facts = gradle_facts()
    compiled, manifest, linked = scratch / "res.zip", scratch / "AndroidManifest.xml", scratch / "linked.apk"
    manifest.write_text(merged_manifest(), encoding="utf-8")
    run(["aapt2", "compile", "--dir", SAMPLE / "app/src/main/res", "-o", compiled], "aapt2 compile")
    command: list[str | Path] = ["aapt2", "link", "-I", tools.file("framework-res.apk"), "--manifest", manifest]
    command += ["--custom-package", facts.namespace, "--java", scratch / "java", "-o", linked, "--auto-add-overlay"]
    command += ["--min-sdk-version", str(facts.min_sdk), "--target-sdk-version", str(facts.target_sdk)]
    if assets is not None:
        command += ["-A", assets]
        # aapt2 takes all after the first dot for the extension; Gradle looks at the end of the name.
        for extension in sorted({p.name[p.name.index(".") :] for p in assets.rglob(f"*.{facts.no_compress}")}):
            command += ["-0", extension]
    run([*command, compiled], "aapt2 link")
    return linked


def resource_files() -> list[Path]:
    """What goes into the resource ids."""
    main = SAMPLE / "app/src/main"
    return [*sorted(p for p in (main / "res").rglob("*") if p.is_file()), main / "AndroidManifest.xml"]


def resources(tools: Toolchain) -> Part:
    """The class R."""

    def make(out: Path) -> None:
        scratch = out.parent
        _link(tools, scratch, None)
        build.javac(sorted((scratch / "java").rglob("*.java")), [tools.file("android-23.jar")], out)

    files = [*resource_files(), SAMPLE / "app/build.gradle.kts", Path(__file__).resolve()]
    return build.built("resources", files, (), make, ".jar")


def dex(tools: Toolchain) -> Part:
    """classes.dex of app, core and Kotlin's library, as a zip."""
    parts = (build.app(tools), build.core(tools), resources(tools))

    def make(out: Path) -> None:
        command: list[str | Path] = [*JAVA, "-cp", tools.file("bundletool.jar"), "com.android.tools.r8.D8", "--release"]
        command += ["--min-api", str(gradle_facts().min_sdk), "--lib", tools.file("android-23.jar")]
        command += ["--classpath", build.litert_api(tools).file, "--classpath", build.stubs(tools).file]
        run([*command, "--output", out, *(p.file for p in parts), *tools.kotlin_libraries], "D8")

    return build.built("dex", [Path(__file__).resolve()], parts, make, ".zip")


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
    linked = _link(tools, scratch, assets)
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
