"""The Xcode project, the plists and Package.swift against the files and against each other. Needs no Swift."""

from __future__ import annotations

import json
import plistlib
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.ios.swift_kit import KIT, ROOT, SAMPLE
from tools.ios_icon import png

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
        names.add(entry.get("path") or entry.get("productName") or entry["name"])
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
    assert files_of(project, "PBXFrameworksBuildPhase") == {"HearpackKit", "HearpackCoreML", "HearpackAudio"}
    assert files_of(project, "PBXResourcesBuildPhase") == {
        "Bundles", "PrivacyInfo.xcprivacy", "Assets.xcassets", "Localizable.strings", "InfoPlist.strings",
    }  # fmt: skip
    group = next(g for g in of_kind(project, "PBXGroup") if g.get("path") == "App")
    for key in group["children"]:
        entry = project["objects"][key]
        parts = [project["objects"][k] for k in entry["children"]] if entry["isa"] == "PBXVariantGroup" else [entry]
        for part in parts:
            assert (APP / part["path"]).exists(), part["path"]


def test_bundles_are_a_folder_reference(project: dict[str, Any]) -> None:
    """A source .mlpackage would be compiled by Xcode, and its hashes would be gone."""
    entry = next(f for f in of_kind(project, "PBXFileReference") if f["path"] == "Bundles")
    assert entry["lastKnownFileType"] == "folder"


def test_targets_languages_and_package_agree(project: dict[str, Any]) -> None:
    package = (ROOT / "Package.swift").read_text()
    built = settings(project)
    ios = re.search(r"\.iOS\(\.v(\d+)\)", package)
    assert ios is not None
    assert built["IPHONEOS_DEPLOYMENT_TARGET"] == {f"{ios.group(1)}.0"}
    assert built["SWIFT_VERSION"] == {"6.0"}
    assert built["SWIFT_STRICT_CONCURRENCY"] == {"complete"}
    assert "swiftLanguageModes: [.v6]" in package
    assert package.startswith("// swift-tools-version:6.0")
    assert ".package(" not in package, "no outside dependency"
    local = of_kind(project, "XCLocalSwiftPackageReference")
    assert [(SAMPLE / p["relativePath"]).resolve() for p in local] == [ROOT]
    products = set(re.findall(r'\.library\(name: "(\w+)"', package))
    assert products == {"HearpackKit", "HearpackCoreML", "HearpackAudio"}
    assert {p["productName"] for p in of_kind(project, "XCSwiftPackageProductDependency")} <= products
    targets = set(re.findall(r'path: sources \+ "([\w-]+)"', package))
    assert targets == {p.name for p in (KIT / "Sources").iterdir()}
    assert not list(ROOT.glob("*/**/Package.swift")) or not (KIT / "Package.swift").exists()


def test_info_plist(project: dict[str, Any]) -> None:
    info = plistlib.loads((APP / "Info.plist").read_bytes())
    assert settings(project)["INFOPLIST_FILE"] == {"App/Info.plist"}
    assert settings(project)["GENERATE_INFOPLIST_FILE"] == {"NO"}
    text = info["NSMicrophoneUsageDescription"]
    assert len(text) > 60
    assert "not stored" in text
    assert "UIBackgroundModes" not in info, "the app pauses in the background, as its text says"
    assert "on the screen" in text
    sides = {"Portrait", "PortraitUpsideDown", "LandscapeLeft", "LandscapeRight"}
    # Without all four on an iPad an upload is refused: ITMS-90474.
    assert {o.removeprefix("UIInterfaceOrientation") for o in info["UISupportedInterfaceOrientations~ipad"]} == sides
    assert len(info["UISupportedInterfaceOrientations"]) == 3
    for key in re.findall(r"\$\((\w+)\)", (APP / "Info.plist").read_text()):
        assert key in settings(project) or key == "EXECUTABLE_NAME", key


