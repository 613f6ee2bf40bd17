"""The app's resources and its merged manifest, by aapt2, and what the Gradle files say of the app."""

from __future__ import annotations

import json
import re
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import ConversionError
from tools.android.parts import ROOT, SAMPLE, Part, built, javac, run
from tools.android.toolchain import Toolchain

LITERT = ROOT / "tests/fixtures/android/litert.json"
_ANDROID = "{http://schemas.android.com/apk/res/android}"
_NAME, _REQUIRED = f"{_ANDROID}name", f"{_ANDROID}required"
_NODE = "{http://schemas.android.com/tools}node"
ET.register_namespace("android", _ANDROID[1:-1])


@dataclass(frozen=True)
class GradleFacts:
    """What app/build.gradle.kts and gradle/libs.versions.toml say."""

    namespace: str
    application_id: str
    compile_sdk: int
    min_sdk: int
    target_sdk: int
    version_code: int
    version_name: str
    no_compress: str
    versions: dict[str, str]


def gradle_facts() -> GradleFacts:
    """Read app/build.gradle.kts and gradle/libs.versions.toml.

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
        compile_sdk=int(find(r"version = release\((\d+)\)")),
        min_sdk=int(find(r"minSdk = (\d+)")),
        target_sdk=int(find(r"targetSdk = (\d+)")),
        version_code=int(find(r"versionCode = (\d+)")),
        version_name=find(r'versionName = "([\w.-]+)"'),
        no_compress=find(r'noCompress \+= "(\w+)"'),
        versions=tomllib.loads((SAMPLE / "gradle/libs.versions.toml").read_text(encoding="utf-8"))["versions"],
    )


def merged_manifest() -> str:
    """AndroidManifest.xml as Gradle would merge it: the app's, the library's, and what LiteRT's brings.

    Of LiteRT's the fixture holds the permissions and features; the libraries of phone makers that it names too are left
    out, for bookworm's aapt2 is of Android 10 and does not know that element.
    """
    facts = gradle_facts()
    litert = json.loads(LITERT.read_text(encoding="utf-8"))["manifest"]
    names = {"uses-permission": set(litert["permissions"]), "uses-feature": set(litert["features"])}
    files = (SAMPLE / f"{module}/src/main/AndroidManifest.xml" for module in ("app", "hearpack"))
    app, library = (ET.parse(file) for file in files)  # noqa: S314 - our own files
    root = app.getroot()
    for kind, wanted in names.items():
        wanted |= {e.get(_NAME, "") for e in library.getroot().iter(kind)}
        for element in root.findall(kind):
            wanted.discard(element.get(_NAME, ""))
            if element.attrib.pop(_NODE, "") == "remove":
                root.remove(element)
        for name in sorted(wanted):
            root.insert(0, ET.Element(kind, {_NAME: name} | ({_REQUIRED: "false"} if kind == "uses-feature" else {})))
    root.set("package", facts.application_id)
    root.set(f"{_ANDROID}versionCode", str(facts.version_code))
    root.set(f"{_ANDROID}versionName", facts.version_name)
    levels = {f"{_ANDROID}minSdkVersion": str(facts.min_sdk), f"{_ANDROID}targetSdkVersion": str(facts.target_sdk)}
    root.insert(0, ET.Element("uses-sdk", levels))
    return ET.tostring(root, encoding="unicode").replace("${applicationId}", facts.application_id)


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
    files = [*filter(Path.is_file, (main / "res").rglob("*")), main / "AndroidManifest.xml", LITERT]
    files += [SAMPLE / "hearpack/src/main/AndroidManifest.xml", SAMPLE / "app/build.gradle.kts"]
    return built("resources", [*files, SAMPLE / "gradle/libs.versions.toml"], (), make, ".jar")
