"""The graphs of a user's own net: what is exported, and the offline form that it is compared with."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.common.errors import ConversionError, UsageError
from models.custom.adapters import ActivationLayer, OfflineNet, as_tensor, match_shape, to_layout
from models.custom.entry import CustomEntry
from models.layers.front_end import Features


class WindowGraph(nn.Module):
    """One window in, its scores out."""

    def __init__(self, entry: CustomEntry) -> None:
        super().__init__()
        self.shape, self.layout, self.who = entry.output.shape, entry.layout, entry.original.factory
        self.front_end: nn.Module | None = None
        if entry.front_end is not None:
            frames = entry.front_end.frames(entry.geometry.window_samples)
            self.front_end = Features(entry.front_end, frames)
        self.net: nn.Module = entry.net
        self.head = ActivationLayer(entry.activation)

    def forward(self, audio: Tensor) -> tuple[Tensor]:
        """[1, window] to ([1, labels],)."""
        x = to_layout(audio, self.layout) if self.front_end is None else self.front_end(audio)
        scores = match_shape(as_tensor(self.net(x), self.who), self.shape, self.who, "scores")
        return (self.head(scores),)


class StepGraph(nn.Module):
    """One call of a net whose states its author named."""

    def __init__(self, entry: CustomEntry, hops: int) -> None:
        super().__init__()
        signature = entry.signature(hops)
        self.shapes = tuple(t.shape for t in signature.outputs) + tuple(s.shape for s in signature.states)
        self.names = signature.output_names
        self.layout, self.who = entry.layout, entry.original.factory
        self.net: nn.Module = entry.net
        self.head = ActivationLayer(entry.activation)

    def forward(self, audio: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """audio [1, hops x hop] and the states to the output and the new states."""
        results = self.net(to_layout(audio, self.layout), *states)
        if not isinstance(results, tuple | list) or len(results) != len(self.names):
            came = len(results) if isinstance(results, tuple | list) else 1
            raise ConversionError(
                f"{self.who}: forward returned {came} tensors, expected {len(self.names)}: {', '.join(self.names)}"
            )
        out, *new = (
            match_shape(value, shape, self.who, name)
            for value, shape, name in zip(results, self.shapes, self.names, strict=True)
        )
        return (self.head(out), *new)


class Stepwise(nn.Module):
    """A whole recording through a step graph from the zero state: the original where there is no offline form."""

    def __init__(self, entry: CustomEntry) -> None:
        super().__init__()
        self.entry, self.graph = entry, graph(entry, 1)
        self.hop = entry.geometry.hop_samples

    def forward(self, audio: Tensor) -> Tensor:
        """audio [1, n], filled up to whole hops, to [1, n'] or scores [1, hops, labels]."""
        padded = nn.functional.pad(audio, (0, -audio.shape[1] % self.hop))
        states = [padded.new_zeros(s.shape) for s in self.entry.states]
        outputs = []
        for block in torch.split(padded, self.hop, 1):
            out, *states = self.graph(block, *states)
            outputs.append(out)
        return torch.stack(outputs, 1).reshape(self.entry.offline_shape(len(outputs)))


class Offline(nn.Module):
    """The offline form of a step or causal net, which its author wrote."""

    def __init__(self, entry: CustomEntry) -> None:
        super().__init__()
        self.entry, self.hop = entry, entry.geometry.hop_samples
        if entry.form == "causal":
            self.net: nn.Module = OfflineNet(entry)
        else:
            self.net = entry.net

    def forward(self, audio: Tensor) -> Tensor:
        """audio [1, n], filled up to whole hops, to [1, n'] or scores [1, hops, labels]."""
        padded = nn.functional.pad(audio, (0, -audio.shape[1] % self.hop))
        if self.entry.form == "causal":
            out = cast(Tensor, self.net(padded))
        else:
            written = cast(Any, self.net).offline
            out = as_tensor(written(to_layout(padded, self.entry.layout)), f"{self.entry.original.factory}: offline")
        hops = padded.shape[1] // self.hop
        if self.entry.output_kind == "scores":
            return out.reshape(1, -1, out.shape[-1])[:, :hops]
        return out.reshape(1, -1)[:, : padded.shape[1]]


def has_offline(entry: CustomEntry) -> bool:
    """Whether a step net came with an offline form: a method `offline(audio)`."""
    return entry.form == "step" and callable(getattr(entry.net, "offline", None))


def offline(entry: CustomEntry) -> nn.Module:
    """The net over a whole recording. Window nets have none: they see windows."""
    if entry.form in ("window", "keras"):
        return graph(entry, 1)
    if entry.form == "causal" or has_offline(entry):
        return Offline(entry).eval()
    return Stepwise(entry).eval()


def graph(entry: CustomEntry, hops_per_call: int) -> nn.Module:
    """The form that is exported.

    Raises:
        UsageError: hops out of range.
        ConversionError: a causal net whose state cannot be taken out.
    """
    if not 1 <= hops_per_call <= entry.max_hops:
        raise UsageError(f"{entry.name} takes 1 to {entry.max_hops} hops per call, got {hops_per_call}")
    if entry.form in ("window", "keras"):
        return WindowGraph(entry).eval()
    if entry.form == "step":
        return StepGraph(entry, hops_per_call).eval()
    from models.custom.causal.convert import to_external_state

    graph: nn.Module = to_external_state(entry, hops_per_call).graph
    return graph


def parameters_millions(net: nn.Module) -> float:
    """Trainable and frozen parameters, in millions, to three digits."""
    count = sum(p.numel() for p in net.parameters())
    digits = max(0, 3 - math.ceil(math.log10(max(count, 1) / 1e6 + 1e-12)))
    return round(count / 1e6, digits)
