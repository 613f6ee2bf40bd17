"""Ctrl-C, a real SIGINT to a real process: it ends with 130 and leaves nothing, whatever it was doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.common.hashing import sha256_tree
from streaming.files.wav import write_wav

ROOT = Path(__file__).resolve().parents[2]
ENDS_S = 60.0  # the machine may be busy; without an end of its own each of these would run for many minutes
_MAIN = "from hearpack.__main__ import main; main()"
# A library that swallows the interrupt in its callbacks, and one that is torn out of native code for a while.
_SWALLOWS = """
import pathlib, sys, tempfile, time
from hearpack.interrupt import interruptible
from hearpack.ending import in_one_line
from models.common.files import atomic_folder
with interruptible(), in_one_line(), atomic_folder(pathlib.Path(sys.argv[1]) / "x") as folder:
    (folder / "half").write_text("half")
    pathlib.Path(tempfile.mkdtemp(), "of a library").write_text("x")
    print("ready", flush=True)
    while True:
        try:
            time.sleep(0.01)
        except KeyboardInterrupt:
            pass
"""


class Process:
    """A command that was started, with a TMPDIR of its own."""

    def __init__(self, code: str, arguments: Sequence[str | Path], folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        command = [sys.executable, "-c", code, *map(str, arguments)]
        env = {**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT)}
        # A shell that runs pytest in the background has it ignore SIGINT, and so would its children.
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def interrupt(self) -> str:
        """Send SIGINT; what it said on stderr."""
        assert self.process.poll() is None, self.process.communicate()[1]
        self.process.send_signal(signal.SIGINT)
        try:
            _, said = self.process.communicate(timeout=ENDS_S)
        finally:
            self.process.kill()
        assert self.process.returncode == 130, said
        assert "Traceback" not in said
        assert list(self.temporary.iterdir()) == []
        return said


def below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_an_interrupt_that_is_swallowed_ends_the_process_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    process = Process(_SWALLOWS, [tmp_path / "out"], tmp_path)
    assert process.process.stdout is not None
    assert process.process.stdout.readline() == "ready\n"
    assert len(below(process.temporary)) == 3
    said = process.interrupt()
    assert said.splitlines() == ["hearpack: interrupted; nothing half-written was left"]
    assert below(tmp_path / "out") == []


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour of noise: what any command takes minutes for."""
    file = tmp_path_factory.mktemp("long") / "hour.wav"
    noise = np.random.default_rng(1).standard_normal(16_000 * 3600).astype(np.float32)
    write_wav(file, 0.1 * noise, 16_000, "PCM_16")
    return file


@pytest.mark.parametrize("after_s", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("name", ["run", "verify", "simulate", "tune", "export", "calibrate"])
def test_any_command_ends_and_leaves_nothing(
    name: str, after_s: float, exported: dict[str, Path], long_recording: Path, tmp_path: Path
) -> None:
    out, enhancer = tmp_path / "out", exported["gtcrn"]
    (tmp_path / "labels.csv").write_text("1.0,3.0,Speech\n")
    out.mkdir()
    commands: dict[str, tuple[str | Path, ...]] = {
        "run": (enhancer, long_recording, "-o", out / "x.wav"),
        "verify": (enhancer, "--seconds", "3600"),
        "simulate": (enhancer, long_recording, "--compute-ms", "1", "-o", out / "x.run"),
        "tune": (exported["yamnet"], long_recording, tmp_path / "labels.csv"),
        "export": ("gtcrn", "--force", "-o", out),
        "calibrate": (enhancer, "--seconds", "600", "-o", out / "x.json"),
    }
    before = {bundle: sha256_tree(bundle) for bundle in exported.values()}
    process = Process(_MAIN, [name, *commands[name]], tmp_path)
    while not below(process.temporary) and process.process.poll() is None:  # Python itself has started
        time.sleep(0.01)
    time.sleep(after_s)
    process.interrupt()
    # An interrupted simulation that had begun is a result: its report.
    assert set(below(out)) == ({p for p in below(out) if p.startswith("x.run")} if name == "simulate" else set())
    assert {bundle: sha256_tree(bundle) for bundle in before} == before
