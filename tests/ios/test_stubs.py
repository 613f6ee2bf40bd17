"""The type check of app and Core ML engine against stub modules, and the stubs against the published typings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.ios.swift_kit import KIT, ROOT, SAMPLE, Kit

STUBS = sorted((SAMPLE / "Stubs").glob("*.swift"))
APP = sorted((SAMPLE / "App").glob("*.swift"))
ENGINE = sorted((KIT / "Sources" / "HearpackCoreML").glob("*.swift"))
AUDIO = sorted((KIT / "Sources" / "HearpackAudio").glob("*.swift"))
API = json.loads((ROOT / "tests" / "fixtures" / "ios" / "api.json").read_text())["types"]
NOTE = re.compile(r"// (\w+)(?:\.(\w+))?(?: ios ([\d.]+))?( deprecated)?$")
DEPLOYMENT_TARGET = 16.0


def declarations() -> list[tuple[str, str, re.Match[str]]]:
    """(file and line, Swift text, note) of every stub that names an Objective-C member."""
    found = []
    for stub in STUBS:
        for number, line in enumerate(stub.read_text().splitlines(), 1):
            if note := NOTE.search(line):
                found.append((f"{stub.name}:{number}", line[: note.start()].strip(), note))
    return found


def parameters(swift: str) -> int:
    """Parameters of a Swift declaration as Objective-C counts them: an error and a handler are parameters there."""
    if not (head := re.search(r"(?:func [\w<>]+|init\??)\s*(?:<\w+>)?\(", swift)):
        return 0
    depth, count, end = 1, 0, head.end()
    text = swift[head.end() :]
    for offset, char in enumerate(text):
        depth += {"(": 1, "[": 1, "<": 1, ")": -1, "]": -1}.get(char, 0) if text[offset - 1 : offset + 1] != "->" else 0
        if depth == 0:
            end = offset
            break
        count += char == "," and depth == 1
    own = count + 1 if text[:end].strip() else 0
    effects = text[end + 1 :].split("{")[0].split("->")[0]
    return own + (1 if "async" in effects or re.search(r"\bthrows\b", effects) else 0)


def test_there_are_stubs() -> None:
    assert len(declarations()) > 80
    assert {p.stem for p in STUBS} == {"CoreAI", "CoreML", "AVFoundation", "SwiftUI", "UIKit", "CHearpackTry"}


@pytest.mark.parametrize(("where", "swift", "note"), declarations(), ids=[d[0] for d in declarations()])
def test_a_stub_is_what_the_typings_say(where: str, swift: str, note: re.Match[str]) -> None:
    name, member, stated, _ = note.groups()
    assert name in API, f"{where}: no {name} in the typings"
    since = API[name]["since"]
    if member is not None:
        assert member in API[name]["members"], f"{where}: {name} has no {member}"
        facts = API[name]["members"][member]
        since = max(since, facts["since"])
        assert parameters(swift) == facts["parameters"], f"{where}: {swift}"
    if stated is not None:
        # @since of a member is the class's where the typings leave it out.
        assert float(stated) in (since, API[name]["members"].get(member, {}).get("since")), (
            f"{where}: typings say {since}"
        )
    else:
        assert since <= DEPLOYMENT_TARGET, f"{where}: came with iOS {since}; say so, and guard its use"


def test_every_stub_says_what_it_stands_for() -> None:
    exempt = re.compile(
        r"rawValue|override init|// header|Notification\.Name\(|Port\(name|RecordPermission"
        r"|static let (record|measurement)|class UIApplication|enum UIAccessibility"
        r"|public var (mSampleTime|mHostTime|mFlags|mNumber|mData|mBuffers)|ObjCBool|@_exported"
    )
    silent = []
    for stub in STUBS:
        if stub.stem in ("SwiftUI", "CoreAI"):
            continue  # no Objective-C behind them, as their heads say
        for number, line in enumerate(stub.read_text().splitlines(), 1):
            if re.search(r"\b(func|init\(|init\?|case|public var|public static|public let)\b", line) and not (
                NOTE.search(line) or exempt.search(line)
            ):
                silent.append(f"{stub.name}:{number}: {line.strip()}")
    assert silent == []


def test_what_is_newer_than_the_deployment_target_is_guarded() -> None:
    """Linux cannot check availability: every use of a newer member stands within 8 lines under its #available."""
    newer = {
        ("requestRecordPermission()", 17),
        ("makeState()", 18),
        ("MLState", 18),
        ("using: kept", 18),
        ("CoreAIEngine.load(", 27),
    }
    stated = {float(n.group(3)) for _, _, n in declarations() if n.group(3) and float(n.group(3)) > DEPLOYMENT_TARGET}
    assert stated == {17.0, 18.0}
    for text, version in newer:
        used = 0
        for file in [*APP, *ENGINE, *AUDIO]:
            lines = file.read_text().splitlines()
            for number, line in enumerate(lines):
                code = line.split("//")[0]
                if text not in code or '"' in code.split(text)[0]:
                    continue
                used += 1
                above = "\n".join(lines[max(0, number - 8) : number + 1])
                assert f"#available(iOS {version}.0" in above, f"{file.name}:{number + 1}: {line.strip()}"
        assert used, f"{text} is not used any more: take it off this list"


