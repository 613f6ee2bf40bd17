"""models.graph.capture: Python runs while a net is captured; what cannot be followed is refused at its own line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.common.errors import ConversionError
from models.graph.capture import capture, origin_of
from tests.models.graph.lowering import Bodies, compared, drawn, graph_of, values


def branching_on_shape(x: Tensor) -> Tensor:
    assert x.dim() == 2
    assert x.shape[1] % 4 == 0, "whole frames"
    if x.shape[0] > 2:
        x = x * 2.0
    else:
        raise ValueError("too few rows")
    for index in range(x.shape[1] // 4):
        x = x + index * x[:, index : index + 1]
    return x


def in_place(x: Tensor) -> Tensor:
    y = torch.zeros(4, 14)
    y[:, 2:] = x
    y[:, :2] += 1.5
    y.mul_(2.0)
    y[y > 1.0] = 0.5  # a mask assigned through
    return y


def written_into(x: Tensor) -> Tensor:
    y = x.clone()
    y.view(-1)[::5].zero_()
    torch.relu_(y)
    return y - 1.0


def with_local_state(x: Tensor) -> Tensor:
    rows: list[Tensor] = []
    for row in x:
        rows.append(row + (rows[-1] if rows else 0.0))
    return torch.stack(rows)


def test_python_runs_while_a_net_is_captured() -> None:
    x = values(4, 12)
    compared([branching_on_shape, in_place, written_into, with_local_state], [x])


def helper(x: Tensor) -> Tensor:
    """A line of the user's own outside forward."""
    if x.sum() > 0:
        return x
    return -x


def by_numpy(x: Tensor) -> Tensor:
    return x + torch.from_numpy(np.abs(x.numpy()))


def by_item(x: Tensor) -> Tensor:
    return x * 2.0 if float(x.max()) > 1.0 else x


def as_a_list(x: Tensor) -> Tensor:
    return x[:, : int(x[0, 0] > 0) + 1]


def raises(x: Tensor) -> Tensor:
    raise RuntimeError("out of\nluck")


def mismatched(x: Tensor) -> Tensor:
    return x @ x


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a branch on values": (helper, "it branches on values that depend on the input; use torch.where"),
    "a branch on a number": (by_item, "it branches on values that depend on the input; use torch.where"),
    "numpy": (by_numpy, "it computes with numpy on its input"),
    "its own error": (raises, "out of"),
    "shapes that do not fit": (mismatched, ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused_at_its_line(case: str) -> None:
    body, message = REFUSED[case]
    first = body.__code__.co_firstlineno
    lines = {number for *_, number in body.__code__.co_lines() if number is not None}
    with pytest.raises(ConversionError) as caught:
        graph_of([body], [values(4, 12)])
    text = str(caught.value)
    assert text.startswith("net.py:build: forward cannot be followed (test_capture.py, line ")
    assert int(text.split("line ")[1].split(")")[0]) in lines - {first}
    assert message in text
    assert "\n" not in text


class Counting(nn.Module):
    """Keeps what it heard."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += x.abs().mean()
        return x + self.seen


def test_a_buffer_that_forward_changes_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"forward changes 'seen': a converted model would lose the change"):
        capture(Counting().eval(), [values(2, 3)], "net.py:build")


def test_torch_is_silent_and_as_it_was_after_a_capture_and_after_a_failed_one(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes", "torch.export", "torch._dynamo")

    def state() -> list[Any]:
        levels = [logging.getLogger(name).level for name in names]
        tracer = torch.fx.proxy.TracerBase._filter_traceback_frames
        return [torch.backends.mha.get_fastpath_enabled(), *levels, tracer, torch.is_grad_enabled()]

    before = state()
    assert before[0]
    capture(Bodies([by_numpy_free]).eval(), [values(2, 3)], "net")
    assert state() == before
    with caplog.at_level(logging.WARNING), pytest.raises(ConversionError):
        capture(Bodies([helper]).eval(), [values(2, 3)], "net")
    assert state() == before
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def by_numpy_free(x: Tensor) -> Tensor:
    return torch.tanh(x)


class Net(nn.Module):
    """Layers, a helper, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv1d(3, 3, 1), nn.ReLU())
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
        self.gain = nn.Parameter(torch.rand(3, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.blocks(x)
        return self.head(scaled(y, self.gain)), y


def scaled(x: Tensor, gain: Tensor) -> Tensor:
    return x * gain


class Outer(nn.Module):
    """hearpack's wrappers hold the user's net as `net`."""

    def __init__(self) -> None:
        super().__init__()
        self.net = drawn(Net())

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


def test_every_operation_knows_where_it_stands() -> None:
    captured = capture(Outer().eval(), [values(1, 3, 4)], "net.py:build")
    assert (len(captured.inputs), len(captured.outputs), captured.many) == (1, 2, True)
    assert set(captured.constants) | set(captured.inputs) == {
        node.name for node in captured.graph.nodes if node.op == "placeholder"
    }
    origins = {
        origin.name: origin
        for node in captured.graph.nodes
        if node.op == "call_function"
        for origin in [origin_of(node)]
    }
    line = scaled.__code__.co_firstlineno + 1
    assert str(origins["conv1d"]) == "'blocks.0' (Conv1d)"
    assert str(origins["relu"]) == "'blocks.1' (ReLU)"
    assert str(origins["linear"]) == "'head' (Linear)"
    assert [path for path, _ in origins["conv1d"].kinds][-2:] == ["blocks", "blocks.0"]
    muls = [
        origin
        for node in captured.graph.nodes
        if node.op == "call_function"
        for origin in [origin_of(node)]
        if origin.name == "mul"
    ]
    assert f"mul (test_capture.py, line {line})" in [str(origin) for origin in muls]


def test_one_tensor_is_told_from_many() -> None:
    one = capture(Bodies([torch.tanh]).eval(), [values(2, 3)], "net")
    assert one.many

    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x)

    assert not capture(Plain().eval(), [values(2, 3)], "net").many


class Plainly(nn.Module):
    """A layer that takes no lengths, called with them first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.inner(x, lengths=None)
        except TypeError:
            return self.inner(x)


def test_a_call_that_raises_and_is_made_again_otherwise() -> None:
    captured = capture(nn.Sequential(Plainly(), nn.Linear(3, 2)).eval(), [values(2, 3)], "net")
    origins = [origin_of(node) for node in captured.graph.nodes if node.op == "call_function"]
    assert [o.module for o in origins if o.name == "linear"] == ["0.inner", "1"]
