"""LiteRT as a runtime, on small files that tests/fixtures/tflite/make.py made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.common.errors import ArtefactError, MissingDependencyError, OutputError
from models.geometry import GraphSignature, StateSpec, TensorSpec
from runtimes import litert
from runtimes.litert import LiteRTRuntime
from runtimes.native_output import quiet
from runtimes.weight_cache import WeightCache

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "tests" / "fixtures" / "tflite"
STEP_FILE, WINDOW_FILE, ALIASED_FILE = FILES / "step.tflite", FILES / "window.tflite", FILES / "aliased.tflite"
AUDIO = TensorSpec("audio", (1, 256), (-1.0, 1.0), "waveform")
SCORES = TensorSpec("scores", (1, 5), (0.0, 1.0), "probabilities")
STEP = GraphSignature((AUDIO,), (SCORES,), (StateSpec("h", (1, 32)),))
WINDOW = GraphSignature((AUDIO,), (SCORES,))
ENGINES = ("interpreter", "compiled")


def blocks(count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [(0.1 * generator.standard_normal((1, 256))).astype(np.float32) for _ in range(count)]


def stream(runtime: LiteRTRuntime, count: int = 20) -> np.ndarray:
    state, rows = runtime.reset(), []
    for block in blocks(count):
        outputs, state = runtime.step(block, state)
        rows.append(np.concatenate([outputs["scores"], state["h"]], axis=1))
    return np.concatenate(rows)


def test_both_engines_give_the_same_bits() -> None:
    one, two = (stream(LiteRTRuntime(STEP_FILE, STEP, engine)) for engine in ENGINES)
    assert np.array_equal(one, two)
    assert one[:, :5].std(axis=0).max() > 1e-3  # the input matters
    assert np.abs(one[0, 5:] - one[-1, 5:]).max() > 1e-3  # and the state moves


@pytest.mark.parametrize("engine", ENGINES)
def test_state_is_a_value_and_outputs_belong_to_the_caller(engine: litert.Engine) -> None:
    runtime = LiteRTRuntime(STEP_FILE, STEP, engine)
    first, second = blocks(2)
    start = runtime.reset()
    outputs, state = runtime.step(first, start)
    kept, kept_state = outputs["scores"].copy(), state["h"].copy()
    runtime.step(second, state)
    assert np.array_equal(outputs["scores"], kept)
    assert np.array_equal(state["h"], kept_state)
    assert not start["h"].any()
    outputs["scores"][:] = 7.0  # the caller may write
    again, _ = runtime.step(first, start)
    assert np.array_equal(again["scores"], kept)


@pytest.mark.parametrize("engine", ENGINES)
def test_two_streams_may_share_a_runtime_by_turns(engine: litert.Engine) -> None:
    runtime = LiteRTRuntime(STEP_FILE, STEP, engine)
    alone = stream(runtime, 6)
    states, rows = [runtime.reset(), runtime.reset()], []
    for block in blocks(6):
        outputs, states[0] = runtime.step(block, states[0])
        rows.append(np.concatenate([outputs["scores"], states[0]["h"]], axis=1))
        _, states[1] = runtime.step(-block, states[1])
    assert np.array_equal(np.concatenate(rows), alone)


def test_info_names_engine_and_version() -> None:
    info = LiteRTRuntime(WINDOW_FILE, WINDOW, "compiled", threads=2).info
    assert info.engine == "litert-compiled"
    assert info.version[0].isdigit()
    assert "2 threads" in info.detail


def test_names_in_the_file_may_differ_from_ours() -> None:
    ours = GraphSignature((TensorSpec("wave", (1, 256), (-1.0, 1.0), ""),), (TensorSpec("p", (1, 5), (0.0, 1.0), ""),))
    runtime = LiteRTRuntime(WINDOW_FILE, ours, io_names={"wave": "audio", "p": "scores"})
    assert set(runtime.step(blocks(1)[0], {})[0]) == {"p"}


@pytest.mark.parametrize("engine", ENGINES)
def test_wrong_calls_are_refused(engine: litert.Engine) -> None:
    runtime = LiteRTRuntime(STEP_FILE, STEP, engine)
    good, state = blocks(1)[0], runtime.reset()
    with pytest.raises(ArtefactError, match=r"audio: expected float32 \[1, 256\], got float32 \[1, 255\]"):
        runtime.step(good[:, 1:], state)
    with pytest.raises(ArtefactError, match="got float64"):
        runtime.step(good.astype(np.float64), state)  # type: ignore[arg-type]
    with pytest.raises(ArtefactError, match="state 'h' is missing"):
        runtime.step(good, {})
    runtime.close()
    runtime.close()
    with pytest.raises(ArtefactError, match="was closed"):
        runtime.step(good, state)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (GraphSignature((AUDIO,), (SCORES,)), "expected the inputs audio; the file has audio, h"),
        (
            GraphSignature((AUDIO,), (TensorSpec("x", (1, 5), (0, 1), ""),), STEP.states),
            "expected the outputs h_out, x",
        ),
        (GraphSignature((AUDIO,), (SCORES,), (StateSpec("h", (1, 16)),)), r"'h': expected float32 \[1, 16\]"),
    ],
)
def test_a_file_of_another_net_is_refused(signature: GraphSignature, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        LiteRTRuntime(STEP_FILE, signature)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_tflite_and_truncated_files_are_refused(engine: litert.Engine, tmp_path: Path) -> None:
    data = STEP_FILE.read_bytes()
    text = tmp_path / "text.tflite"
    text.write_text("this is no model, only a text that is long enough\n")
    with pytest.raises(ArtefactError, match=r"not a \.tflite file: expected b'TFL3'"):
        LiteRTRuntime(text, STEP, engine)
    with pytest.raises(ArtefactError, match="cannot read"):
        LiteRTRuntime(tmp_path / "absent.tflite", STEP, engine)
    for size in (0, 3, 40, 400, len(data) // 2, len(data) - 100):
        with pytest.raises(ArtefactError):
            LiteRTRuntime(data[:size], STEP, engine)


def test_an_output_that_is_an_input_is_refused_where_it_would_be_garbage() -> None:
    with pytest.raises(ArtefactError, match="'h_out' is an input handed through"):
        LiteRTRuntime(ALIASED_FILE, STEP, "compiled")
    runtime = LiteRTRuntime(ALIASED_FILE, STEP, "interpreter")  # the classic interpreter copes
    state = {"h": np.full((1, 32), 3.0, np.float32)}
    assert np.array_equal(runtime.step(blocks(1)[0], state)[1]["h"], state["h"])


def test_weight_cache_is_used_and_a_damaged_one_is_built_again(tmp_path: Path) -> None:
    expected = stream(LiteRTRuntime(STEP_FILE, STEP, "compiled"))
    cold = LiteRTRuntime(STEP_FILE, STEP, "compiled", weight_cache=tmp_path)
    assert cold.info.detail.endswith("weight cache cold")
    assert np.array_equal(stream(cold), expected)
    (cache,) = tmp_path.glob("*.xnn")
    warm = LiteRTRuntime(STEP_FILE, STEP, "compiled", weight_cache=tmp_path)
    assert warm.info.detail.endswith("weight cache warm")
    assert np.array_equal(stream(warm), expected)
    sound = cache.read_bytes()
    for damaged in (b"", b"text", sound[:2000], sound[:9000] + b"\x7f\xff\xff\x7f" * 64 + sound[9256:]):
        cache.unlink()  # the file may be mapped by the runtimes above: never write into it
        cache.write_bytes(damaged)
        again = LiteRTRuntime(STEP_FILE, STEP, "compiled", weight_cache=tmp_path)
        assert again.info.detail.endswith("weight cache cold")
        assert np.array_equal(stream(again), expected)
        assert cache.read_bytes() == sound
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".sha256", ".xnn"]


def test_weight_cache_in_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot keep weight caches"):
        WeightCache(tmp_path / "file").open("key", lambda path: path)


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "_HOMES", (("absent_runtime.interpreter", "absent-runtime"),))
    litert._interpreter_class.cache_clear()
    with pytest.raises(MissingDependencyError, match="ai-edge-litert"):
        LiteRTRuntime(STEP_FILE, STEP)
    litert._interpreter_class.cache_clear()


def test_nothing_is_written_to_the_terminal() -> None:
    code = (
        "import sys; sys.path[:0] = ['tests/runtimes', '.']\n"
        "import test_litert as t\n"
        "for engine in t.ENGINES:\n"
        "    t.stream(t.LiteRTRuntime(t.STEP_FILE, t.STEP, engine), 2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_quiet_keeps_what_was_written_and_restores_the_descriptor(capfd: pytest.CaptureFixture[str]) -> None:
    import os

    with quiet() as captured:
        os.write(2, b"noise of a library\n")
    os.write(2, b"ours\n")
    assert captured.text == "noise of a library\n"
    assert capfd.readouterr().err == "ours\n"