@pytest.fixture(scope="module")
def modules(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Flags with which app and engine are checked: stub modules, and the kit as it was built."""
    folder = tmp_path_factory.mktemp("stubs")
    for stub in STUBS:
        module = f"{stub.stem}.swiftmodule"
        kit.swift.check(
            *("swiftc", "-emit-module", "-swift-version", "6", "-parse-as-library", "-module-name", stub.stem),
            *("-o", folder / module, stub),
        )
    atomics = kit.build / "release" / "CHearpackAtomics.build" / "module.modulemap"
    built = kit.build / "release" / "Modules"
    flags: list[str | Path] = ["-swift-version", "6", "-parse-as-library", "-I", folder, "-I", built, "-Xcc"]
    flags.append(f"-fmodule-map-file={atomics}")
    engine = folder / "HearpackCoreML.swiftmodule"
    output = kit.swift.run("swiftc", "-emit-module", "-module-name", "HearpackCoreML", *flags, "-o", engine, *ENGINE)
    assert output.returncode == 0, output.stderr
    assert "warning:" not in output.stderr, output.stderr
    audio = folder / "HearpackAudio.swiftmodule"
    output = kit.swift.run("swiftc", "-emit-module", "-module-name", "HearpackAudio", *flags, "-o", audio, *AUDIO)
    assert output.returncode == 0, output.stderr
    assert "warning:" not in output.stderr, output.stderr
    return flags


def test_app_and_engine_pass_the_type_check(kit: Kit, modules: list[str | Path]) -> None:
    done = kit.swift.run("swiftc", "-typecheck", "-module-name", "HearpackSample", *modules, *APP)
    assert done.returncode == 0, done.stderr
    assert "warning:" not in done.stderr, done.stderr


def test_the_code_of_the_page_passes_the_type_check(kit: Kit, modules: list[str | Path], tmp_path: Path) -> None:
    page = (SAMPLE.parent / "docs" / "your-own-app.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```swift\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) == 1
    own = tmp_path / "Own.swift"
    own.write_text(blocks[0], encoding="utf-8")
    done = kit.swift.run("swiftc", "-typecheck", "-module-name", "Own", *modules, own)
    assert done.returncode == 0, done.stderr
    assert "warning:" not in done.stderr, done.stderr


TYPOS = {
    "AppModel.swift": ("hearpack.start()", "hearpack.started()"),
    "Comparison.swift": ("AVAudioPlayer(data", "AVAudioPlayer(bytes"),
    "EnhanceView.swift": ("playout.underruns)", "playout.underrunz)"),
    "FiguresView.swift": ("ledger.totalMs", "ledger.totalMS"),
    "HearpackApp.swift": (".accessibilityHint(", ".accessibilityHints("),
    "ListenView.swift": ("live.figures.top.map", "live.figures.tops.map"),
    "Words.swift": ("localizedString(forKey", "localisedString(forKey"),
    "AudioSession.swift": ("setPreferredSampleRate(Double", "setPreferredSampleRates(Double"),
    "DeviceFacts.swift": ("process.processorCount", "process.processorsCount"),
    "Hearpack.swift": ("host.activatePlayback", "host.activatesPlayback"),
    "LoadedModel.swift": ("engine.wasCached", "engine.isCached"),
    "MicrophoneCapture.swift": ("engine.attach(sink", "engine.attached(sink"),
    "StreamHost.swift": ("recorder.next()", "recorder.nexts()"),
    "CoreAIEngine.swift": ("array.scalarType", "array.scalarTypes"),
    "CoreMLEngine.swift": ("array.strides", "array.stride"),
}


def test_every_file_has_a_planted_typo() -> None:
    assert set(TYPOS) == {p.name for p in [*APP, *AUDIO, *ENGINE]}


@pytest.mark.parametrize("name", sorted(TYPOS))
def test_a_planted_typo_is_caught(kit: Kit, modules: list[str | Path], tmp_path: Path, name: str) -> None:
    files = next(files for files in (APP, AUDIO, ENGINE) if name in {p.name for p in files})
    right, wrong = TYPOS[name]
    text = next(p for p in files if p.name == name).read_text()
    assert right in text
    planted = tmp_path / name
    planted.write_text(text.replace(right, wrong, 1))
    done = kit.swift.run(
        *("swiftc", "-typecheck", "-module-name", "Planted", *modules, planted),
        *(p for p in files if p.name != name),
    )
    assert done.returncode != 0
    assert f"{name}:" in done.stderr
    assert "error:" in done.stderr


def test_concurrency_is_checked_too(kit: Kit, modules: list[str | Path], tmp_path: Path) -> None:
    """Swift 6: the main actor's state out of the audio thread's closure does not compile."""
    text = next(p for p in AUDIO if p.name == "MicrophoneCapture.swift").read_text()
    assert "            playout.read(SampleBlock" in text
    planted = tmp_path / "MicrophoneCapture.swift"
    planted.write_text(
        text.replace(
            "            playout.read(SampleBlock",
            "            AudioOwner.shared.count += 1\n            playout.read(SampleBlock",
        )
        + "\n@MainActor final class AudioOwner { static let shared = AudioOwner(); var count = 0 }\n"
    )
    others = [p for p in AUDIO if p.name != planted.name]
    done = kit.swift.run("swiftc", "-typecheck", "-module-name", "Planted", *modules, planted, *others)
    assert done.returncode != 0
    assert "main actor" in done.stderr