USES = {
    "NSPrivacyAccessedAPICategoryUserDefaults": r"\bUserDefaults\b",
    "NSPrivacyAccessedAPICategorySystemBootTime": r"\bmach_absolute_time\b|\bsystemUptime\b",
    "NSPrivacyAccessedAPICategoryFileTimestamp": r"\.creationDate|modificationDate|attributesOfItem|\bstat\(",
    "NSPrivacyAccessedAPICategoryDiskSpace": r"volumeAvailableCapacity|systemFreeSize|\bstatfs\(",
    "NSPrivacyAccessedAPICategoryActiveKeyboards": r"activeInputModes",
}
CODE = [APP, KIT / "Sources" / "HearpackKit", KIT / "Sources" / "HearpackAudio", KIT / "Sources" / "HearpackCoreML"]


@pytest.mark.parametrize("folder", CODE, ids=lambda p: p.name)
def test_privacy_manifests_say_what_the_code_does(folder: Path) -> None:
    """Each part has its own: who takes the package takes its manifest."""
    code = "\n".join(p.read_text() for p in folder.rglob("*.swift"))
    found = {name for name, pattern in USES.items() if re.search(pattern, code)}
    manifest = folder / "PrivacyInfo.xcprivacy"
    if not manifest.exists():
        assert found == set()
        return
    privacy = plistlib.loads(manifest.read_bytes())
    assert privacy["NSPrivacyTracking"] is False
    assert privacy["NSPrivacyCollectedDataTypes"] == []
    assert {a["NSPrivacyAccessedAPIType"] for a in privacy["NSPrivacyAccessedAPITypes"]} == found
    assert all(a["NSPrivacyAccessedAPITypeReasons"] for a in privacy["NSPrivacyAccessedAPITypes"])
    if folder != APP:
        package = (ROOT / "Package.swift").read_text().split(f'name: "{folder.name}", dependencies')[1].split("),\n")[0]
        assert '.copy("PrivacyInfo.xcprivacy")' in package


def test_the_app_has_an_icon(project: dict[str, Any]) -> None:
    """1024 pixels a side, RGB without alpha; named by the build settings."""
    icons = APP / "Assets.xcassets" / "AppIcon.appiconset"
    image = json.loads((icons / "Contents.json").read_text())["images"][0]
    data = (icons / image["filename"]).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    assert (width, height, depth, colour) == (1024, 1024, 8, 2)
    assert data == png(1024), "drawn by tools/ios_icon.py"
    assert settings(project)["ASSETCATALOG_COMPILER_APPICON_NAME"] == {"AppIcon"}
    assert settings(project)["ENABLE_USER_SCRIPT_SANDBOXING"] == {"YES"}


_LITERAL = r'"(?:[^"\\]|\\.)*"'


def sentences() -> set[str]:
    """Every key that app and kit show: of say(...), HearpackText(...) and the ledger's parts."""
    found = set()
    core = KIT / "Sources" / "HearpackKit"
    for file in [*APP.glob("*.swift"), *core.rglob("*.swift")]:
        pattern = rf"(?:\bsay|\bHearpackText)\(\s*({_LITERAL}(?:\s*\+\s*{_LITERAL})*)"
        for text in re.findall(pattern, file.read_text()):
            found.add("".join(part[1:-1] for part in re.findall(_LITERAL, text)))
    parts = re.findall(r'Part\("(\w+)"', (core / "Trace" / "LatencyLedger.swift").read_text())
    return (found | {p.replace("_", " ") for p in parts}) - {""}


def strings_file(file: Path) -> dict[str, str]:
    rows = re.findall(rf"^({_LITERAL}) = ({_LITERAL});$", file.read_text(), re.M)
    assert len(rows) == len(file.read_text().splitlines()), file
    table = {k[1:-1]: v[1:-1] for k, v in rows}
    assert len(table) == len(rows), f"{file}: a key stands twice"
    return table


