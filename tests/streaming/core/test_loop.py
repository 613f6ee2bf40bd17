"""The loop around a runtime: any partition gives the same calls, and a flush gives the rest, once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import ArtefactError, AudioError, UsageError
from models.geometry import GraphSignature, StateSpec, StreamGeometry, TensorSpec
from runtimes.protocol import Array, Outputs, Runtime, RuntimeInfo, State, check_call, zero_state
from streaming.core.loop import StreamLoop, run_loop

RATE = 16000


def audio(samples: int) -> TensorSpec:
    return TensorSpec("audio", (1, samples), (-1.0, 1.0), "in")


class DelayLine:
    """An enhancer that returns its input `delay` samples late. Its state is a view of what it was given, as a
    careless runtime's might be."""

    def __init__(self, samples: int, delay: int, fails_at: int | None = None) -> None:
        self.signature = GraphSignature(
            (audio(samples),),
            (TensorSpec("enhanced", (1, samples), (-1.0, 1.0), "out"),),
            (StateSpec("line", (1, delay)),),
        )
        self.info = RuntimeInfo("torch", "fake")
        self.geometry = StreamGeometry(RATE, 1, samples, samples, delay)
        self.calls = 0
        self.fails_at = fails_at

    def reset(self) -> State:
        return zero_state(self.signature)

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        check_call(self.signature, block, state)
        self.calls += 1
        if self.calls == self.fails_at:
            raise ArtefactError("fake: out of luck")
        delay = state["line"].shape[1]
        line = np.concatenate([state["line"], block], axis=1)
        late = block if delay == 0 else line[:, -delay:]
        return {"enhanced": line[:, : block.shape[1]].copy()}, {"line": late[:, late.shape[1] - delay :]}

    def close(self) -> None:
        """Nothing is held."""


class WindowSums:
    """A classifier whose two scores give away exactly which samples it saw."""

    def __init__(self, window: int, hop: int, labels: int = 2) -> None:
        outputs = (
            TensorSpec("other", (1, 3), (0.0, 1.0), "zeros"),
            TensorSpec("scores", (1, labels), (0.0, 1.0), "sums"),
        )
        self.signature = GraphSignature((audio(window),), outputs)
        self.info = RuntimeInfo("torch", "fake")
        self.geometry = StreamGeometry(RATE, 1, window, hop, 0)

    def reset(self) -> State:
        return {}

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        check_call(self.signature, block, state)
        scores = np.array([[block[0, 0], block[0].sum(dtype=np.float64)]], np.float32)
        return {"other": np.zeros((1, 3), np.float32), "scores": scores}, state

    def close(self) -> None:
        """Nothing is held."""


def implements_the_protocol(runtime: Runtime) -> Runtime:
    return runtime


def noise(n: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * 0.3).astype(np.float32)


