"""Attention over time to the last frames: the mask says which, their keys and values are states."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.models.custom.causal.nets import Do, proven_states, refusal

HEADS, FAR = 2, 3


class Attending(nn.Module):
    """[1, 8, frames] by attention with a mask that a function makes for so many frames."""

    def __init__(self, mask: object) -> None:
        super().__init__()
        self.qkv, self.mask = nn.Linear(8, 24), mask
        self.told = nn.Parameter(torch.rand(HEADS, FAR + 1))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x.transpose(1, 2)).reshape(1, -1, 3, HEADS, 4).permute(2, 0, 3, 1, 4)
        mask = self.mask(self.told, x.shape[2])  # type: ignore[operator]
        y = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], mask)
        return y.transpose(1, 2).reshape(1, -1, 8).transpose(1, 2)


def distances(frames: int) -> Tensor:
    return torch.arange(frames)[:, None] - torch.arange(frames)


def band(told: Tensor, frames: int) -> Tensor:
    return (distances(frames) >= 0) & (distances(frames) <= FAR)


def learned(told: Tensor, frames: int) -> Tensor:
    """A number for each distance and head, -inf beyond."""
    return told[:, distances(frames).clamp(0, FAR)].masked_fill(~band(told, frames), -torch.inf)


@pytest.mark.parametrize("mask", [band, learned])
def test_a_band_has_the_last_keys_and_values_as_states(mask: object) -> None:
    for hops in (1, 2):
        states = dict(proven_states(Attending(mask), hops))
        assert [shape for name, shape in states.items() if name.endswith(("_keys", "_values"))] == [
            (1, HEADS, FAR, 4)
        ] * 2


def test_multihead_attention_with_a_banded_mask() -> None:
    def attend(x: Tensor, layer: nn.Module) -> Tensor:
        y = x.transpose(1, 2)
        hidden = ~band(y, y.shape[1])
        return layer(y, y, y, attn_mask=hidden, need_weights=False)[0].transpose(1, 2)

    proven_states(Do(attend, nn.MultiheadAttention(8, HEADS, batch_first=True)), 1)


def falling(told: Tensor, frames: int) -> Tensor:
    return torch.where(band(told, frames), torch.arange(frames).float(), -torch.inf)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (lambda told, n: distances(n) >= 0, "all frames so far"),
        (lambda told, n: distances(n).abs() <= FAR, "later frames"),
        (falling, "depends on the position"),
    ],
)
def test_other_masks_are_refused_for_what_they_show(mask: object, told: str) -> None:
    assert told in refusal(Attending(mask))
