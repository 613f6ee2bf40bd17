"""models.graph.recurrences: torch's recurrences written out say what torch's say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.models.graph.lowering import PHASES, compared, drawn, graph_of, values

KINDS: dict[str, Callable[..., nn.Module]] = {
    "gru": nn.GRU,
    "lstm": nn.LSTM,
    "tanh": nn.RNN,
    "relu": lambda *args, **named: nn.RNN(*args, nonlinearity="relu", **named),
}


@pytest.mark.parametrize("kind", KINDS)
@given(
    frames=st.sampled_from([1, 2, 4, 5, 9, 17]),
    batch=st.sampled_from([0, 1, 3]),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    batch_first=st.booleans(),
    begins=st.booleans(),
    projected=st.booleans(),
)
@settings(max_examples=9, deadline=None, phases=PHASES)
def test_a_recurrence_of_every_form(
    kind: str,
    frames: int,
    batch: int,
    layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
    begins: bool,
    projected: bool,
) -> None:
    """Batch 0: none."""
    more = {"proj_size": 3} if kind == "lstm" and projected else {}
    rnn = KINDS[kind](5, 4, num_layers=layers, bias=bias, batch_first=batch_first, bidirectional=bidirectional, **more)
    shape = [max(batch, 1), frames, 5] if batch_first else [frames, max(batch, 1), 5]
    first = [layers * (1 + bidirectional), max(batch, 1)]
    x, h, c = values(*shape), values(*first, 3 if more else 4, seed=1), values(*first, 4, seed=2)
    if not batch:
        x, h, c = x.squeeze(0 if batch_first else 1), h.squeeze(1), c.squeeze(1)

    def body(x: Tensor, h: Tensor, c: Tensor, layer: nn.Module) -> list[Tensor]:
        states: Any = (h, c) if kind == "lstm" else h
        y, new = layer(x, states) if begins else layer(x)
        return [y, *(new if isinstance(new, tuple) else [new])]

    names = compared([body], [x, h, c], [drawn(rnn)])
    assert names <= {"Unrolled", "squeeze", "unsqueeze", "getitem"}, names


def test_layers_above_each_other_and_their_dropout() -> None:
    layers = [drawn(nn.GRU(4, 4, 3, dropout=0.5)), drawn(nn.LSTM(4, 2, 2, bidirectional=True, dropout=0.5))]
    compared([lambda x, gru, lstm: lstm(gru(x)[0])[0]], [values(6, 2, 4)], layers)


def test_cells_stay_in_float32_and_matrices_do_not() -> None:
    layers = [drawn(nn.GRU(4, 4, 2)), drawn(nn.LSTM(4, 4))]
    _, graph, fp32 = graph_of([lambda x, gru, lstm: lstm(gru(x)[0])[0]], [values(6, 2, 4)], layers)
    assert fp32 == ("gru.layers.0.cell", "gru.layers.1.cell", "lstm.layers.0.cell")
    assert all(not list(graph.get_submodule(name).parameters()) for name in fp32)
    assert all(graph.get_submodule(name) is not None for name in fp32)
