"""HearpackKit's own tests, its style, and the races that a sanitizer would find."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
    files = [p for p in SOURCES if p.parent.name != "Stubs"]
    done = swift.run("swift", "format", "lint", "--strict", "--configuration", SAMPLE / ".swift-format", *files)
    assert done.returncode == 0, done.stderr[-4000:]


def test_every_file_parses(swift: Swift) -> None:
    """-parse reads inactive #if blocks too."""
    swift.check("swiftc", "-parse", "-swift-version", "6", *SOURCES)


def test_no_file_of_the_core_knows_a_framework() -> None:
    wrong = {
        str(p.relative_to(ROOT)): imports - {"Foundation", "CHearpackAtomics"}
        for p in (KIT / "Sources" / "HearpackKit").glob("*.swift")
        if (imports := set(re.findall(r"^(?:@\w+ )?import (\w+)", p.read_text(), re.M)))
        - {"Foundation", "CHearpackAtomics"}
    }
    assert wrong == {}


def test_files_stay_readable() -> None:
    assert {p.name: n for p in SOURCES if (n := len(p.read_text().splitlines())) > 400} == {}


# Runs under the thread sanitizer: the two rings, each with a writer and a reader. Prints how much came through.
RACES = """
import Foundation

let samples = 2_000_000
let ring = RingBuffer(atLeast: 4_096)
let clock = MonotonicClock()
let feed = CaptureFeed(ringSamples: 4_096, clock: clock)
feed.rateHz = 48_000
let playout = try PlayoutRing(capacitySamples: 4_096, prefillSamples: 480, deadbandSamples: 240)
let writer = Thread {
    var next = 0
    var block = [Float](repeating: 0, count: 480)
    while next < samples {
        let count = min(480, samples - next)
        for i in 0..<count { block[i] = Float((next + i) & 0xff_ffff) }
        block.withUnsafeBufferPointer { all in
            var sent = 0
            while sent < count {
                let room = min(count - sent, ring.capacity - ring.available)
                if room == 0 { sched_yield() } else { sent += ring.write(all.baseAddress! + sent, room) }
            }
            feed.deliver(all.baseAddress!, count)
            _ = try? playout.write(UnsafeBufferPointer(rebasing: all[..<count]))
        }
        next += count
    }
}
writer.start()
var out = [Float](repeating: 0, count: 512)
var seen = 0
var wrong = 0
var records = 0
while seen < samples {
    let count = out.withUnsafeMutableBufferPointer { ring.read($0.baseAddress!, 512) }
    for i in 0..<count where out[i] != Float((seen + i) & 0xff_ffff) { wrong += 1 }
    seen += count
    while feed.nextRecord() != nil { records += 1 }
    _ = out.withUnsafeMutableBufferPointer { feed.ring.read($0.baseAddress!, 512) }
    out.withUnsafeMutableBufferPointer { playout.read($0) }
    _ = playout.counts
}
print("seen", seen, "wrong", wrong, "records", records > 0)
"""


def test_rings_under_the_thread_sanitizer(swift: Swift, tmp_path: Path, racy: Callable[..., list[str | Path]]) -> None:
    done = swift.run(*racy(tmp_path, RACES))
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    done = swift.run(tmp_path / "races", env={"TSAN_OPTIONS": "exitcode=66"})
    assert "WARNING: ThreadSanitizer" not in done.stderr, done.stderr[:4000]
    assert done.returncode == 0
    assert done.stdout.strip() == "seen 2000000 wrong 0 records true"


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
        files = sorted((KIT / "Sources" / "HearpackKit").glob("*.swift")) if with_core else []
        return ["bash", "-c", script, "bash", folder, atomics, folder / "main.swift", *files]

    return command


def test_build_folder_is_ignored_by_git() -> None:
    assert BUILD.relative_to(ROOT).parts[0] == "build"
    assert "build/" in (ROOT / ".gitignore").read_text().split()
    assert os.environ.get("HEARPACK_SWIFT", "") == "" or Path(os.environ["HEARPACK_SWIFT"]).is_absolute()
