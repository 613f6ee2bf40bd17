"""A step net with a state, for the tests of Core AI and for the processes that they start."""

from __future__ import annotations

import torch
from torch import nn

from models.geometry import GraphSignature, StateSpec, StreamGeometry, TensorSpec

HOP = 32
GEOMETRY = StreamGeometry(sample_rate_hz=16_000, channels=1, window_samples=HOP, hop_samples=HOP, delay_samples=0)
SIGNATURE = GraphSignature(
    (TensorSpec("audio", (1, HOP), (-1.0, 1.0), "mono"),),
    (TensorSpec("enhanced", (1, HOP), (-1.0, 1.0), "clean"),),
    (StateSpec("hidden", (1, 16)),),
)
TEXTS = {"author": "nobody", "license": "MIT", "description": "a test"}


class Gated(nn.Module):
    """A GRU cell written out for one step; `graph` is a name that Apple's converter stumbles over."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.graph = nn.Linear(HOP + 16, 32)
        self.candidate = nn.Linear(HOP + 16, 16)
        self.out = nn.Linear(16, HOP)

    def forward(self, audio: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        reset, update = torch.sigmoid(self.graph(torch.cat([audio, hidden], 1))).chunk(2, 1)
        candidate = torch.tanh(self.candidate(torch.cat([audio, reset * hidden], 1)))
        hidden = update * hidden + (1.0 - update) * candidate
        return self.out(nn.functional.elu(hidden)), hidden