def push_all(loop: StreamLoop, samples: np.ndarray, sizes: list[int]) -> list[tuple[int, bytes]]:
    results, at = [], 0
    for size in [*sizes, len(samples)]:
        results += loop.push(samples[at : at + size])
        at = min(at + size, len(samples))
    results += loop.flush()
    return [(r.end_sample, r.values.tobytes()) for r in results]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 400),
    samples=st.sampled_from([1, 16, 48]),
    delay=st.sampled_from([0, 5, 16, 40, 100]),
    sizes=st.lists(st.integers(0, 120), max_size=10),
)
def test_step_net_any_partition(n: int, samples: int, delay: int, sizes: list[int]) -> None:
    runtime = DelayLine(samples, delay)
    signal = noise(n)
    loop = StreamLoop(runtime, runtime.geometry, "step", samples)
    assert loop.audio_out
    streamed = push_all(loop, signal, sizes)
    out = np.frombuffer(b"".join(values for _, values in streamed), np.float32)
    expected = np.concatenate([np.zeros(delay, np.float32), signal]) if n else np.zeros(0, np.float32)
    assert out.tobytes() == expected.tobytes()  # every sample comes out, exactly `delay` late, and nothing more
    assert loop.calls == (-(-(n + delay) // samples) if n else 0)
    assert loop.in_samples == n
    if n:
        assert streamed[-1][0] == n + delay
        assert [end for end, _ in streamed[:-1]] == [samples * (k + 1) for k in range(loop.calls - 1)]


def classify(
    runtime: WindowSums, kind: str, size: int, signal: np.ndarray, hop: int | None = None, output: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ends and scores of a whole clip."""
    results = run_loop(StreamLoop(runtime, runtime.geometry, kind, size, hop, output), signal)  # type: ignore[arg-type]
    scores = [r.values for r in results]
    return np.array([r.end_sample for r in results], np.int64), np.stack(scores) if scores else np.zeros(
        (0, 2), np.float32
    )


def windows_by_hand(signal: np.ndarray, window: int, hop: int) -> list[tuple[int, np.ndarray]]:
    """Every window of the contract's paragraph, and at the end the padded one, if a sample would be missed."""
    n, start, found = len(signal), 0, []
    while start + window <= n:
        found.append((start + window, signal[start : start + window]))
        start += hop
    covered = found[-1][0] if found else 0
    if n > max(covered, start):
        found.append((start + window, np.pad(signal[start:], (0, window - (n - start)))))
    return found


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(0, 300),
    window=st.sampled_from([1, 20, 50]),
    hop=st.sampled_from([1, 7, 20, 50, 75]),
    sizes=st.lists(st.integers(0, 90), max_size=10),
)
def test_window_net_any_partition(n: int, window: int, hop: int, sizes: list[int]) -> None:
    runtime = WindowSums(window, hop)
    signal = noise(n)
    loop = StreamLoop(runtime, runtime.geometry, "window", window, output_name="scores")
    expected = [
        (end, np.array([seen[0], seen.sum(dtype=np.float64)], np.float32).tobytes())
        for end, seen in windows_by_hand(signal, window, hop)
    ]
    assert push_all(loop, signal, sizes) == expected
    assert loop.calls == len(expected)
    ends, scores = classify(runtime, "window", window, signal, output="scores")
    assert (ends.dtype, scores.dtype, scores.shape) == (np.int64, np.float32, (len(expected), 2))
    assert [(int(e), s.tobytes()) for e, s in zip(ends, scores, strict=True)] == expected


@pytest.mark.parametrize(
    ("n", "ends"),
    [(0, []), (1, [100]), (99, [100]), (100, [100]), (101, [100, 150]), (150, [100, 150]), (151, [100, 150, 200])],
)
def test_tail_is_padded_once(n: int, ends: list[int]) -> None:
    runtime = WindowSums(100, 50)
    assert classify(runtime, "window", 100, noise(n))[0].tolist() == ends


def test_hop_of_the_decisions_overrides_the_geometry() -> None:
    runtime = WindowSums(100, 50)
    assert classify(runtime, "window", 100, noise(300), 100)[0].tolist() == [100, 200, 300]
    # Skipped samples need no window: nothing has begun that they would belong to.
    assert classify(runtime, "window", 100, noise(240), 150)[0].tolist() == [100, 250]
    assert classify(runtime, "window", 100, noise(140), 150)[0].tolist() == [100]


def test_step_net_that_returns_scores() -> None:
    runtime = WindowSums(64, 64)
    ends, scores = classify(runtime, "step", 64, noise(130), output="scores")
    assert ends.tolist() == [64, 128, 192]
    assert scores.shape == (3, 2)
    assert not StreamLoop(runtime, runtime.geometry, "step", 64, output_name="scores").audio_out


def test_reset_is_exact_and_streams_are_apart() -> None:
    runtime = implements_the_protocol(DelayLine(16, 40))
    geometry = StreamGeometry(RATE, 1, 16, 16, 40)
    one, two = StreamLoop(runtime, geometry, "step", 16), StreamLoop(runtime, geometry, "step", 16)
    fresh = push_all(one, noise(100, 1), [])
    one.reset()
    results = []
    for k in range(0, 100, 10):  # by turns with another stream of the same runtime
        results += one.push(noise(100, 1)[k : k + 10])
        two.push(noise(100, 2)[k : k + 10])
    results += one.flush()
    joined = b"".join(r.values.tobytes() for r in results)
    assert joined == b"".join(values for _, values in fresh)
    one.reset()
    one.push(noise(33, 3))
    assert np.concatenate([r.values for r in run_loop(one, noise(100, 1))]).tobytes() == joined


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number_is_refused_with_its_position(value: float) -> None:
    runtime = DelayLine(16, 40)
    loop = StreamLoop(runtime, runtime.geometry, "step", 16)
    loop.push(noise(100))
    bad = noise(50)
    bad[20] = value
    with pytest.raises(AudioError, match="sample 120 "):
        loop.push(bad)
    assert (loop.in_samples, loop.calls) == (100, 6)
    loop.push(noise(12))  # the stream goes on
    assert loop.calls == 7


def test_a_failing_runtime_ends_the_stream() -> None:
    runtime = DelayLine(16, 0, fails_at=3)
    loop = StreamLoop(runtime, runtime.geometry, "step", 16)
    with pytest.raises(ArtefactError, match="out of luck"):
        loop.push(noise(100))
    with pytest.raises(UsageError, match="reset"):
        loop.push(noise(1))
    assert loop.flush() == []
    loop.reset()
    assert len(loop.push(noise(32))) == 2


def test_flushed_stream_takes_no_block() -> None:
    runtime = DelayLine(16, 0)
    loop = StreamLoop(runtime, runtime.geometry, "step", 16)
    loop.push(noise(10))
    assert [r.end_sample for r in loop.flush()] == [10]
    assert loop.flush() == []
    with pytest.raises(UsageError, match="reset"):
        loop.push(noise(1))


def test_what_does_not_fit_is_refused() -> None:
    runtime, sums = DelayLine(16, 0), WindowSums(100, 50)
    with pytest.raises(UsageError, match=r"takes audio \[1, 16\], the buffer says \[1, 32\]"):
        StreamLoop(runtime, runtime.geometry, "step", 32)
    with pytest.raises(UsageError, match="step net"):
        StreamLoop(runtime, runtime.geometry, "step", 16, window_hop_samples=8)
    with pytest.raises(UsageError, match="at least 1"):
        StreamLoop(sums, sums.geometry, "window", 100, window_hop_samples=0)
    with pytest.raises(UsageError, match="no output 'enhanced'; the runtime gives: other, scores"):
        StreamLoop(sums, sums.geometry, "window", 100, output_name="enhanced")
    with pytest.raises(UsageError, match=r"the runtime takes audio \[1, 16\], the buffer says \[1, 2, 16\]"):
        StreamLoop(runtime, StreamGeometry(RATE, 2, 16, 16, 0), "step", 16)
    with pytest.raises(UsageError, match="float32"):
        StreamLoop(runtime, runtime.geometry, "step", 16).push(np.zeros(4))  # type: ignore[arg-type]