@pytest.mark.parametrize("language", ["en", "de", "fr", "zh-Hans"])
def test_every_sentence_is_in_every_language(project: dict[str, Any], language: str) -> None:
    keys = sentences()
    assert len(keys) > 90
    table = strings_file(APP / f"{language}.lproj" / "Localizable.strings")
    assert set(table) == keys
    for key, value in table.items():
        assert value.count("%@") == key.count("%@"), key
        assert value.strip(), key
    if language == "en":
        assert all(k == v for k, v in table.items())
    else:
        assert sum(k == v for k, v in table.items()) < 15
    info = strings_file(APP / f"{language}.lproj" / "InfoPlist.strings")
    assert set(info) == {"NSMicrophoneUsageDescription"}
    english = plistlib.loads((APP / "Info.plist").read_bytes())["NSMicrophoneUsageDescription"]
    assert (info["NSMicrophoneUsageDescription"] == english) == (language == "en")
    assert language in of_kind(project, "PBXProject")[0]["knownRegions"]


def test_no_sentence_escapes_translation() -> None:
    """What a view shows goes through say(...) or is somebody's data: no literal with a letter in it."""
    for file in APP.glob("*.swift"):
        shown = re.findall(
            rf"\b(?:Text|Label|Button|Section|Link|ShareLink|Picker|navigationTitle|accessibility\w+)\(({_LITERAL})",
            file.read_text(),
        )
        assert [s for s in shown if re.search(r"[A-Za-z]", s)] == [], file.name


def test_the_clock_is_the_steady_one() -> None:
    """Of Apple's clocks only CLOCK_MONOTONIC_RAW is mach_continuous_time: ns, never slewed, on in sleep."""
    text = (KIT / "Sources" / "HearpackKit" / "Stream" / "Clock.swift").read_text()
    darwin = text.split("#if canImport(Darwin)")[1].split("#else")[0]
    assert "clock_gettime(CLOCK_MONOTONIC_RAW, &time)" in darwin


def test_nothing_waits_on_the_main_actor() -> None:
    """Session and graph are touched by StreamHost on its queue, and by the capture that it owns; by nothing else."""
    audio = KIT / "Sources" / "HearpackAudio"
    for file in [*APP.glob("*.swift"), *audio.glob("*.swift")]:
        text = "\n".join(line.split("//")[0] for line in file.read_text().splitlines())
        if re.search(r"AVAudioEngine\(|setActive|setCategory|InferenceThread\(|\.json\(\)", text):
            assert file.name in ("StreamHost.swift", "MicrophoneCapture.swift", "AudioSession.swift"), file.name
        assert "installTap" not in text, "a tap ends the app when the route changes under it"
    host = (audio / "StreamHost.swift").read_text()
    head, inside = host.split("// MARK: On the queue")
    assert "AudioSession.activate(" in inside
    assert "AudioSession.activate(" not in head
    for body in re.findall(r"\n    func \w+\(.*?\n    }\n", head, re.S):
        assert "queue.async {" in body, body
    graph = (audio / "MicrophoneCapture.swift").read_text()
    for call in ("engine.attach", "engine.connect", "engine.prepare"):
        assert call not in graph.split("hearpack_try {")[0], f"{call} outside of the guard against exceptions"


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
    assert "ViewThatFits" in text, "a row of figures breaks where the text is large"
    for control in re.findall(r"(?:Button|ShareLink|Link)\([^\n]*(?:\n\s+\.[^\n]*)*", text):
        assert ".frame(minHeight: 44)" in control, control
    assert ".font(.system(" not in text, "fixed sizes do not follow Dynamic Type"


def test_the_readme_says_what_is_not_run_here() -> None:
    text = (SAMPLE / "README.md").read_text()
    for what in ("Xcode", "Core ML", "device"):
        assert re.search(rf"not .*{what}|{what}.* not", text, re.S), what


def test_fixture_of_the_typings_is_small() -> None:
    assert Path(ROOT / "tests" / "fixtures" / "ios" / "api.json").stat().st_size < 100_000
