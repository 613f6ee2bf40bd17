"""What a net may be given, and how a stream goes on after output that is not finite: against goldens for ports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from models.geometry import GraphSignature, StateSpec, StreamGeometry, TensorSpec
from runtimes.protocol import Array, Outputs, RuntimeInfo, State, zero_state
from runtimes.stages import Gain, Stage
from streaming.core.bound import INPUT_LIMIT, all_finite, bounded
from streaming.core.dsp import InputChain
from streaming.core.loop import LoopOutput, StreamLoop
from streaming.core.resample import Resampler

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "recovery" / "golden.json").read_text(encoding="utf-8")
)


def floats(bits: list[int]) -> Array:
    return np.array(bits, np.uint32).view(np.float32)


class Toy:
    """The golden's net: infinite at an input of 2, and then spoilt for good."""

    def __init__(self, kind: str) -> None:
        self.step_net = kind == "step"
        size = GOLDEN["buffer"] if self.step_net else GOLDEN["window"]
        out = TensorSpec("out", (1, size if self.step_net else 2), (-1.0, 1.0), "out")
        states = (StateSpec("h", (1, 1)),) if self.step_net else ()
        self.signature = GraphSignature((TensorSpec("audio", (1, size), (-1.0, 1.0), "in"),), (out,), states)
        self.info = RuntimeInfo("torch", "fake")
        hop = size if self.step_net else GOLDEN["hop"]
        self.geometry = StreamGeometry(16_000, 1, size, hop, 0)
        self.resets = 0

    def reset(self) -> State:
        self.resets += 1
        return zero_state(self.signature)

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        with np.errstate(divide="ignore", invalid="ignore"):
            y = block / (np.float32(2.0) - np.abs(block))
            if not self.step_net:
                return {"out": y[:, [0, -1]]}, state
            h = state["h"]
            return {"out": y + h}, {"h": h * np.float32(0.5) + y[:, -1:]}

    def close(self) -> None:
        """Nothing is held."""


def streamed(kind: str, recover: bool = True) -> tuple[Toy, StreamLoop]:
    toy = Toy(kind)
    size = toy.signature.inputs[0].shape[-1]
    return toy, StreamLoop(toy, toy.geometry, "step" if toy.step_net else "window", size, recover=recover)


@pytest.mark.parametrize("case", GOLDEN["bounds"], ids=lambda c: c["name"])
def test_the_bound_is_the_golden_one(case: dict[str, Any]) -> None:
    assert GOLDEN["limit"] == INPUT_LIMIT
    came = floats(case["input_bits"])
    result = bounded(came)
    assert result.samples.view(np.uint32).tolist() == case["output_bits"]
    assert (result.nan, result.limited) == (case["nan"], case["limited"])
    assert (result.samples is came) == (case["nan"] == case["limited"] == 0)


@given(npst.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32)))
def test_any_block_comes_out_finite_within_the_limit_and_counted(block: Array) -> None:
    before = block.copy()
    result = bounded(block)
    assert np.array_equal(block, before, equal_nan=True)
    assert all_finite(result.samples)
    assert float(np.abs(result.samples).max(initial=0.0)) <= INPUT_LIMIT
    same = result.samples == block
    assert result.nan + result.limited == int(np.count_nonzero(~same))


@pytest.mark.parametrize("kind", ["step", "window"])
@pytest.mark.parametrize("block", [1, 3, 64])
def test_streams_go_on_as_the_golden_ones(kind: str, block: int) -> None:
    cases = [c for c in GOLDEN["streams"] if c["kind"] == kind]
    assert {c["nan_outputs"] > 0 for c in cases} == {True, False}
    for case in cases:
        toy, loop = streamed(kind)
        samples = floats(case["input_bits"])
        results = [r for at in range(0, len(samples), block) for r in loop.push(samples[at : at + block])]
        kept = [r for r in results if kind == "step" or not r.nan]
        assert [r.end_sample for r in kept] == case["ends"]
        assert np.concatenate([r.values for r in kept]).view(np.uint32).tolist() == case["output_bits"]
        assert loop.nan_outputs == case["nan_outputs"] == sum(r.nan > 0 for r in results)
        assert toy.resets == 1 + case["nan_outputs"]
        assert loop.calls == len(results)


def test_who_judges_a_net_sees_what_it_gave() -> None:
    toy, loop = streamed("step", recover=False)
    results: list[LoopOutput] = loop.push(np.array([2.0, *[0.25] * 11], np.float32))
    assert not any(np.isfinite(r.values).all() for r in results[:1])
    assert (loop.nan_outputs, toy.resets) == (0, 1)


def test_the_net_is_bounded_after_the_stages_too() -> None:
    stages: list[Stage] = [Gain(kind="gain", gain_db=20.0)]
    chain = InputChain(stages, 16_000)
    out = chain.process(np.array([0.1, 0.5, -0.9], np.float32))
    assert out[1:].tolist() == [4.0, -4.0]
    assert chain.limited == 2
    chain.reset()
    assert chain.limited == 0


@pytest.mark.parametrize("rates", [(16_000, 16_000), (48_000, 16_000)])
def test_the_resampler_saturates_at_equal_rates_too(rates: tuple[int, int]) -> None:
    out = Resampler(*rates).process(np.full(3_000, 15_136.0, np.float32))
    assert float(out[-1]) == pytest.approx(INPUT_LIMIT, abs=1e-5)
