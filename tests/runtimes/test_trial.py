"""A file that is not known here is opened by a child first: it dies, hangs or grows there, and costs a line here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.common.errors import ArtefactError
from models.geometry import GraphSignature, StateSpec, TensorSpec
from runtimes import trial
from runtimes.litert import Engine, LiteRTRuntime, trial_key, try_file

STEP_FILE = Path(__file__).resolve().parents[1] / "fixtures" / "tflite" / "step.tflite"
AUDIO, SCORES = TensorSpec("audio", (1, 256), (-1.0, 1.0), ""), TensorSpec("scores", (1, 5), (0.0, 1.0), "")
STEP = GraphSignature((AUDIO,), (SCORES,), (StateSpec("h", (1, 32)),))
ENGINES: tuple[Engine, ...] = ("interpreter", "compiled")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is known."""
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "_known", set())
    return tmp_path / "cache"


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands of the children that were started."""
    started, popen = [], subprocess.Popen

    def counted(command: Any, **options: Any) -> Any:
        started.append(command)
        return popen(command, **options)

    monkeypatch.setattr(trial.subprocess, "Popen", counted)
    return started


def child_that(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(trial, "_CODE", code)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", "LiteRT died of SIGABRT when a process of its own opened the file"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "LiteRT died of SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGFPE)", "LiteRT died of SIGFPE"),
        ("raise ValueError('what it said')", r"ended with code 1 \(ValueError: what it said\)"),
        ("import os; os._exit(7)", r"ended with code 7 \(nothing said\)"),
    ],
)
def test_a_death_of_the_child_is_one_line(
    code: str, message: str, engine: Engine, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    child_that(monkeypatch, code)
    with pytest.raises(ArtefactError, match=r"step\.tflite: LiteRT .*export it again$") as caught:
        LiteRTRuntime(STEP_FILE, STEP, engine)
    assert caught.match(message)
    assert not cache.exists(), "a file that killed a child is known"


def test_a_hang_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    child_that(monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(trial, "SECONDS", 0.3)
    with pytest.raises(ArtefactError, match="did not come to an end within 0 s"):
        LiteRTRuntime(STEP_FILE, STEP)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    child_that(monkeypatch, "kept = b'x' * 300_000_000; import time; time.sleep(600)")
    monkeypatch.setattr(trial, "MOST_BYTES", 200_000_000)
    with pytest.raises(ArtefactError, match=r"took 0\.[23] GB of memory, at most 0\.2 GB are given"):
        LiteRTRuntime(STEP_FILE, STEP)


def test_the_child_is_started_once_a_file(children: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ENGINES:
        LiteRTRuntime(STEP_FILE, STEP, engine)
    assert len(children) == 1
    monkeypatch.setattr(trial, "_known", set())  # another process, with the same cache
    LiteRTRuntime(STEP_FILE, STEP)
    try_file(STEP_FILE.read_bytes(), STEP, {}, "step.tflite")
    assert len(children) == 1
    changed = STEP_FILE.read_bytes() + b"\0"
    LiteRTRuntime(changed, STEP)
    assert len(children) == 2, "another file is not known by its neighbour"


def test_what_was_exported_here_needs_no_child(children: list[Any]) -> None:
    trial.remember(trial_key(STEP_FILE.read_bytes()))
    LiteRTRuntime(STEP_FILE, STEP)
    assert not children
    trial.remember(trial_key(b"another")[:-1] + "x")  # of another LiteRT
    assert not trial.is_known(trial_key(b"another"))


def test_a_cache_that_cannot_be_written_is_no_error(
    cache: Path, children: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        LiteRTRuntime(STEP_FILE, STEP)
    assert len(children) == 1, "within a process it is known all the same"


def test_the_child_imports_nothing_from_the_folder_that_the_user_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "runtimes", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    LiteRTRuntime(STEP_FILE, STEP)


def test_an_error_of_the_library_stays_its_own() -> None:
    """A custom operator that nobody has: LiteRT says so, here as in the child."""
    from converters.litert.tflite_edit import read_model, write_model

    model = read_model(STEP_FILE.read_bytes())
    code = model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex]
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"Nobody"
    with pytest.raises(ArtefactError, match="LiteRT cannot load it"):
        LiteRTRuntime(write_model(model), STEP)


def test_a_real_crash_leaves_this_process_alone() -> None:
    """A file that ends LiteRT in spite of the checks (tests/fuzz found it), in a process that must say so and live."""
    code = (
        "import sys; sys.path[:0] = ['tests/runtimes']\n"
        "import test_trial\nfrom tests.fuzz.tflite_mutators import Mutator\n"
        "from models.common.errors import ArtefactError\nfrom models.geometry import GraphSignature\n"
        "data = (test_trial.STEP_FILE.parent / 'window.tflite').read_bytes()\n"
        "what, broken = Mutator(data).mutate(2023)\n"
        "for engine in test_trial.ENGINES:\n"
        "    try:\n"
        "        test_trial.LiteRTRuntime(broken, GraphSignature((test_trial.AUDIO,), (test_trial.SCORES,)), engine)\n"
        "    except ArtefactError as exc:\n"
        "        print(exc)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2, done.stdout
