"""The Gradle project, which CI cannot run, says what CI builds."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tools.android import parts, resources, toolchain

ANDROID = "{http://schemas.android.com/apk/res/android}"
MAIN = parts.SAMPLE / "app" / "src" / "main"


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
    assert f'"org.jetbrains.kotlin.jvm") version "{pin.version}"' in _text("build.gradle.kts")
    targets = set(
        re.findall(r"JVM_(\d+)|VERSION_(\d+)", _text("core/build.gradle.kts") + _text("app/build.gradle.kts"))
    )
    assert {a or b for a, b in targets} == {parts.JVM_TARGET}


def test_the_litert_that_gradle_takes_is_the_one_that_traces_name() -> None:
    engine = (MAIN / "kotlin/hearpack/app/LiteRtEngine.kt").read_text(encoding="utf-8")
    assert f'const val VERSION = "{resources.gradle_facts().litert}"' in engine


def test_modules_and_sources() -> None:
    assert 'include(":core", ":app")' in _text("settings.gradle.kts")
    assert 'implementation(project(":core"))' in _text("app/build.gradle.kts")
    # Gradle's own source folders: no srcDir line may point elsewhere, and CI compiles all that lies there.
    for module in ("core", "app"):
        assert "srcDir" not in _text(f"{module}/build.gradle.kts")
        below = set((parts.SAMPLE / module).rglob("*.kt"))
        assert below == set(parts.sources(f"{module}/src/main"))


def test_no_android_library_but_litert() -> None:
    wanted = re.findall(r'(?:implementation|api|compileOnly)\("([^"]+)"\)', _text("app/build.gradle.kts"))
    assert [name.rsplit(":", 1)[0] for name in wanted] == ["com.google.ai.edge.litert:litert"]
    for file in parts.sources("app/src/main"):
        assert "import androidx" not in file.read_text(encoding="utf-8"), file.name


def test_permissions_service_and_components_exist() -> None:
    root = ET.fromstring((MAIN / "AndroidManifest.xml").read_text(encoding="utf-8"))
    permissions = {p.get(f"{ANDROID}name", "").rsplit(".", 1)[-1] for p in root.iter("uses-permission")}
    assert permissions == {
        "RECORD_AUDIO",
        "FOREGROUND_SERVICE",
        "FOREGROUND_SERVICE_MICROPHONE",
        "POST_NOTIFICATIONS",
    }
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
