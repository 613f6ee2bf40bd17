"""Small causal nets around one body, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.common.errors import ConversionError
from models.custom.causal.convert import to_external_state
from models.custom.causal.proof import LIMIT, prove
from models.custom.entry import CustomEntry, CustomOriginal
from models.geometry import StreamGeometry, TensorSpec

HOP = 32


def entry_for(net: nn.Module, **changes: Any) -> CustomEntry:
    """An enhancer's entry with the net in it; its weights are drawn anew, the same each time."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    fields: dict[str, Any] = {
        "name": "net",
        "task": "enhancer",
        "summary": "",
        "factory": "net.py:build",
        "geometry": StreamGeometry(16000, 1, 64, HOP, 0),
        "buffer_kind": "step",
        "max_hops": 8,
        "output": TensorSpec("enhanced", (1, HOP), (-1.0, 1.0), ""),
        "parameters_millions": 0.0,
        "paper": "",
        "form": "causal",
        "layout": "channel_samples",
        "original": CustomOriginal("net.py:build"),
        "net": net.eval(),
    }
    return CustomEntry(**(fields | changes))


class Wrapped(nn.Module):
    """Frames of 32 samples, a body on [1, 8, frames], frames back to samples."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, 8, HOP, stride=HOP)
        self.body = body
        self.decoder = nn.ConvTranspose1d(8, 1, HOP, stride=HOP)

    def forward(self, audio: Tensor) -> Tensor:
        return self.decoder(self.body(self.encoder(audio)))


class Do(nn.Module):
    """A function as a module, with layers it may use."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for index, layer in enumerate(layers):
            self.add_module(f"layer{index}", layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.children())


def over_frames(rnn: nn.Module) -> nn.Module:
    """A recurrence over time, from and to [1, 8, frames]."""

    def function(x: Tensor, layer: nn.Module) -> Tensor:
        y, _ = layer(x.transpose(1, 2))
        return y.transpose(1, 2)

    return Do(function, rnn)


def proven_states(body: nn.Module, *hops: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the states of a body's stream, which is proven for calls of each of `hops`."""
    entry = entry_for(Wrapped(body))
    states: list[list[tuple[str, tuple[int, ...]]]] = []
    for count in hops:
        stream = to_external_state(entry, count)
        assert prove(entry, stream) < LIMIT
        states.append([(s.name, s.shape) for s in stream.states])
    assert all(others == states[0] for others in states)  # whatever a call's size
    return states[0]


def refusal(body: nn.Module) -> str:
    """The message with which a body is refused."""
    entry = entry_for(Wrapped(body))
    with pytest.raises(ConversionError) as caught:
        prove(entry, to_external_state(entry, 1))
    return str(caught.value)
