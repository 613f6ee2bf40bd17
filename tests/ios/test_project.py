"""The Xcode project, the plists and Package.swift against the files and against each other. Needs no Swift."""

from __future__ import annotations

import plistlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.ios.swift_kit import KIT, ROOT, SAMPLE

APP = SAMPLE / "App"
PROJECT = SAMPLE / "HearpackSample.xcodeproj" / "project.pbxproj"
_TOKEN = re.compile(
    r'\s+|/\*.*?\*/|//[^\n]*|(?P<mark>[{}()=;,])|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[\w./$<>-]+)', re.S
)


def parse_openstep(text: str) -> Any:
    """An OpenStep property list, as Xcode writes its projects: {key = value; }, (a, b, ), strings."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found, f"unexpected text at {at}: {text[at : at + 40]!r}"
        at = found.end()
        if found.lastgroup:
            tokens.append((found.lastgroup, found.group(found.lastgroup)))
    position = 0

    def take(kind: str, value: str | None = None) -> str:
        nonlocal position
        got = tokens[position]
        assert got[0] == kind and (value is None or got[1] == value), f"expected {value or kind}, got {got[1]!r}"  # noqa: PT018
        position += 1
        return got[1]

    def value() -> Any:
        nonlocal position
        kind, text = tokens[position]
        if (kind, text) == ("mark", "{"):
            take("mark", "{")
            entries: dict[str, Any] = {}
            while tokens[position] != ("mark", "}"):
                key = value()
                take("mark", "=")
                assert key not in entries, f"{key} stands twice"
                entries[key] = value()
                take("mark", ";")
            take("mark", "}")
            return entries
        if (kind, text) == ("mark", "("):
            take("mark", "(")
            items = []
            while tokens[position] != ("mark", ")"):
                items.append(value())
                if tokens[position] == ("mark", ","):
                    take("mark", ",")
            take("mark", ")")
            return items
        assert kind != "mark", f"unexpected {text!r}"
        position += 1
        return text

    result = value()
    assert position == len(tokens)
    return result


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    document: dict[str, Any] = parse_openstep(PROJECT.read_text())
    return document


def of_kind(project: dict[str, Any], isa: str) -> list[dict[str, Any]]:
    return [o for o in project["objects"].values() if o["isa"] == isa]


def files_of(project: dict[str, Any], phase: str) -> set[str]:
    """Paths of a build phase's files; for packages the product's name."""
    objects = project["objects"]
    names = set()
    for key in of_kind(project, phase)[0]["files"]:
        build = objects[key]
        entry = objects[build["fileRef"]] if "fileRef" in build else objects[build["productRef"]]
        names.add(entry.get("path") or entry["productName"])
    return names


def settings(project: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for configuration in of_kind(project, "XCBuildConfiguration"):
        for key, value in configuration["buildSettings"].items():
            found.setdefault(key, set()).add(value)
    return found


def test_every_reference_leads_somewhere(project: dict[str, Any]) -> None:
    objects = project["objects"]
    reference = re.compile(r"^[0-9A-F]{24}$")
    used: set[str] = {project["rootObject"]}

    def walk(value: Any) -> None:
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            if isinstance(item, dict | list):
                walk(item)
            elif isinstance(item, str) and reference.match(item):
                used.add(item)

    for entry in objects.values():
        walk(entry)
    assert used == set(objects), "a reference without object, or an object without reference"


def test_sources_are_all_and_only_the_apps_files(project: dict[str, Any]) -> None:
    assert files_of(project, "PBXSourcesBuildPhase") == {p.name for p in APP.glob("*.swift")}
    assert files_of(project, "PBXFrameworksBuildPhase") == {"HearpackKit", "HearpackCoreML"}
    assert files_of(project, "PBXResourcesBuildPhase") == {"Bundles", "PrivacyInfo.xcprivacy"}
    group = next(g for g in of_kind(project, "PBXGroup") if g.get("path") == "App")
    for key in group["children"]:
        assert (APP / project["objects"][key]["path"]).exists()


def test_bundles_are_a_folder_reference(project: dict[str, Any]) -> None:
    """A source .mlpackage would be compiled by Xcode, and its hashes would be gone."""
    entry = next(f for f in of_kind(project, "PBXFileReference") if f["path"] == "Bundles")
    assert entry["lastKnownFileType"] == "folder"


def test_targets_languages_and_package_agree(project: dict[str, Any]) -> None:
    package = (KIT / "Package.swift").read_text()
    built = settings(project)
    ios = re.search(r"\.iOS\(\.v(\d+)\)", package)
    assert ios is not None
    assert built["IPHONEOS_DEPLOYMENT_TARGET"] == {f"{ios.group(1)}.0"}
    assert built["SWIFT_VERSION"] == {"6.0"}
    assert built["SWIFT_STRICT_CONCURRENCY"] == {"complete"}
    assert "swiftLanguageModes: [.v6]" in package
    assert package.startswith("// swift-tools-version:6.0")
    assert "dependencies: [\n" not in package.split("targets:")[0], "no outside dependency"
    local = of_kind(project, "XCLocalSwiftPackageReference")
    assert [SAMPLE / p["relativePath"] for p in local] == [KIT]
    products = set(re.findall(r'\.library\(name: "(\w+)"', package))
    assert {p["productName"] for p in of_kind(project, "XCSwiftPackageProductDependency")} <= products
    for target in re.findall(r'(?:target|executableTarget)\(name: "([\w-]+)"', package):
        assert (KIT / "Sources" / target).is_dir(), target


def test_info_plist(project: dict[str, Any]) -> None:
    info = plistlib.loads((APP / "Info.plist").read_bytes())
    assert settings(project)["INFOPLIST_FILE"] == {"App/Info.plist"}
    assert settings(project)["GENERATE_INFOPLIST_FILE"] == {"NO"}
    text = info["NSMicrophoneUsageDescription"]
    assert len(text) > 60
    assert "not stored" in text
    assert "UIBackgroundModes" not in info, "the app stops in the background, as its text says"
    for key in re.findall(r"\$\((\w+)\)", (APP / "Info.plist").read_text()):
        assert key in settings(project) or key == "EXECUTABLE_NAME", key


def test_privacy_manifest_says_what_the_code_does() -> None:
    privacy = plistlib.loads((APP / "PrivacyInfo.xcprivacy").read_bytes())
    assert privacy["NSPrivacyTracking"] is False
    assert privacy["NSPrivacyCollectedDataTypes"] == []
    stated = {a["NSPrivacyAccessedAPIType"] for a in privacy["NSPrivacyAccessedAPITypes"]}
    assert all(a["NSPrivacyAccessedAPITypeReasons"] for a in privacy["NSPrivacyAccessedAPITypes"])
    code = "\n".join(p.read_text() for p in [*APP.glob("*.swift"), *(KIT / "Sources").rglob("*.swift")])
    uses = {
        "NSPrivacyAccessedAPICategoryUserDefaults": r"\bUserDefaults\b",
        "NSPrivacyAccessedAPICategorySystemBootTime": r"\bmach_absolute_time\b|\bsystemUptime\b",
        "NSPrivacyAccessedAPICategoryFileTimestamp": r"\.creationDate|modificationDate|attributesOfItem|\bstat\(",
        "NSPrivacyAccessedAPICategoryDiskSpace": r"volumeAvailableCapacity|systemFreeSize|\bstatfs\(",
        "NSPrivacyAccessedAPICategoryActiveKeyboards": r"activeInputModes",
    }
    assert stated == {name for name, pattern in uses.items() if re.search(pattern, code)}


def test_app_reads_the_schema_it_says() -> None:
    manifest = (KIT / "Sources" / "HearpackKit" / "Bundle" / "Manifest.swift").read_text()
    known = (SAMPLE / "bundle-schema.txt").read_text().split()
    assert re.findall(r'schemaMajor = "([^"]+)"', manifest) == known
    assert known == (ROOT / "android-sample" / "bundle-schema.txt").read_text().split()


def test_no_network_and_no_converter_in_the_stream() -> None:
    for file in [*APP.glob("*.swift"), *(KIT / "Sources").rglob("*.swift")]:
        text = "\n".join(line.split("//")[0] for line in file.read_text().splitlines())
        assert not re.search(r"URLSession|AVAudioConverter|import Network", text), file.name


def test_every_control_can_be_reached_by_voiceover() -> None:
    """Every image has a text beside it (Label), every bar a label or is hidden, every button 44 points."""
    text = "\n".join(p.read_text() for p in APP.glob("*.swift"))
    assert "Image(" not in text
    for bar in re.findall(r"ProgressView\([^)]*\)[^\n]*(?:\n\s+\.[^\n]*)*", text):
        assert "accessibilityHidden(true)" in bar or "accessibilityLabel(" in bar, bar
    for control in re.findall(r"(?:Button|ShareLink|Link)\(\"[^\n]*(?:\n\s+\.[^\n]*)*", text):
        assert ".frame(minHeight: 44)" in control, control
    assert ".font(.system(" not in text, "fixed sizes do not follow Dynamic Type"


def test_the_readme_says_what_is_not_run_here() -> None:
    text = (SAMPLE / "README.md").read_text()
    for what in ("Xcode", "Core ML", "device"):
        assert re.search(rf"not .*{what}|{what}.* not", text, re.S), what


def test_fixture_of_the_typings_is_small() -> None:
    assert Path(ROOT / "tests" / "fixtures" / "ios" / "api.json").stat().st_size < 100_000
