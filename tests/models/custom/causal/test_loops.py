"""models.custom.causal.loops: Python loops over frames, found again in the graph that they leave."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.custom.causal.convert import to_external_state
from models.custom.causal.loops import find_loops, outline
from models.custom.causal.offline import recording
from models.custom.causal.proof import LIMIT, prove
from tests.models.custom.causal.nets import Do, Wrapped, entry_for, proven_states, refusal

States = list[tuple[str, tuple[int, ...]]]


def level_of(x: Tensor, begins: float = 0.0) -> Tensor:
    """An exponential mean of the size of each feature."""
    level, rows = torch.full((1, 8), begins), []
    for t in range(x.shape[-1]):
        level = 0.8 * level + 0.2 * x[..., t].abs()
        rows.append(level)
    return torch.stack(rows, -1)


def learned(x: Tensor, gate: nn.Module) -> Tensor:
    """The same with a learned factor, which is computed anew at every frame."""
    level, rows = torch.zeros(1, 8), []
    for frame in x.unbind(-1):
        factor = torch.sigmoid(gate.weight)[0]
        level = factor * level + (1.0 - factor) * frame
        rows.append(level)
    return torch.stack(rows, -1)


def gru(x: Tensor, cell: nn.Module) -> Tensor:
    h, rows = torch.zeros(1, 8), []
    for frame in x.unbind(-1):
        h = cell(frame, h)
        rows.append(h)
    return torch.stack(rows, -1)


def lstm(x: Tensor, cell: nn.Module) -> Tensor:
    h, c, rows = torch.zeros(1, 8), torch.zeros(1, 8), []
    for t in range(x.shape[-1]):
        h, c = cell(x[..., t : t + 1].squeeze(-1), (h, c))
        rows.append(h.unsqueeze(-1))
    return torch.cat(rows, -1)


def split(x: Tensor) -> Tensor:
    level, rows = torch.zeros(1, 8, 1), []
    for frame in x.split(1, -1):
        level = torch.tanh(0.5 * level + frame)
        rows.append(level)
    return torch.cat(rows, -1)


def second_order(x: Tensor) -> Tensor:
    """A biquad: what the two frames before left."""
    x1 = x2 = y1 = y2 = torch.zeros(1, 8)
    rows = []
    for t in range(x.shape[-1]):
        y = 0.2 * x[..., t] + 0.3 * x1 + 0.1 * x2 + 0.6 * y1 - 0.3 * y2
        x1, x2, y1, y2 = x[..., t], x1, y, y1
        rows.append(y)
    return torch.stack(rows, -1)


def two_values(x: Tensor) -> Tensor:
    """One frame of each of two values, a feature of what is handed on, and a loop without a memory behind it."""
    size, rows = torch.zeros(1, 8), []
    gate = torch.sigmoid(x)
    for t in range(x.shape[-1]):
        size = 0.5 * size * gate[..., t] + x[..., t] + 0.1 * size[:, :1]
        rows.append(size)
    joined = torch.stack(rows, -1)
    return torch.stack([joined[..., t] * 2.0 for t in range(x.shape[-1])], -1)


def behind_rows_that_were_set(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, ::2] = 0.5 * y[:, 1::2]
    y[:, 3] = y[:, 0] - y[:, 1]
    return y / (level_of(y) + 0.1)


def pooled(x: Tensor) -> Tensor:
    """Two frames a hop."""
    y = level_of(x.repeat_interleave(2, 2))
    return y[..., ::2] + y[..., 1::2]


LOOPS: dict[str, tuple[Callable[[], nn.Module], States]] = {
    "level": (lambda: Do(level_of), [("stack_s0", (1, 8))]),
    "a learned factor": (lambda: Do(learned, nn.Linear(8, 1)), [("stack_s0", (1, 8))]),
    "gru cell": (lambda: Do(gru, nn.GRUCell(8, 8)), [("stack_s0", (1, 8))]),
    "lstm cell, joined by cat": (lambda: Do(lstm, nn.LSTMCell(8, 8)), [("cat_s0", (1, 8)), ("cat_s1", (1, 8))]),
    "split": (lambda: Do(split), [("cat_s0", (1, 8, 1))]),
    "second order": (lambda: Do(second_order), [(f"stack_s{i}", (1, 8)) for i in range(4)]),
    "two values": (lambda: Do(two_values), [("stack_s0", (1, 8))]),
    "no memory": (lambda: Do(lambda x: torch.stack([x[..., i] * 2.0 for i in range(x.shape[2])], 2)), []),
    "one behind the other": (
        lambda: Do(lambda x: level_of(x / (level_of(x) + 0.1))),
        [("stack_s0", (1, 8)), ("stack_1_s0", (1, 8))],
    ),
    "cells behind a level": (
        lambda: Do(lambda x, cell: gru(x - level_of(x), cell), nn.GRUCell(8, 8)),
        [("stack_s0", (1, 8)), ("stack_1_s0", (1, 8))],
    ),
    "behind rows that were set": (lambda: Do(behind_rows_that_were_set), [("stack_s0", (1, 8))]),
    "two frames a hop": (lambda: Do(pooled), [("stack_s0", (1, 8))]),
}


@pytest.mark.parametrize("case", LOOPS)
def test_a_loop_hands_on_states_and_says_what_the_offline_net_says(case: str) -> None:
    body, states = LOOPS[case]
    assert proven_states(body(), 1, 2) == states


def test_a_loop_over_frames_that_are_late_begins_when_the_first_is_there() -> None:
    entry = entry_for(Wrapped(nn.Sequential(nn.Conv1d(8, 8, 3, padding=1), Do(level_of))), lookahead="delay")
    for hops in (1, 2):
        stream = to_external_state(entry, hops)
        assert prove(entry, stream) < LIMIT
        assert stream.lookahead_samples == 32


def test_a_loop_is_its_last_iteration_and_the_outline_has_none_of_it() -> None:
    short = recording(entry_for(Wrapped(Do(level_of))), 12)
    (loop,) = find_loops(short)
    assert [node.name.split("_")[0] for node in loop.body] == ["mul", "select", "abs", "mul", "add"]
    assert loop.result == 4
    assert list(loop.kept) == [(1, 4)]
    assert loop.begins_with_zeros
    known = outline(short)
    assert not loop.nodes & set(known.nodes)
    assert [node.name.split("_")[0] for node in known.nodes if node.op == "call_function"] == [
        "unsqueeze", "conv1d", "stack", "conv",
    ]  # fmt: skip


def backwards(x: Tensor) -> Tensor:
    return level_of(x.flip(2)).flip(2)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "begins with ones": (
        lambda: Do(lambda x: level_of(x, 1.0)),
        r"stack in 'body' \(test_loops.py, line \d+\): joins .* a loop that begins with another state than zeros",
    ),
    "the value at the end": (
        lambda: Do(lambda x: x / level_of(x)[..., -1:]),
        r"cuts \(11, 0\) frames of a short recording and \(16, 0\) of a long one",
    ),
    "counts its frames": (
        lambda: Do(lambda x: torch.stack([x[..., i] * (i + 1.0) for i in range(x.shape[2])], 2)),
        r"in 'body' \(test_loops.py, line \d+\): .*a loop over frames",
    ),
    "backwards": (lambda: Do(backwards), r"depends on later audio"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_loop_that_has_no_stream_is_refused_with_its_line(case: str) -> None:
    body, message = REFUSED[case]
    assert re.search(message, came := refusal(body())), came
