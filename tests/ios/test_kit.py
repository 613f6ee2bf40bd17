"""HearpackKit's own tests, its style, and the races that a sanitizer would find."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streaming.runs.record import PARTS
from tests.ios.swift_kit import BUILD, KIT, ROOT, SAMPLE, Kit, Swift, build_flags

SOURCES = sorted(p for p in SAMPLE.rglob("*.swift") if ".build" not in p.parts)


def test_there_is_something_to_test() -> None:
    assert len(SOURCES) >= 30


@pytest.mark.parametrize("suite", sorted(p.stem for p in (KIT / "Tests").rglob("*Tests.swift")))
def test_every_suite_of_the_kit_passes(suite: str, results: dict[str, dict[str, str]]) -> None:
    outcome = results[suite]
    assert outcome, f"{suite} ran no test"
    assert {name: text for name, text in outcome.items() if text and not text.startswith("skipped")} == {}
    skipped = {name for name, text in outcome.items() if text.startswith("skipped")}
    assert skipped <= ({"testGoldenVectorsInCoreML"} if sys.platform != "darwin" else set())


@pytest.fixture(scope="module")
def results(kit: Kit, exported: dict[str, Path]) -> dict[str, dict[str, str]]:
    """suite -> test -> "" if it passed, else what it said."""
    command = ["swift", "test", "--skip-build", *build_flags()]
    done = kit.swift.run(*command, env={"HEARPACK_BUNDLES": str(next(iter(exported.values())).parent)})
    text = done.stdout + done.stderr
    found: dict[str, dict[str, str]] = {}
    for suite, test, outcome in re.findall(r"Test Case '(\w+)\.(\w+)' (passed|failed|skipped)", text):
        said = "" if outcome == "passed" else f"{outcome}: " + "\n".join(re.findall(rf"{suite}\.{test} : (.*)", text))
        found.setdefault(suite, {})[test] = said
    assert found, text[-4000:]
    return found


def test_every_test_function_ran(results: dict[str, dict[str, str]]) -> None:
    written = {
        (p.stem, name)
        for p in (KIT / "Tests").rglob("*Tests.swift")
        for name in re.findall(r"func (test\w+)\(", p.read_text())
    }
    assert written == {(suite, name) for suite, tests in results.items() for name in tests}


def test_style(swift: Swift) -> None:
    """swift-format with ios-sample/.swift-format; stubs are lines of declarations and are left alone."""
    files = [ROOT / "Package.swift", *(p for p in SOURCES if p.parent.name != "Stubs")]
    done = swift.run("swift", "format", "lint", "--strict", "--configuration", SAMPLE / ".swift-format", *files)
    assert done.returncode == 0, done.stderr[-4000:]


def test_every_file_parses(swift: Swift) -> None:
    """-parse reads inactive #if blocks too."""
    swift.check("swiftc", "-parse", "-swift-version", "6", *SOURCES)


ALLOWED = {"Foundation", "CHearpackAtomics", "CryptoKit"}  # the last only where there is one


def test_no_file_of_the_core_knows_a_framework() -> None:
    wrong = {
        str(p.relative_to(ROOT)): imports - ALLOWED
        for p in (KIT / "Sources" / "HearpackKit").rglob("*.swift")
        if (imports := set(re.findall(r"^(?:@\w+ )?import (\w+)", p.read_text(), re.M))) - ALLOWED
    }
    assert wrong == {}


def test_files_stay_readable() -> None:
    assert {p.name: n for p in SOURCES if (n := len(p.read_text().splitlines())) > 400} == {}


# Runs under the thread sanitizer: both rings and the feed, each with a writer and a reader. Prints what came through.
RACES = """
import Foundation

let samples = 100_000_000
let length = 1 << 20
let pattern = (0..<length).map { Float($0) }
let ring = RingBuffer(atLeast: 8_192)
let feed = CaptureFeed(ringSamples: 4_096, clock: MonotonicClock())
feed.rateHz = 48_000
let playout = try PlayoutRing(
    capacitySamples: 4_096, prefillSamples: 480, deadbandSamples: 240, toleranceSamples: 480, rateHz: 48_000)
let clock = MonotonicClock()
let writer = Thread {
    pattern.withUnsafeBufferPointer { all in
        var next = 0
        var state: UInt32 = 1
        while next < samples {
            state = state &* 1_103_515_245 &+ 12_345
            let at = next % length
            let size = 1 + Int((state >> 16) % 1_024)
            let count = min(size, samples - next, length - at, ring.capacity - ring.available)
            if count == 0 { sched_yield() } else { ring.write(all.baseAddress! + at, count) }
            next += count
            if next < 500_000 {
                feed.deliver(all.baseAddress! + at, count)
                _ = try? playout.write(UnsafeBufferPointer(rebasing: all[at..<at + count]), clock.nowNs())
            }
        }
    }
}
writer.start()
var block = [Float](repeating: 0, count: 1_024)
var (seen, wrong, records) = (0, 0, 0)
pattern.withUnsafeBufferPointer { all in
    block.withUnsafeMutableBufferPointer { out in
        while seen < samples {
            let at = seen % length
            let count = ring.read(out.baseAddress!, min(out.count, length - at))
            if count == 0 { sched_yield() }
            if memcmp(out.baseAddress!, all.baseAddress! + at, 4 * count) != 0 { wrong += 1 }
            seen += count
            if count > 0 && seen < 500_000 {
                while feed.nextRecord() != nil { records += 1 }
                feed.ring.read(out.baseAddress!, 512)
                playout.read(SampleBlock(rebasing: out[..<256]), clock.nowNs())
                _ = (playout.counts, playout.adjustPpm)
            }
        }
    }
}
print("seen", seen, "wrong", wrong, "refused", ring.lostSamples, "records", records > 0)
"""


