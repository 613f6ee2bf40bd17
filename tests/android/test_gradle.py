"""The Gradle project, which CI cannot run, says what CI builds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

from tools.android import parts, resources, toolchain

ANDROID = "{http://schemas.android.com/apk/res/android}"
MAIN = parts.SAMPLE / "app" / "src" / "main"
LIBRARY = parts.SAMPLE / "hearpack" / "src" / "main"
MODULES = ("core", "hearpack", "app")
LITERT = json.loads(resources.LITERT.read_text(encoding="utf-8"))
LEAST_GRADLE = {"9.4": [9, 6, 0]}  # developer.android.com/build/releases/agp-9-4-0-release-notes
GRADLE = ("9.6.0", "bbaeb2fef8710818cf0e261201dab964c572f92b942812df0c3620d62a529a01")  # the official image's pin too


def _text(name: str) -> str:
    return (parts.SAMPLE / name).read_text(encoding="utf-8")


def test_versions_and_levels() -> None:
    facts = resources.gradle_facts()
    assert facts.min_sdk == 26
    assert facts.target_sdk == facts.compile_sdk == 37  # the newest that the pinned typings know
    assert facts.no_compress == "tflite"
    from hearpack import __version__

    assert facts.version_name == __version__


def test_the_kotlin_that_gradle_takes_is_the_one_that_ci_compiles_with() -> None:
    (pin,) = [pin for pin in toolchain.PINS if pin.package == "kotlin-compiler"]
    assert resources.gradle_facts().versions["kotlin"] == pin.version
    targets = set(re.findall(r"JVM_(\d+)|VERSION_(\d+)", "".join(_text(f"{m}/build.gradle.kts") for m in MODULES)))
    assert {a or b for a, b in targets} == {parts.JVM_TARGET}


def test_one_litert_everywhere() -> None:
    """What Python proves a bundle with is what ships, and what traces name."""
    version = resources.gradle_facts().versions["litert"]
    engine = (LIBRARY / "kotlin/hearpack/android/LiteRtEngine.kt").read_text(encoding="utf-8")
    assert f'const val VERSION = "{version}"' in engine
    for pins in ("constraints.txt", "requirements.lock"):
        assert f"ai-edge-litert=={version}" in (parts.ROOT / pins).read_text(encoding="utf-8"), pins
    for page in ("docs/your-own-app.md", "android-sample/README.md"):
        named = re.findall(r"litert:litert[:`]+ ?(\d[\d.]+)", (parts.ROOT / page).read_text(encoding="utf-8"))
        assert set(named) <= {version}, page
    assert resources.gradle_facts().min_sdk >= LITERT["manifest"]["min_sdk"]


def test_the_wrapper_is_gradles_own_and_takes_a_gradle_that_agp_takes() -> None:
    jar = (parts.SAMPLE / "gradle/wrapper/gradle-wrapper.jar").read_bytes()
    # The checksum that public repositories pin for the wrapper of Gradle 9.4.1, which starts any later Gradle.
    assert hashlib.sha256(jar).hexdigest() == "55243ef57851f12b070ad14f7f5bb8302daceeebc5bce5ece5fa6edb23e1145c"
    wrapper = dict(line.split("=", 1) for line in _text("gradle/wrapper/gradle-wrapper.properties").splitlines())
    version = re.search(r"gradle-([\d.]+)-bin\.zip$", wrapper["distributionUrl"])
    assert version is not None
    agp = resources.gradle_facts().versions["agp"].rsplit(".", 1)[0]
    assert [int(n) for n in version[1].split(".")] >= LEAST_GRADLE[agp]
    assert (version[1], wrapper["distributionSha256Sum"]) == GRADLE
    assert os.access(parts.SAMPLE / "gradlew", os.X_OK)


def test_androidx_is_on_because_litert_needs_it() -> None:
    assert "android.useAndroidX=true" in _text("gradle.properties").splitlines()


def test_modules_and_sources() -> None:
    assert 'include(":core", ":hearpack", ":app")' in _text("settings.gradle.kts")
    assert 'api(project(":core"))' in _text("hearpack/build.gradle.kts")
    assert 'implementation(project(":hearpack"))' in _text("app/build.gradle.kts")
    # Gradle's own source folders: no srcDir line may point elsewhere, and CI compiles all that lies there.
    for module in MODULES:
        assert "srcDir" not in _text(f"{module}/build.gradle.kts")
        below = set((parts.SAMPLE / module).rglob("*.kt"))
        tests = {"core": "core/src/test", "app": "app/src/androidTest"}.get(module)
        assert below == {*parts.sources(f"{module}/src/main"), *(parts.sources(tests) if tests else [])}
    used = set(re.findall(r"libs\.([\w.]+)", "".join(_text(f"{m}/build.gradle.kts") for m in (*MODULES, "."))))
    catalog = tomllib.loads(_text("gradle/libs.versions.toml"))
    known = {n.replace("-", ".") for n in catalog["libraries"]}
    known |= {f"plugins.{n.replace('-', '.')}" for n in catalog["plugins"]}
    assert used == known


def test_levels_of_library_and_app_are_the_same() -> None:
    for line in ("version = release(37) { minorApiLevel = 0 }", "minSdk = 26"):
        assert line in _text("hearpack/build.gradle.kts")
        assert line in _text("app/build.gradle.kts")


def test_library_and_core_are_published() -> None:
    for module in ("core", "hearpack"):
        text = _text(f"{module}/build.gradle.kts")
        assert "`maven-publish`" in text
        assert f'version = "{resources.gradle_facts().version_name}"' in text
        assert 'uri(rootProject.layout.buildDirectory.dir("maven"))' in text


def test_the_coroutines_that_gradle_asks_for_are_those_that_ci_compiles_with(tools: toolchain.Toolchain) -> None:
    with zipfile.ZipFile(tools.coroutines) as jar:
        brought = jar.read("META-INF/kotlinx_coroutines_core.version").decode("ascii").strip()
    assert resources.gradle_facts().versions["coroutines"] == brought


def test_no_android_library_but_litert() -> None:
    wanted = re.findall(r"(?:implementation|api|compileOnly)\(libs\.([\w.]+)\)", _text("hearpack/build.gradle.kts"))
    assert wanted == ["coroutines", "litert"]
    assert not re.search(r"\b(?:implementation|api)\(libs", _text("app/build.gradle.kts"))
    for file in [*parts.sources("app/src/main"), *parts.sources("hearpack/src/main")]:
        assert "import androidx" not in file.read_text(encoding="utf-8"), file.name


def test_what_the_merged_manifest_asks_for() -> None:
    root = ET.fromstring(resources.merged_manifest())
    asked = {p.get(f"{ANDROID}name", "") for p in root.iter("uses-permission")}
    brought = set(LITERT["manifest"]["permissions"])
    assert "android.permission.FOREGROUND_SERVICE_DATA_SYNC" in brought - asked
    assert asked == {
        "android.permission.RECORD_AUDIO",
        "android.permission.FOREGROUND_SERVICE",
        "android.permission.FOREGROUND_SERVICE_MICROPHONE",
        "android.permission.POST_NOTIFICATIONS",
    }
    features = {f.get(f"{ANDROID}name"): f.get(f"{ANDROID}required") for f in root.iter("uses-feature")}
    assert features == {"android.hardware.microphone": "true", "android.hardware.npu": "false"}


def test_service_and_components_exist() -> None:
    root = ET.fromstring((MAIN / "AndroidManifest.xml").read_text(encoding="utf-8"))
    (service,) = root.iter("service")
    assert service.get(f"{ANDROID}foregroundServiceType") == "microphone"
    (application,) = root.iter("application")
    components = [
        application,
        *application.iter("activity"),
        *application.iter("service"),
        *application.iter("provider"),
    ]
    for part in components:
        name = part.get(f"{ANDROID}name", "").rsplit(".", 1)[-1]
        declared = [f for f in parts.sources("app/src/main") if f"class {name}" in f.read_text(encoding="utf-8")]
        assert declared, f"the manifest names {name}, which no source declares"
    exported = [p.tag for p in application if p.get(f"{ANDROID}exported") == "true"]
    assert exported == ["activity"]


def test_every_notice_has_a_text_and_every_text_is_used() -> None:
    strings = ET.parse(MAIN / "res/values/strings.xml").getroot()
    names = {s.get("name", "") for s in strings}
    used = set()
    for file in [*parts.sources("app/src/main"), *MAIN.rglob("*.xml")]:
        used |= set(re.findall(r"R\.string\.(\w+)|@string/(\w+)", file.read_text(encoding="utf-8")))
    assert {a or b for a, b in used} == names
    ui = (parts.SAMPLE / "core/src/main/kotlin/hearpack/core/ui/UiState.kt").read_text(encoding="utf-8")
    kinds = re.search(r"enum class NoticeKind \{([^}]*)\}", ui)
    assert kinds is not None
    screen = (MAIN / "kotlin/hearpack/app/Screen.kt").read_text(encoding="utf-8")
    for kind in re.findall(r"\w+", kinds[1]):
        assert re.search(rf"NoticeKind\.{kind} -> R\.string\.notice_", screen), kind


def test_what_is_touched_is_48_dp_high_and_texts_grow_with_the_users_size() -> None:
    layout = ET.parse(MAIN / "res/layout/main.xml").getroot()
    touched = [e for e in layout.iter() if e.tag in ("Button", "RadioButton")]
    assert len(touched) >= 7
    for element in touched:
        height = element.get(f"{ANDROID}minHeight", "0dp")
        assert int(height.removesuffix("dp")) >= 48, element.attrib
    sizes = [e.get(f"{ANDROID}textSize") for e in layout.iter() if e.get(f"{ANDROID}textSize")]
    assert sizes
    assert all(size is not None and size.endswith("sp") for size in sizes)


@pytest.mark.parametrize("values", ["values", "values-night"])
def test_dark_and_light(values: str) -> None:
    theme = (MAIN / "res" / values / "themes.xml").read_text(encoding="utf-8")
    assert ("Material.Light" in theme) == (values == "values")


def test_the_schema_file_says_what_the_core_reads() -> None:
    core = (parts.SAMPLE / "core/src/main/kotlin/hearpack/core/bundle/Manifest.kt").read_text(encoding="utf-8")
    schema = (parts.SAMPLE / "bundle-schema.txt").read_text(encoding="utf-8").strip()
    assert f'const val SCHEMA = "{schema}"' in core
    manifest = json.loads((parts.ROOT / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
    assert manifest  # the schema that the app's reader follows


def test_the_ledgers_parts_are_named_as_the_simulators() -> None:
    from streaming.runs.record import PARTS

    figures = (parts.SAMPLE / "core/src/main/kotlin/hearpack/core/trace/LatencyLedger.kt").read_text(encoding="utf-8")
    names = re.search(r"enum class LatencyName \{([^}]*)\}", figures)
    assert names is not None
    ours = [name.lower() for name in re.findall(r"\w+", names[1])]
    assert len(ours) == 10
    assert set(ours) <= set(PARTS)


def test_pins_are_whole() -> None:
    for pin in toolchain.PINS:
        assert re.fullmatch(r"[0-9a-f]{64}", pin.sha256), pin.package
        assert pin.version, pin.package
        assert pin.keep, pin.package


def test_toolchain_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path))
    assert "make android-toolchain" in toolchain.missing()
