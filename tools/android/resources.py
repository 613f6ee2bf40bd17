"""The app's resources, by aapt2, and what app/build.gradle.kts says of the app."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import ConversionError
from tools.android.parts import SAMPLE, Part, built, javac, run
from tools.android.toolchain import Toolchain


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


def link(tools: Toolchain, scratch: Path, assets: Path | None) -> Path:
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


def resources(tools: Toolchain) -> Part:
    """The class R."""

    def make(out: Path) -> None:
        link(tools, out.parent, None)
        javac(sorted((out.parent / "java").rglob("*.java")), [tools.file("android-23.jar")], out)

    main = SAMPLE / "app/src/main"
    files = [*filter(Path.is_file, (main / "res").rglob("*")), main / "AndroidManifest.xml"]
    return built("resources", [*files, SAMPLE / "app/build.gradle.kts"], (), make, ".jar")