def test_rings_under_the_thread_sanitizer(swift: Swift, tmp_path: Path, racy: Callable[..., list[str | Path]]) -> None:
    done = swift.run(*racy(tmp_path, RACES))
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    done = swift.run(tmp_path / "races", env={"TSAN_OPTIONS": "exitcode=66"})
    assert "WARNING: ThreadSanitizer" not in done.stderr, done.stderr[:4000]
    assert done.returncode == 0
    assert done.stdout.strip() == "seen 100000000 wrong 0 refused 0 records true"


def test_the_sanitizer_finds_a_planted_race(
    swift: Swift, tmp_path: Path, racy: Callable[..., list[str | Path]]
) -> None:
    planted = (
        "import Foundation\nlet cell = UnsafeMutablePointer<Int>.allocate(capacity: 1)\ncell.pointee = 0\n"
        "struct Handed: @unchecked Sendable { let cell: UnsafeMutablePointer<Int> }\nlet handed = Handed(cell: cell)\n"
        "let other = Thread { for _ in 0..<10_000 { handed.cell.pointee += 1; sched_yield() } }\nother.start()\n"
        "for _ in 0..<10_000 { cell.pointee += 1; sched_yield() }\nprint(cell.pointee)\n"
    )
    swift.check(*racy(tmp_path, planted, with_core=False))
    done = swift.run(tmp_path / "races", env={"TSAN_OPTIONS": "exitcode=66"})
    assert "WARNING: ThreadSanitizer: data race" in done.stderr
    assert done.returncode == 66


@pytest.fixture
def racy(swift: Swift) -> Callable[..., list[str | Path]]:
    """The command that builds a program together with the core's rings, with the thread sanitizer in all of it."""

    def command(folder: Path, program: str, with_core: bool = True) -> list[str | Path]:
        (folder / "main.swift").write_text(program)
        atomics = KIT / "Sources" / "CHearpackAtomics"
        (folder / "module.modulemap").write_text(
            f'module CHearpackAtomics {{ header "{atomics / "include" / "CHearpackAtomics.h"}" export * }}\n'
        )
        script = (
            'set -e; folder="$1"; shift; atomics="$1"; shift\n'
            'clang -c -O1 -g -fsanitize=thread -I "$atomics/include" "$atomics/atomics.c" -o "$folder/atomics.o"\n'
            'swiftc -O -g -swift-version 6 -sanitize=thread -I "$folder" "$@" "$folder/atomics.o" -o "$folder/races"\n'
        )
        names = ("Counters", "RingBuffer", "CaptureSource", "Playout", "PlayoutControl")
        names = ("Bundle/Errors", "Bundle/Printable", *(f"Audio/{name}" for name in names), "Stream/Clock")
        files = [KIT / "Sources" / "HearpackKit" / f"{name}.swift" for name in names] if with_core else []
        return ["bash", "-c", script, "bash", folder, atomics, folder / "main.swift", *files]

    return command


def test_public_names_do_not_collide() -> None:
    """With Swift's, Foundation's, CryptoKit's and SwiftUI's: a file that imports both would not compile."""
    taken = {
        *("Clock", "Event", "Route", "Block", "Level", "Golden", "SHA256", "Bundle", "Task", "Result", "State", "Data"),
        *("Check", "Blocks", "App", "AppState", "Text", "Notification", "Duration", "Port"),
    }
    public = {
        name
        for module in ("HearpackKit", "HearpackCoreML", "HearpackAudio")
        for p in (KIT / "Sources" / module).rglob("*.swift")
        for name in re.findall(
            r"^public (?:final )?(?:class|struct|enum|protocol|actor|typealias) (\w+)", p.read_text(), re.M
        )
    }
    assert len(public) > 40
    assert public & taken == set()


def test_the_package_at_the_root_has_the_products(swift: Swift) -> None:
    """As a stranger's app sees it: by the repository's address, without the tests' own targets."""
    text = swift.check("env", "-u", "HEARPACK_PROBE", "swift", "package", "--package-path", ROOT, "dump-package")
    package = json.loads(text)
    assert {p["name"]: p["targets"] for p in package["products"]} == {
        name: [name] for name in ("HearpackKit", "HearpackCoreML", "HearpackAudio")
    }
    assert package["dependencies"] == []
    assert "kit-probe" not in {t["name"] for t in package["targets"]}


def test_build_folder_is_ignored_by_git() -> None:
    assert BUILD.relative_to(ROOT).parts[0] == "build"
    assert "build/" in (ROOT / ".gitignore").read_text().split()


def test_the_ledger_uses_the_simulators_words() -> None:
    text = (KIT / "Sources" / "HearpackKit" / "Trace" / "LatencyLedger.swift").read_text()
    ours = set(re.findall(r'Part\("(\w+)"', text))
    assert len(ours) == 10
    assert ours <= set(PARTS)
