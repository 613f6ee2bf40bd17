"""models.custom.causal.recurrence_rules: over time a recurrence's state is the stream's; inside a frame it has none."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.custom.causal.convert import to_external_state
from tests.models.custom.causal.nets import Do, Wrapped, entry_for, over_frames, proven_states, refusal

States = list[tuple[str, tuple[int, ...]]]


def begins_with_zeros(x: Tensor, gru: nn.Module) -> Tensor:
    y, _ = gru(x.transpose(1, 2), torch.zeros(1, 1, 8))
    return y.transpose(1, 2)


def frames_first(x: Tensor, gru: nn.Module) -> Tensor:
    y, _ = gru(x.permute(2, 0, 1))
    return y.permute(1, 2, 0)


def along_features(x: Tensor, gru: nn.Module, back: nn.Module) -> Tensor:
    y = x.transpose(1, 2).reshape(-1, 8, 1)  # [frames, 8, 1]: a recurrence inside each frame
    y, _ = gru(y)
    return back(y).reshape(1, -1, 8).transpose(1, 2)


def bands_over_time(x: Tensor, gru: nn.Module, back: nn.Module) -> Tensor:
    y, _ = gru(x[0].unsqueeze(-1))  # [8 bands, frames, 1]
    return back(y).squeeze(-1).unsqueeze(0)


def without_batch(x: Tensor, rnn: nn.Module) -> Tensor:
    y, _ = rnn(x[0].transpose(0, 1))
    return y.transpose(0, 1).unsqueeze(0)


LAYERS: dict[str, tuple[Callable[[], nn.Module], States]] = {
    "gru": (lambda: over_frames(nn.GRU(8, 8, num_layers=2, batch_first=True)), [("body_layer0_h", (2, 1, 8))]),
    "gru without bias": (
        lambda: over_frames(nn.GRU(8, 8, bias=False, batch_first=True)),
        [("body_layer0_h", (1, 1, 8))],
    ),
    "gru from zeros": (lambda: Do(begins_with_zeros, nn.GRU(8, 8, batch_first=True)), [("body_layer0_h", (1, 1, 8))]),
    "gru, frames first": (lambda: Do(frames_first, nn.GRU(8, 8)), [("body_layer0_h", (1, 1, 8))]),
    "gru of each band": (
        lambda: Do(bands_over_time, nn.GRU(1, 3, batch_first=True), nn.Linear(3, 1)),
        [("body_layer0_h", (1, 8, 3))],
    ),
    "rnn": (lambda: over_frames(nn.RNN(8, 8, batch_first=True)), [("body_layer0_h", (1, 1, 8))]),
    "rnn of relus": (
        lambda: over_frames(nn.RNN(8, 8, batch_first=True, nonlinearity="relu")),
        [("body_layer0_h", (1, 1, 8))],
    ),
    "lstm": (
        lambda: over_frames(nn.LSTM(8, 8, num_layers=2, batch_first=True)),
        [("body_layer0_h", (2, 1, 8)), ("body_layer0_c", (2, 1, 8))],
    ),
    "lstm with projection": (
        lambda: over_frames(nn.LSTM(8, 16, proj_size=8, batch_first=True)),
        [("body_layer0_h", (1, 1, 8)), ("body_layer0_c", (1, 1, 16))],
    ),
    "lstm without batch": (
        lambda: Do(without_batch, nn.LSTM(8, 8)),
        [("body_layer0_h", (1, 1, 8)), ("body_layer0_c", (1, 1, 8))],
    ),
    "inside a frame": (
        lambda: Do(along_features, nn.GRU(1, 3, batch_first=True, bidirectional=True), nn.Linear(6, 1)),
        [],
    ),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_recurrence_keeps_what_it_needs_and_says_what_the_offline_net_says(layer: str) -> None:
    body, states = LAYERS[layer]
    assert proven_states(body(), 1, 3) == states


def test_cells_alone_stay_in_float32() -> None:
    stream = to_external_state(entry_for(Wrapped(over_frames(nn.LSTM(8, 8, num_layers=2, batch_first=True)))), 2)
    assert stream.fp32_modules == ("body_layer0.layers.0.cell", "body_layer0.layers.1.cell")


def uses_last_state(x: Tensor, gru: nn.Module) -> Tensor:
    y, h = gru(x.transpose(1, 2))
    return (y + h.transpose(0, 1)).transpose(1, 2)


def begins_with_ones(x: Tensor, gru: nn.Module) -> Tensor:
    y, _ = gru(x.transpose(1, 2), torch.ones(1, 1, 8))
    return y.transpose(1, 2)


def padded_recurrence(x: Tensor, gru: nn.Module) -> Tensor:
    y, _ = gru(F.pad(x, (2, 0)).transpose(1, 2))
    return y.transpose(1, 2)[..., 2:]


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "bidirectional": (
        lambda: Do(
            lambda x, g, back: back(g(x.transpose(1, 2))[0]).transpose(1, 2),
            nn.GRU(8, 4, batch_first=True, bidirectional=True),
            nn.Linear(8, 8),
        ),
        r"'body.layer0' \(GRU\): a bidirectional GRU over time reads the recording from its end",
    ),
    "the state at the end": (
        lambda: Do(uses_last_state, nn.GRU(8, 8, batch_first=True)),
        r"'body.layer0' \(GRU\): the state it returns is used; a stream has no last frame",
    ),
    "another first state": (
        lambda: Do(begins_with_ones, nn.GRU(8, 8, batch_first=True)),
        r"'body.layer0' \(GRU\): begins with another state than zeros; let the GRU begin by itself",
    ),
    "over padded frames": (
        lambda: Do(padded_recurrence, nn.GRU(8, 8, batch_first=True)),
        r"'body.layer0' \(GRU\): its input is padded in time; slice the surplus off first",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_recurrence_that_has_no_stream_is_refused_by_name_and_reason(case: str) -> None:
    body, message = REFUSED[case]
    assert re.search(message, came := refusal(body())), came
