"""The graphs of a user's own net: what is exported, and the offline form that it is compared with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.common.errors import ConversionError, UsageError
from models.custom.adapters import ActivationLayer, Called, OfflineNet, as_tensor, match_shape, outputs_of, to_layout
from models.custom.entry import CustomEntry
from models.custom.kept import kept_with_net
from models.custom.precise import precise_modules
from models.custom.shapes.outputs import Pick
from models.custom.shapes.states import ROUGH, packed, unpacked
from models.graph.lower import lowered
from models.layers.front_end import Features


class WindowNet(Called):
    """One window in, its scores or embedding out; the net as its author wrote it."""

    def __init__(self, entry: CustomEntry) -> None:
        super().__init__(entry)
        self.entry, self.layout, self.outputs = entry, entry.layout, entry.signature(1).outputs
        self.front_end: nn.Module | None = None
        if entry.front_end is not None:
            frames = entry.front_end.frames(entry.geometry.window_samples)
            self.front_end = Features(entry.front_end, frames)
        self.head = ActivationLayer(entry.activation)

    def forward(self, audio: Tensor, *far: Tensor) -> tuple[Tensor, ...]:
        """[1, window] to ([1, labels], extra outputs...)."""
        own, *extras = outputs_of(self.entry, self.returned(audio, *far), self.outputs)
        return (self.head(own), *extras)

    def returned(self, audio: Tensor, *far: Tensor) -> Any:
        """What forward of the user's own returns."""
        return self.given(to_layout(audio, self.layout) if self.front_end is None else self.front_end(audio), far)


