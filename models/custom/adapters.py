"""What lies between a user's net and the tensors of its signature: layouts, shapes, activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.common.errors import ConversionError
from models.custom.entry import CustomEntry
from models.layers.front_end import CausalFeatures


def as_tensor(result: object, who: str) -> Tensor:
    """What a forward returned, if it is one tensor (or a tuple of one).

    Raises:
        ConversionError: it is something else.
    """
    if isinstance(result, tuple | list) and len(result) == 1:
        result = result[0]
    if not isinstance(result, Tensor):
        came = f"{type(result).__name__} of {len(result)}" if isinstance(result, Sequence) else type(result).__name__
        raise ConversionError(f"{who}: forward returned a {came}, expected one tensor")
    return result


def match_shape(out: Tensor, shape: tuple[int, ...], who: str, what: str) -> Tensor:
    """`out` in `shape`, where they differ by axes of 1 only.

    Raises:
        ConversionError: another shape.
    """
    if tuple(out.shape) == shape:
        return out
    if [n for n in out.shape if n > 1] == [n for n in shape if n > 1]:
        return out.reshape(shape)
    raise ConversionError(f"{who}: forward returned {list(out.shape)}, expected {what} {list(shape)}")


def to_layout(audio: Tensor, layout: str) -> Tensor:
    """[1, n] in the order of axes that the net takes."""
    if layout == "channel_samples":
        return audio.unsqueeze(1)
    return audio.unsqueeze(2) if layout == "samples_channel" else audio


def activate(scores: Tensor, activation: str) -> Tensor:
    """Logits to probabilities, over the last axis."""
    if activation == "softmax":
        return torch.softmax(scores, -1)
    return torch.sigmoid(scores) if activation == "sigmoid" else scores


class ActivationLayer(nn.Module):
    """The activation behind a classifier; a module, so that it can stay in float32."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, scores: Tensor) -> Tensor:
        return activate(scores, self.activation)


class OfflineNet(nn.Module):
    """The offline net from audio to its output: front end, net, activation."""

    def __init__(self, entry: CustomEntry) -> None:
        super().__init__()
        self.layout, self.who = entry.layout, entry.original.factory
        self.front_end = None if entry.front_end is None else CausalFeatures(entry.front_end)
        self.net: nn.Module = entry.net
        self.head = None if entry.activation == "none" else ActivationLayer(entry.activation)

    def forward(self, audio: Tensor) -> Any:
        x = to_layout(audio, self.layout) if self.front_end is None else self.front_end(audio)
        out = as_tensor(self.net(x), self.who)
        return out if self.head is None else self.head(out)
