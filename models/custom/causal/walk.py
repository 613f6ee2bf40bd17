"""The graph that convert.py writes, beside the offline one: what is known of each value in time."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, fx, nn

from models.common.errors import ConversionError
from models.geometry import StateSpec

_MODELS = Path(__file__).parents[2]  # our own frames in a traceback

_RESERVED = {"audio", "scores", "enhanced"}


@dataclass(frozen=True)
class Timing:
    """What is known of a value in time.

    Attributes:
        axis: its time axis.
        rate: frames per hop.
        context: frames in front of the recording's first (padding); a call's value has them too, from its past.
        trailing: frames behind the recording's last (padding on both sides); a call's value has them not.
    """

    axis: int
    rate: int
    context: int = 0
    trailing: int = 0


@dataclass
class Walk:
    """The graph being written, beside the offline one.

    Attributes:
        module: the offline net; `short`, `long`, `other`: its values at two lengths, and for another signal.
        hops: of a call.
        lengths: the two lengths in hops.
        graph, modules: the stream's; `new` maps an offline node to its node there, or to a constant.
        example: the stream's values for the first call.
        timings: of nodes that have a time axis.
        states, state_results: in order.
        origins: name of a module of the stream -> its dotted name in the offline net.
        fp32: names of modules that stay in float32.
        pairs: for the proof.
    """

    module: fx.GraphModule
    hops: int
    short: Mapping[fx.Node, Any]
    long: Mapping[fx.Node, Any]
    other: Mapping[fx.Node, Any]
    lengths: tuple[int, int]
    graph: fx.Graph = field(default_factory=fx.Graph)
    modules: dict[str, Any] = field(default_factory=dict)
    new: dict[fx.Node, Any] = field(default_factory=dict)
    example: dict[fx.Node, Any] = field(default_factory=dict)
    timings: dict[fx.Node, Timing] = field(default_factory=dict)
    states: list[StateSpec] = field(default_factory=list)
    state_results: list[fx.Node] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    fp32: list[str] = field(default_factory=list)
    pairs: dict[fx.Node, tuple[str, Timing]] = field(default_factory=dict)
    last_placeholder: fx.Node | None = None

    def audio(self, node: fx.Node, hop: int) -> None:
        """The one input."""
        if self.last_placeholder is not None:
            self.refuse(node, "a causal net takes audio alone; its state is hearpack's to find")
        self.last_placeholder = self.graph.placeholder("audio")
        example = 0.1 * torch.randn(1, hop * self.hops, generator=torch.Generator().manual_seed(2))
        self.keep(node, self.last_placeholder, example, Timing(1, hop))

    def keep(self, node: fx.Node, new: Any, example: Any, timing: Timing | None) -> None:
        self.new[node], self.example[node] = new, example
        if timing is not None:
            self.timings[node] = timing
            if isinstance(new, fx.Node) and isinstance(example, Tensor):
                self.pairs[node] = (new.name, timing)

    def refuse(self, node: fx.Node, reason: str) -> NoReturn:
        """Raises: ConversionError, always."""
        raise ConversionError(f"{where(self.module, node)}: {reason}")

    def place(self, node: fx.Node, module: nn.Module, fp32: tuple[str, ...] = ()) -> str:
        """A module of the stream under a flat name; `fp32`: parts of it that stay in float32 ("" for all)."""
        name = node.name
        self.modules[name] = module
        self.origins[name] = str(node.target) if node.op == "call_module" else ""
        self.fp32 += [f"{name}.{part}" if part else name for part in fp32]
        return name

    def add_state(self, node: fx.Node, suffix: str, shape: tuple[int, ...]) -> tuple[fx.Node, Tensor]:
        """A state as a placeholder behind those there are, and its reset value."""
        base = re.sub(r"\W+", "_", node.name.removeprefix("net_"))
        name = f"{base}_{suffix}"
        taken = {s.name for s in self.states} | {s.out_name for s in self.states} | _RESERVED
        name = name if name[0].isalpha() else f"s_{name}"
        while name in taken:
            name = f"{name}_"
        with self.graph.inserting_after(cast(fx.Node, self.last_placeholder)):
            self.last_placeholder = self.graph.placeholder(name)
        self.states.append(StateSpec(name, shape))
        return self.last_placeholder, torch.zeros(shape)

    def stateful(
        self,
        node: fx.Node,
        module: nn.Module,
        inputs: tuple[fx.Node, ...],
        states: Mapping[str, tuple[int, ...]],
        timing: Timing,
        fp32: tuple[str, ...] = (),
    ) -> None:
        """Put a module with states in a node's place.

        Args:
            node: the offline node; `inputs`: the offline nodes that it reads.
            module: gives a tuple of the result and its new states.
            states: suffix -> shape.
            timing: of the result.
            fp32: parts of the module that stay in float32.
        """
        name = self.place(node, module, fp32)
        added = [self.add_state(node, suffix, shape) for suffix, shape in states.items()]
        arguments = (*(self.new[i] for i in inputs), *(placeholder for placeholder, _ in added))
        examples = (*(self.example[i] for i in inputs), *(zero for _, zero in added))
        with torch.no_grad():
            results = module(*examples)
        call = self.graph.call_module(name, arguments)
        out = self.graph.call_function(operator.getitem, (call, 0))
        self.state_results += [
            self.graph.call_function(operator.getitem, (call, index + 1)) for index in range(len(added))
        ]
        self.keep(node, out, results[0], timing)

    def timed_inputs(self, node: fx.Node) -> list[Timing]:
        return [self.timings[n] for n in node.all_input_nodes if n in self.timings]

    def surplus(self, node: fx.Node, axis: int, rate: int) -> int:
        """Frames of an offline value beyond those of the recording."""
        return int(self.short[node].shape[axis]) - rate * self.lengths[0]

    def time_of(self, node: fx.Node) -> tuple[int, int] | None:
        """(axis, frames per hop) of an offline value, or None if it does not grow.

        Raises:
            ConversionError: it grows along two axes, or not by whole frames per hop.
        """
        short, long = first_tensor(self.short[node]), first_tensor(self.long[node])
        if short is None or long is None or short.shape == long.shape:
            return None
        if short.dim() != long.dim():
            self.refuse(node, f"its rank changes with the length of the audio: {short.dim()} and {long.dim()} axes")
        axes = [axis for axis, (a, b) in enumerate(zip(short.shape, long.shape, strict=True)) if a != b]
        if len(axes) > 1:
            self.refuse(
                node,
                f"gives {list(short.shape)}, which grows along {len(axes)} axes with the recording: frames look at all "
                "frames (attention over time), and a stream has no later ones",
            )
        grown, hops = long.shape[axes[0]] - short.shape[axes[0]], self.lengths[1] - self.lengths[0]
        if grown % hops:
            self.refuse(
                node,
                f"gives {grown / hops:g} frames per hop: geometry.hop_samples is not a multiple of the net's strides",
            )
        return axes[0], grown // hops


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [t for item in value for t in tensors(item)]
    return []


def first_tensor(value: Any) -> Tensor | None:
    found = tensors(value)
    return found[0] if found else None


def where(module: fx.GraphModule, node: fx.Node) -> str:
    """An operation as its author knows it: "'encoder.0' (Conv1d)", or "torch.cat in 'block' (net.py, line 12)"."""
    if node.op == "call_module":
        kind = type(module.get_submodule(str(node.target))).__name__
        return f"{str(node.target).removeprefix('net.')!r} ({kind})"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.stack_trace or "")
    own = [(Path(f).name, line) for f, line in lines if "/torch/" not in f and _MODELS not in Path(f).parents]
    place = f" ({own[-1][0]}, line {own[-1][1]})" if own else ""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    owner = str(stack[-1][0]).removeprefix("net.") if stack and stack[-1][0] not in ("", "net") else ""
    return f"{name}{f' in {owner!r}' if owner else ''}{place}"


def line_of(trace: TracebackType | None) -> str:
    """The last line of the user's own in a traceback, " (net.py, line 12)", or nothing."""
    place = ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if "torch" not in file.parts and _MODELS not in file.parents and not file.name.startswith("<"):
            place = f" ({file.name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place