class StepNet(Called):
    """One call of a net whose states its author named, as it was written."""

    def __init__(self, entry: CustomEntry, hops: int) -> None:
        super().__init__(entry)
        self.entry, self.signature = entry, entry.signature(hops)
        self.layout, self.who = entry.layout, entry.original.factory
        self.head = ActivationLayer(entry.activation)

    def forward(self, audio: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        """audio [1, hops x hop], further inputs and the states to the outputs and the new states."""
        result, new = parted(self.entry, self.returned(audio, *more))
        own, *others = outputs_of(self.entry, result, self.signature.outputs)
        specs = self.signature.states
        kept = (match_shape(value, s.shape, self.who, s.out_name) for value, s in zip(new, specs, strict=True))
        return (self.head(own), *others, *kept)

    def returned(self, audio: Tensor, *more: Tensor) -> Any:
        """What forward of the user's own returns."""
        inputs, names = len(self.far), [s.name for s in self.entry.states]
        kinds = {name: cast(torch.dtype, getattr(torch, kind)) for name, kind in self.entry.state_dtypes}
        states = [s.to(kinds[n]) if n in kinds else s for n, s in zip(names, more[inputs:], strict=True)]
        structure = self.entry.state_structure
        taken = states if structure is None else packed(structure, dict(zip(names, states, strict=True)))
        return self.given(to_layout(audio, self.layout), more[:inputs], taken)


def parted(entry: CustomEntry, results: Any) -> tuple[Any, list[Tensor]]:
    """What a step returned: its outputs, one or a tuple, and its new states.

    Raises:
        ConversionError: as many as the states and outputs say are not there.
    """
    structure, outputs = entry.state_structure, max(len(entry.outputs_said), 1)
    states = len(entry.states if structure is None else structure)
    if not isinstance(results, tuple | list) or len(results) not in (1 + states, outputs + states):
        came = len(results) if isinstance(results, tuple | list) else 1
        named = [name or "(left out)" for name, _ in entry.outputs_said] or [entry.output.name]
        parts = [s.out_name for s in entry.states] if structure is None else [str(part) for part in structure]
        names = [*named, *parts]
        more = "" if entry.outputs_said else "; net.outputs names several outputs"
        raise ConversionError(
            f"{entry.original.factory}: forward returned {came} tensors, expected {len(names)}: "
            f"{', '.join(names)}{more}"
        )
    outs = results[: len(results) - states]
    new = list(results[len(outs) :])
    if structure is not None:
        by_name = unpacked(structure, new, entry.original.factory)
        new = [as_tensor(by_name[s.name], f"{entry.original.factory}: state {s.name!r}") for s in entry.states]
    kinds = dict(entry.state_dtypes)
    new = [value.float() if s.name in kinds else value for value, s in zip(new, entry.states, strict=True)]
    return (outs[0] if len(outs) == 1 else outs), new


class Stepwise(nn.Module):
    """A whole recording through a step graph from the zero state: the original where there is no offline form."""

    def __init__(self, entry: CustomEntry) -> None:
        super().__init__()
        self.entry = entry
        # Its states are float32 in the graph; what the net rounds to half would be the figure otherwise.
        rough = any(kind in ROUGH for _, kind in entry.state_dtypes)
        self.step = graph(entry, 1) if entry.form == "causal" or rough else as_written(entry, 1)
        self.hop = entry.geometry.hop_samples

    def forward(self, audio: Tensor) -> Tensor:
        """As Offline."""
        padded = whole_hops(self.entry, audio)
        states = [padded.new_zeros(s.shape) for s in self.entry.states]
        outputs: list[list[Tensor]] = [[] for _ in range(max(len(self.entry.sources), 1))]
        for block in torch.split(padded, self.hop, -1):
            results = self.step(*inputs_of(self.entry, block), *(s.clone() for s in states))  # it may write into them
            states = results[len(results) - len(states) :]
            for kept, out in zip(outputs, results, strict=False):
                kept.append(out)
        axis = 0 if self.entry.output_kind == "scores" else -1
        return together(self.entry, [torch.cat(kept, axis) for kept in outputs])


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
        """A recording, filled up to whole hops.

        Args:
            audio: [1, n], or [1, channels, n].

        Returns:
            [1, n'], [1, channels, n'] of several channels, [1, sources, channels, n'] of a separator, or scores
            [1, hops, labels].
        """
        padded = whole_hops(self.entry, audio)
        count = max(len(self.entry.sources), 1)
        if self.entry.form == "causal":
            outputs = list(cast("tuple[Tensor, ...]", self.net(padded))[:count])
        else:
            written, who = (
                cast(Any, self.net).offline(to_layout(padded, self.entry.layout)),
                self.entry.original.factory,
            )
            own = dataclasses.replace(self.entry, picks=_own_picks(self.entry, written, count))
            outputs = outputs_of(own, written, [None] * count, f"{who}: offline")
        out = together(self.entry, outputs)
        hops, late = padded.shape[-1] // self.hop, self.entry.lookahead_samples
        # What the stream of a net that looks ahead gives until its first frame is there.
        if self.entry.output_kind == "scores":
            return nn.functional.pad(out, (0, 0, late // self.hop, 0))[:, :hops]
        return nn.functional.pad(out, (late, 0))[..., : padded.shape[-1]]


def inputs_of(entry: CustomEntry, recording: Tensor) -> list[Tensor]:
    """`audio` and further inputs, of a recording that has them as channels."""
    if not entry.far_inputs:
        return [recording]
    channels, samples = entry.geometry.channels, recording.shape[-1]
    audio = recording[:, :channels].reshape(1, *entry.geometry.lead, samples)
    return [audio, *(recording[:, channels + place] for place in range(len(entry.far_inputs)))]


def whole_hops(entry: CustomEntry, audio: Tensor) -> Tensor:
    """A recording with zeros behind it up to a whole hop: [1, n] or [1, channels, n], further inputs the last ones."""
    padded = nn.functional.pad(audio, (0, -audio.shape[-1] % entry.geometry.hop_samples))
    lead = (entry.geometry.channels + len(entry.far_inputs),) if entry.far_inputs else entry.geometry.lead
    return padded.reshape(1, *lead, padded.shape[-1])


def together(entry: CustomEntry, outputs: Sequence[Tensor]) -> Tensor:
    """A recording's outputs as one tensor: see Offline."""
    if entry.output_kind == "scores":
        return outputs[0].reshape(1, -1, len(entry.labels))
    channels = entry.geometry.channels
    if entry.sources:
        return torch.stack([out.reshape(1, channels, -1) for out in outputs], 1)
    return outputs[0].reshape((1, -1) if channels == 1 else (1, channels, -1))


def _own_picks(entry: CustomEntry, written: Any, count: int) -> tuple[Pick, ...]:
    """Where the task's own outputs are in what an author's offline form returns: alone, or as in forward."""
    if entry.sources or not (isinstance(written, Tensor) or len(written) == 1):
        return entry.picks[:count]
    return ()


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
