"""Recurrent layers in one call of torch, and loops that write in place: the same numbers as step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from runtimes.mil import Program  # noqa: E402
from runtimes.mil.code import accumulated  # noqa: E402
from runtimes.mil.graph import Block, Function, Named, Operation  # noqa: E402
from runtimes.mil.ops import recurrent  # noqa: E402
from tests.runtimes.mil_programs import const, kind, op  # noqa: E402

RNG = np.random.default_rng(5)
N_IN, H, B, S = 3, 4, 2, 9


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def layer(what: str, directions: int, opset: str, **attributes: Any) -> tuple[Program, dict[str, Any]]:
    gates = {"lstm": 4, "gru": 3}[what]
    inputs: dict[str, Any] = {"x": "x", "initial_h": "h", "output_sequence": const(True)}
    for suffix in ("", "_back")[:directions]:
        for name, shape in (("weight_ih", (gates * H, N_IN)), ("weight_hh", (gates * H, H)), ("bias", (gates * H,))):
            inputs[name + suffix] = const(normal(*shape))
    values = {"x": normal(S, B, N_IN), "h": normal(B, directions * H)}
    outputs = [Named("y", kind(S, B, directions * H)), Named("last", kind(B, directions * H))]
    if what == "lstm":
        inputs["initial_c"], values["c"] = "c", normal(B, directions * H)
        outputs.append(Named("cell", kind(B, directions * H)))
    inputs |= {k: const(v) for k, v in attributes.items()}
    bound = {k: v if isinstance(v, tuple) else (v,) for k, v in inputs.items()}
    ports = tuple(Named(n, kind(*v.shape)) for n, v in values.items())
    block = Block(ports, (Operation(what, bound, tuple(outputs), ()),), tuple(o.name for o in outputs))
    return Program(Function("main", opset, block), "fp32"), values


CASES: dict[str, tuple[str, int, str, dict[str, Any], bool]] = {
    "lstm": ("lstm", 1, "CoreML7", {}, True),
    "lstm, reverse": ("lstm", 1, "CoreML7", {"direction": "reverse"}, True),
    "lstm, both": ("lstm", 2, "CoreML7", {"direction": "bidirectional"}, True),
    "lstm, last step only": ("lstm", 2, "CoreML7", {"direction": "bidirectional"}, True),
    "lstm, clipped": ("lstm", 1, "CoreML7", {"clip": 0.2}, False),
    "lstm, relu": ("lstm", 1, "CoreML7", {"activation": "relu"}, False),
    "gru, reset before": ("gru", 1, "CoreML8", {}, False),
    "gru, reset after": ("gru", 1, "CoreML8", {"reset_after": True}, True),
    "gru, two biases": ("gru", 1, "CoreML8", {"reset_after": True, "input_bias": normal(3 * H)}, True),
    "gru, reverse": ("gru", 1, "CoreML8", {"reset_after": True, "direction": "reverse"}, True),
    "gru, other gate": ("gru", 1, "CoreML8", {"reset_after": True, "recurrent_activation": "hard_sigmoid"}, False),
}


@pytest.mark.parametrize("name", CASES)
def test_a_whole_sequence_is_what_its_steps_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what, directions, opset, attributes, is_fused = CASES[name]
    program, values = layer(what, directions, opset, **attributes)
    calls: list[str] = []
    scan = recurrent._scan
    monkeypatch.setattr(recurrent, "_scan", lambda *a: calls.append("scan") or scan(*a))
    once = program.run(values)
    assert bool(calls) != is_fused
    monkeypatch.setattr(recurrent, "FUSED_FROM_STEPS", S + 1)
    steps = program.run(values)
    assert calls
    for key, value in once.items():
        assert value.shape == steps[key].shape
        assert np.abs(value - steps[key]).max() < 1e-6


def loop(mode: str, extra_use: bool = False) -> tuple[Program, Block]:
    """Running sums: y[i] = (y[i - 1] or 0) + x[i] by a while_loop that gathers, adds and scatters into y."""
    scalar = kind(dtype="int32")
    test = Block(
        (Named("i", scalar), Named("y", kind(S, 2))),
        (op("less", kind(dtype="bool"), {"x": "i", "y": const(np.int32(S - 1))}, "go"),),
        ("go",),
    )
    rows = kind(1, 2)
    operations = (
        op("expand_dims", kind(1, dtype="int32"), {"x": "i2", "axes": const([0])}, "at"),
        op("add", scalar, {"x": "i2", "y": const(np.int32(1))}, "next"),
        op("expand_dims", kind(1, dtype="int32"), {"x": "next", "axes": const([0])}, "to"),
        op("gather", rows, {"x": "y2", "indices": "at", "axis": const(0)}, "before"),
        op("gather", rows, {"x": "x", "indices": "to", "axis": const(0)}, "fresh"),
        op("add", rows, {"x": "before", "y": "fresh"}, "total"),
        op(
            "scatter",
            kind(S, 2),
            {"data": "y2", "indices": "to", "updates": "total", "axis": const(0), "mode": const(mode)},
            "y3",
        ),
        op("add", kind(S, 2), {"x": "y2" if extra_use else "y3", "y": const(0.0)}, "y4"),
    )
    body = Block((Named("i2", scalar), Named("y2", kind(S, 2))), operations[:-1], ("next", "y3"))
    if extra_use:
        body = Block(body.inputs, operations, ("next", "y4"))
    first = op("mul", kind(S, 2), {"x": "x", "y": "first"}, "y0")
    run = Operation(
        "while_loop",
        {"loop_vars": (const(np.int32(0)), "y0")},
        (Named("n", scalar), Named("sums", kind(S, 2))),
        (test, body),
    )
    whole = Block((Named("x", kind(S, 2)), Named("first", kind(S, 1))), (first, run), ("sums", "y0"))
    return Program(Function("main", "CoreML7", whole), "fp32"), body


@pytest.mark.parametrize("mode", ["update", "add"])
def test_a_loop_that_writes_in_place_leaves_what_others_see(mode: str) -> None:
    program, body = loop(mode)
    assert accumulated(body) == ({"y3": 1}, frozenset({"before"}))
    x, first = normal(S, 2), np.zeros((S, 1), np.float32)
    first[0] = 1.0
    for _ in range(2):  # a second call starts afresh
        results = program.run({"x": x, "first": first})
        assert np.allclose(results["sums"], np.cumsum(x, 0), atol=1e-5)
        assert np.array_equal(results["y0"], x * first)


def test_a_value_with_another_reader_is_not_written_in_place() -> None:
    _, body = loop("update", extra_use=True)
    assert accumulated(body) == ({}, frozenset())
