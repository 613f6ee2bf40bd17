"""models.graph.builder: constants are folded, names are never twice the same, what stays in float32 is told apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.graph.builder import Builder, Op, Origin, Value
from tests.models.graph.lowering import operations, values


def test_what_reads_constants_alone_is_a_constant() -> None:
    b = Builder()
    x = b.placeholder("x", values(2, 3))
    window = b.op("mul", b.constant(torch.arange(3.0)), 2.0)
    halves = b.op("split", b.op("cat", [window, window]), 3)
    assert window.is_constant
    assert all(half.is_constant for half in halves)
    y = b.op("add", b.op("mul", x, halves[1]), b.constant(1.0))
    b.output([y])
    graph = b.finish("Folded")
    assert operations(graph) == {"mul", "add"}
    assert torch.equal(graph(values(2, 3, seed=1))[0], values(2, 3, seed=1) * torch.tensor([0.0, 2.0, 4.0]) + 1.0)
    assert torch.equal(y.tensor, x.tensor * torch.tensor([0.0, 2.0, 4.0]) + 1.0)


def test_one_constant_is_one_tensor_however_often_it_is_read() -> None:
    b = Builder()
    x, c = b.placeholder("x", values(3)), torch.arange(3.0)
    b.output([b.op("mul", b.op("add", x, b.constant(c)), b.constant(c)), b.op("add", x, b.constant(c.clone()))])
    graph = b.finish("Shared")
    assert len(graph.state_dict()) == 2
    assert sum(node.op == "get_attr" for node in graph.graph.nodes) == 2


def test_constants_are_plain_float32() -> None:
    b = Builder()
    x = b.placeholder("x", values(3, 2))
    odd = torch.arange(6.0, dtype=torch.float64).reshape(2, 3).t()
    b.output([b.op("add", x, b.constant(odd)), b.op("index_select", x, 0, b.constant(torch.tensor([2, 0])))])
    graph = b.finish("Plain")
    kept = list(graph.state_dict().values())
    assert [value.dtype for value in kept] == [torch.float32, torch.int64]
    assert kept[0].is_contiguous()
    odd.zero_()
    assert graph(torch.zeros(3, 2))[0].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_inputs_stand_in_front_in_the_order_of_the_calls() -> None:
    b = Builder()
    x = b.placeholder("audio", values(3))
    y = b.op("relu", x)
    state = b.placeholder("state", values(3, seed=1))
    z = b.op("sub", y, state)
    other = b.placeholder("other", values(3, seed=2))
    b.output([b.op("mul", z, other)])
    graph = b.finish("Ordered")
    assert [node.name for node in graph.graph.nodes][:3] == ["audio", "state", "other"]
    assert graph(torch.tensor([-1.0, 2.0, 3.0]), torch.ones(3), 2 * torch.ones(3))[0].tolist() == [-2.0, 2.0, 4.0]


def precise(b: Builder, x: Value) -> Value:
    window = torch.linspace(0.0, 1.0, 3)
    with b.at(Origin("front", "", "mul")), b.precise():
        y: Value = b.op("mul", x, b.constant(window))
    return y


def test_what_stays_in_float32_is_a_module_in_the_last_form_only() -> None:
    first, last = Builder(), Builder(wraps=True)
    graphs = []
    for b in (first, last):
        x = b.placeholder("x", values(2, 3))
        with b.at(Origin("front", "", "mul")):
            y = precise(b, precise(b, x))
            assert not b.origin.precise
        with b.precise():
            parts = b.op("split", y, 1)
            both = b.op("add", parts[0], parts[0])
        b.output([both, b.op("relu", y)])
        graphs.append(b.finish("Precise"))
    one, two = graphs
    assert first.fp32 == []
    assert last.fp32 == ["kept_mul", "kept_mul_1", "kept_op", "kept_op_1"]
    assert [name for name, module in two.named_modules() if isinstance(module, Op)] == last.fp32
    assert all(node.op != "call_module" for node in one.graph.nodes)
    x = values(2, 3, seed=4)
    for a, c in zip(one(x), two(x), strict=True):
        assert torch.equal(a, c)
    assert operations(one) == operations(two)


def test_modules_have_names_of_their_own_and_what_nothing_reads_is_left_out() -> None:
    b = Builder()
    x = b.placeholder("x", values(2, 3))
    layers = [nn.Linear(3, 3) for _ in range(3)]
    y = b.module(layers[0], x, name="linear", fp32=("",))
    b.module(layers[1], y, name="linear", fp32=("", "part"))  # read by nothing
    z = b.module(layers[2], y, fp32=("part",))
    b.output([z])
    graph = b.finish("Named")
    assert [name for name, _ in graph.named_children()] == ["linear", "linear_2"]
    assert b.fp32 == ["linear", "linear_2.part"]
    assert torch.equal(graph(values(2, 3))[0], layers[2](layers[0](values(2, 3))))


@pytest.mark.parametrize("wraps", [False, True])
def test_what_is_handed_through_is_clamped_in_the_last_form(wraps: bool) -> None:
    """LiteRT's CompiledModel computes garbage with an input as an output; Core ML cannot name one value twice."""
    b = Builder(wraps)
    x = b.placeholder("x", values(3))
    y = b.op("relu", x)
    b.output([x, y, y, b.constant(torch.ones(3)), b.op("neg", y)])
    graph = b.finish("Handed")
    (out,) = (node for node in graph.graph.nodes if node.op == "output")
    values_out = out.args[0]
    assert sum("clamp" in str(node.target) for node in values_out) == (3 if wraps else 0)
    if wraps:
        assert len(set(values_out)) == 5
        assert all(node.op == "call_function" for node in values_out)
    x_value = torch.tensor([-2.0, 1e9, 0.5])
    positive = torch.relu(x_value)
    wanted = [x_value, positive, positive, torch.ones(3), -positive]
    for came, value in zip(graph(x_value), wanted, strict=True):
        assert torch.equal(came, value)


def test_an_operation_is_named_as_its_author_knows_it() -> None:
    assert str(Origin("encoder.0", "Conv1d", "conv1d", "net.py, line 3")) == "'encoder.0' (Conv1d)"
    assert str(Origin("block", "", "cat", "net.py, line 12")) == "cat in 'block' (net.py, line 12)"
    assert str(Origin("", "", "cat", "")) == "cat"
