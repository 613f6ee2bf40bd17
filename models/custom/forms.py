"""The graphs of a user's own net: what is exported, and the offline form that it is compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.common.errors import ConversionError, UsageError
from models.custom.adapters import ActivationLayer, OfflineNet, as_tensor, match_shape, to_layout
from models.custom.entry import CustomEntry
from models.custom.kept import kept_with_net
from models.custom.precise import precise_modules
from models.graph.lower import lowered
from models.layers.front_end import Features


class WindowNet(nn.Module):
    """One window in, its scores out; the net as its author wrote it."""

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


class StepNet(nn.Module):
    """One call of a net whose states its author named, as it was written."""

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
        self.entry = entry
        self.step = graph(entry, 1) if entry.form == "causal" else as_written(entry, 1)
        self.hop = entry.geometry.hop_samples

    def forward(self, audio: Tensor) -> Tensor:
        """audio [1, n], filled up to whole hops, to [1, n'] or scores [1, hops, labels]."""
        padded = nn.functional.pad(audio, (0, -audio.shape[1] % self.hop))
        states = [padded.new_zeros(s.shape) for s in self.entry.states]
        outputs = []
        for block in torch.split(padded, self.hop, 1):
            out, *states = self.step(block, *(state.clone() for state in states))  # it may write into them
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
        hops, late = padded.shape[1] // self.hop, self.entry.lookahead_samples
        if self.entry.output_kind == "scores":
            return _delayed(out.reshape(1, -1, out.shape[-1]), late // self.hop)[:, :hops]
        return _delayed(out.reshape(1, -1), late)[:, : padded.shape[1]]


def _delayed(out: Tensor, frames: int) -> Tensor:
    """So many zeros in front: what the stream of a net that looks ahead gives until its first frame is there."""
    return torch.cat([out.new_zeros(1, frames, *out.shape[2:]), out], 1) if frames else out


def has_offline(entry: CustomEntry) -> bool:
    """Whether a step net came with an offline form: a method `offline(audio)`."""
    return entry.form == "step" and callable(getattr(entry.net, "offline", None))


def offline(entry: CustomEntry) -> nn.Module:
    """The net over a whole recording. Window nets have none: they see windows."""
    if entry.form in ("window", "keras"):
        return as_written(entry, 1)
    if entry.form == "causal" or has_offline(entry):
        return Offline(entry).eval()
    return Stepwise(entry).eval()


def as_written(entry: CustomEntry, hops_per_call: int) -> nn.Module:
    """The net of a window, keras or step form between the tensors of its signature, its code as it is."""
    if entry.form == "step":
        return StepNet(entry, hops_per_call).eval()
    return WindowNet(entry).eval()


@dataclass(frozen=True)
class Exported:
    """What is exported.

    Attributes:
        graph: in operations that both converters take.
        fp32_modules: its parts that stay in float32 in fp16 artefacts.
    """

    graph: nn.Module
    fp32_modules: tuple[str, ...]


def exported(entry: CustomEntry, hops_per_call: int) -> Exported:
    """The form that is exported; made once for each number of hops.

    Raises:
        UsageError: hops out of range.
        ConversionError: forward cannot be followed, or a causal net whose state cannot be taken out.
    """
    if not 1 <= hops_per_call <= entry.max_hops:
        raise UsageError(f"{entry.name} takes 1 to {entry.max_hops} hops per call, got {hops_per_call}")
    return _export(entry, hops_per_call)


@kept_with_net
def _export(entry: CustomEntry, hops: int) -> Exported:
    if entry.form == "causal":
        from models.custom.causal.convert import to_external_state

        stream = to_external_state(entry, hops)
        return Exported(stream.graph, stream.fp32_modules)
    net = as_written(entry, hops)
    if entry.form == "keras":
        always = () if entry.activation == "none" else ("head",)
        return Exported(net, always)
    signature = entry.signature(hops)
    generator = torch.Generator().manual_seed(0)
    example = {n: 0.1 * torch.randn(shape, generator=generator) for n, shape in
               zip(signature.input_names, signature.input_shapes, strict=True)}  # fmt: skip
    module, fp32 = lowered(net, example, entry.original.factory, precise_modules(entry))
    return Exported(module, fp32)


def graph(entry: CustomEntry, hops_per_call: int) -> nn.Module:
    """The form that is exported, as `exported` gives it."""
    return exported(entry, hops_per_call).graph


def parameters_millions(net: nn.Module) -> float:
    """Trainable and frozen parameters, in millions, to three digits."""
    count = sum(p.numel() for p in net.parameters())
    digits = max(0, 3 - math.ceil(math.log10(max(count, 1) / 1e6 + 1e-12)))
    return round(count / 1e6, digits)
