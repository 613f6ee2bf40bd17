"""What lies between a user's net and the tensors of its signature: layouts, shapes, activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.common.errors import ConversionError
from models.custom.entry import CustomEntry
from models.custom.shapes.inputs import called
from models.custom.shapes.outputs import picked
from models.geometry import TensorSpec
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
    if fits(out, shape):
        return out.reshape(shape)
    raise ConversionError(f"{who}: forward returned {list(out.shape)}, expected {what} {list(shape)}")


def fits(out: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has a shape, but for axes of 1."""
    return [n for n in out.shape if n > 1] == [n for n in shape if n > 1]


def to_layout(audio: Tensor, layout: str) -> Tensor:
    """[1, n] or [1, channels, n] in the order of axes that the net takes."""
    if audio.dim() == 3:
        return audio.transpose(1, 2) if layout == "samples_channel" else audio
    if layout == "channel_samples":
        return audio.unsqueeze(1)
    return audio.unsqueeze(2) if layout == "samples_channel" else audio


def activate(scores: Tensor, activation: str) -> Tensor:
    """Logits to probabilities, or a vector to one of unit length, over the last axis."""
    if activation == "unit":
        return scores * torch.rsqrt((scores * scores).sum(-1, keepdim=True).clamp(min=1e-24))
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


def outputs_of(
    entry: CustomEntry, result: Any, specs: Sequence[TensorSpec | None], who: str | None = None
) -> list[Tensor]:
    """The outputs of a signature in what forward returned, in its order.

    Args:
        entry: of the net.
        result: without states.
        specs: of each output, whose shape it gets; None: as it comes.
        who: for messages.

    Raises:
        ConversionError: it returned something else.
    """
    who = entry.original.factory if who is None else who
    if not entry.picks:
        outputs = [as_tensor(result, who)]
    else:
        outputs = [as_tensor(picked(result, pick), who) for pick in entry.picks]
    outputs = [out if out.dtype == torch.float32 or not out.is_floating_point() else out.float() for out in outputs]
    return [
        out if spec is None else match_shape(out, spec.shape, who, spec.name)
        for out, spec in zip(outputs, specs, strict=True)
    ]


class Called(nn.Module):
    """A user's net and the constants that its forward takes."""

    def __init__(self, entry: CustomEntry) -> None:
        super().__init__()
        self.net: nn.Module = entry.net
        self.far, self.constants = entry.far_inputs, tuple(c.name for c in entry.constants)
        for constant in entry.constants:
            values = torch.frombuffer(bytearray(constant.data), dtype=torch.float32).reshape(constant.shape)
            self.register_buffer(f"constant_{constant.name}", values, persistent=False)

    def given(self, audio: Tensor, far: Sequence[Tensor] = (), states: Sequence[Any] = ()) -> Any:
        """What forward returns."""
        named = dict(zip(self.far, far, strict=True))
        named |= {name: getattr(self, f"constant_{name}") for name in self.constants}
        return called(self.net, audio, named, iter(states))


class OfflineNet(Called):
    """The offline net from audio to its outputs: front end, net, activation."""

    def __init__(self, entry: CustomEntry) -> None:
        super().__init__(entry)
        self.entry, self.layout = entry, entry.layout
        self.front_end = None if entry.front_end is None else CausalFeatures(entry.front_end)
        self.head = None if entry.activation == "none" else ActivationLayer(entry.activation)

    def forward(self, audio: Tensor) -> tuple[Tensor, ...]:
        outputs = outputs_of(self.entry, self.returned(audio), [None] * max(len(self.entry.picks), 1))
        return tuple(outputs) if self.head is None else (self.head(outputs[0]), *outputs[1:])

    def returned(self, audio: Tensor) -> Any:
        """What forward of the user's own returns."""
        return self.given(to_layout(audio, self.layout) if self.front_end is None else self.front_end(audio))
