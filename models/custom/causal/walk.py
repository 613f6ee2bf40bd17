"""The stream that convert.py writes, beside the offline graph: what is known of each value in time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, fx, nn

from models.common.errors import ConversionError
from models.custom.causal.layers import StreamCount, StreamPad, StreamPositions
from models.custom.causal.loops import Outline, aligned, outline
from models.custom.causal.offline import Recording
from models.geometry import StateSpec
from models.graph.builder import Builder, Origin, Value, name_of, tensors, unfrozen


@dataclass(frozen=True)
class Timing:
    """What is known of a value in time.

    Attributes:
        axis: its time axis.
        rate: frames per hop.
        context: frames in front of the recording's first (padding); a call's value has them too, from its past.
        trailing: frames behind the recording's last (padding on both sides); a call's value has them not.
        outer: how often the axis runs through all frames: a reshape put another axis in front of them.
        delay: frames that the stream is behind the offline value, where that looks ahead (net.lookahead = "delay").
    """

    axis: int
    rate: int
    context: int = 0
    trailing: int = 0
    outer: int = 1
    delay: int = 0

    def frames(self, hops: int) -> int:
        """Along the axis, for a call of so many hops."""
        return self.outer * (self.context + self.rate * hops)

    def known(self, hops: int) -> int:
        """Frames of a recording that both the offline value and its stream have."""
        return self.rate * hops - max(self.delay, -self.trailing)


@dataclass(frozen=True, eq=False)
class Positions:
    """A constant that is as long as the recording: numbers of frames, a window's sum, a mask.

    Attributes:
        short, long: its values at both lengths.
        axis, rate: its time.
    """

    short: Tensor
    long: Tensor
    axis: int
    rate: int


@dataclass
class Walk:
    """The stream being written, beside the offline graph.

    Attributes:
        short, long: the offline net at two lengths.
        hops: of a call.
        builder: writes the stream.
        same: node of the short graph -> of the long one.
        new: an offline node -> its value in the stream: a Value, a tuple, or Positions.
        timings: of nodes that have a time axis.
        states, state_results: in order.
        pairs: for the proof.
        count: of calls so far, if anything counts.
        lookahead: whether what looks ahead becomes delay.
        outputs: names that no state may have.
        outline: the short graph, its loops apart.
    """

    short: Recording
    long: Recording
    hops: int
    builder: Builder = field(default_factory=Builder)
    same: Mapping[fx.Node, fx.Node] = field(default_factory=dict)
    new: dict[fx.Node, Any] = field(default_factory=dict)
    timings: dict[fx.Node, Timing] = field(default_factory=dict)
    states: list[StateSpec] = field(default_factory=list)
    state_results: list[Value] = field(default_factory=list)
    pairs: dict[fx.Node, tuple[str, Timing]] = field(default_factory=dict)
    count: Value | None = None
    lookahead: bool = False
    outputs: tuple[str, ...] = ()
    outline: Outline = field(init=False)
    _valid: dict[tuple[int, int, int], Value] = field(default_factory=dict)
    _past: dict[tuple[Any, ...], Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outline = outline(self.short)
        self.same = aligned(self.outline, outline(self.long))

    # --- what is known of the offline net -----------------------------------------------------------------------

    def origin(self, node: fx.Node) -> Origin:
        return cast(Origin, node.meta.get("origin", Origin()))

    def refuse(self, node: fx.Node, reason: str) -> NoReturn:
        """Raises: ConversionError, always."""
        raise ConversionError(f"{self.origin(node)}: {reason}")

    def offline(self, node: fx.Node) -> Any:
        """A node's value for the short recording."""
        return self.short.values[node]

    def shape(self, node: fx.Node) -> list[int]:
        """Of the first tensor of its value for the short recording."""
        value = first_tensor(self.offline(node))
        return [] if value is None else list(value.shape)

    def surplus(self, node: fx.Node, axis: int, rate: int) -> int:
        """Frames of an offline value beyond those of the recording."""
        return self.shape(node)[axis] - rate * self.short.hops

    def time_of(self, node: fx.Node) -> tuple[int, int] | None:
        """(axis, frames per hop) of an offline value, or None if it does not grow.

        Raises:
            ConversionError: it grows along two axes, or not by whole frames per hop.
        """
        short, long = first_tensor(self.offline(node)), first_tensor(self.long.values[self.same[node]])
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
        grown, hops = long.shape[axes[0]] - short.shape[axes[0]], self.long.hops - self.short.hops
        if grown % hops:
            self.refuse(
                node,
                f"gives {grown / hops:g} frames per hop: geometry.hop_samples is not a multiple of the net's strides; "
                f"take {_multiple(grown, hops)} times as many",
            )
        return axes[0], grown // hops

    def timed_inputs(self, node: fx.Node) -> list[tuple[fx.Node, Timing]]:
        return [(n, self.timings[n]) for n in node.all_input_nodes if n in self.timings]

    def number(self, node: fx.Node, short: int, long: int, trailing: int = 0, rate: int = 1) -> int:
        """A number of the offline graph, for the frames of a call.

        Args:
            short, long: what it is at both lengths.
            trailing, rate: of the value it counts frames of.
        """
        hops = self.long.hops - self.short.hops
        if short == long:
            return short
        slope, rest = divmod(long - short, hops)
        behind, left = divmod(slope * trailing, rate)
        if rest or left:
            self.refuse(node, f"counts {short} and {long} for {self.short.hops} and {self.long.hops} hops of audio")
        return short - slope * (self.short.hops - self.hops) - behind

    def numbers(self, node: fx.Node, short: Any, long: Any) -> Any:
        """Arguments of the offline graph, with its numbers for the frames of a call; nodes stay nodes."""
        timed = self.timed_inputs(node)
        trailing, rate = (timed[0][1].trailing, timed[0][1].rate) if timed else (0, 1)

        def both(a: Any, b: Any) -> Any:
            if isinstance(a, bool) or not isinstance(a, int):
                if isinstance(a, tuple | list):
                    return [both(x, y) for x, y in zip(a, b, strict=True)] if len(a) == len(b) else unfrozen(a)
                return a
            return self.number(node, a, int(b), trailing, rate)

        return both(short, long)

    # --- the stream ---------------------------------------------------------------------------------------------

    def audio(self, node: fx.Node, hop: int) -> None:
        """The one input."""
        shape = self.shape(node)
        example = 0.1 * torch.randn(*shape[:-1], hop * self.hops, generator=torch.Generator().manual_seed(2))
        self.keep(node, self.builder.placeholder("audio", example), Timing(len(shape) - 1, hop))

    def keep(self, node: fx.Node, new: Any, timing: Timing | None) -> None:
        """A node's value in the stream."""
        self.new[node] = new
        if timing is not None:
            self.timings[node] = timing
            if isinstance(new, Value) and new.node is not None and timing.outer == 1:
                self.pairs[node] = (new.node.name, timing)

    def value(self, node: fx.Node) -> Value:
        """What stands in the stream for an offline node."""
        new = self.new[node]
        if isinstance(new, Positions):
            self.refuse(node, "is as long as the recording, and a stream does not know how long that will be")
        return cast(Value, new)

    def add_state(self, node: fx.Node, suffix: str, shape: tuple[int, ...]) -> Value:
        """A state that begins with zeros."""
        origin = self.origin(node)
        base = re.sub(r"\W+", "_", origin.module if origin.kind and origin.module else _short_name(node))
        base = (base if base[:1].isalpha() else f"s_{base}").lower()  # as torch.fx writes them
        taken = (
            {s.name for s in self.states}
            | {s.out_name for s in self.states}
            | {"audio", "scores", "enhanced", *self.outputs}
        )
        name, count = f"{base}_{suffix}", 0
        while name in taken or f"{name}_out" in taken:
            count += 1
            name = f"{base}_{count}_{suffix}"
        self.states.append(StateSpec(name, shape))
        return self.builder.placeholder(name, torch.zeros(shape))

    def stateful(
        self,
        node: fx.Node,
        module: nn.Module,
        inputs: tuple[Value, ...],
        states: Mapping[str, tuple[int, ...]],
        fp32: tuple[str, ...] = (),
    ) -> Value:
        """Put a module with states in a node's place.

        Args:
            node: the offline node.
            module: gives a tuple of the result and its new states.
            inputs: that it takes in front of its states.
            states: suffix -> shape.
            fp32: parts of the module that stay in float32.

        Returns:
            the result.
        """
        added = [self.add_state(node, suffix, shape) for suffix, shape in states.items()]
        origin = self.origin(node)
        name = origin.module if origin.kind and origin.module else _short_name(node)
        with self.builder.at(origin):
            out, *new = self.builder.module(
                module, *inputs, *added, name=re.sub(r"\W+", "_", f"{name}"), fp32=("",) if origin.precise else fp32
            )
        self.state_results += new
        return cast(Value, out)

    def positions(self, node: fx.Node, known: Positions, timing: Timing, axis: int) -> Value:
        """A constant as long as the recording, for the frames of a call.

        Args:
            node: that reads it.
            known: the constant.
            timing: of the value it goes with.
            axis: the time axis of the constant.
        """
        if timing.outer > 1:
            self.refuse(node, "meets frames that a reshape mixed with another axis; keep time an axis of its own")
        frames, step = timing.frames(self.hops), timing.rate * self.hops
        long = known.long.movedim(axis, 0)
        usable = long.shape[0] - timing.trailing
        long = torch.cat([long[:1].expand(timing.delay, *long.shape[1:]), long]) if timing.delay else long
        calls = [long[first : first + frames] for first in range(0, usable + timing.delay - frames + 1, step)]
        if len(calls) < 3:  # a call of many hops: the numbers themselves must tell
            self.refuse(node, "cannot be followed over calls of so many hops; take fewer hops a call")
        calls = [call.movedim(0, axis) for call in calls]
        with self.builder.at(self.origin(node)), self.builder.precise():
            if all(torch.equal(call, calls[0]) for call in calls):
                return self.builder.constant(calls[0].contiguous())
            same = next(i for i in range(len(calls)) if all(torch.equal(c, calls[-1]) for c in calls[i:]))
            if same < len(calls) - 1:
                table = torch.stack(calls[: same + 1])
                return self.stateful(node, StreamPositions(table), (), {"calls": (same,)}, ("",))
            first, last = calls[0].double(), calls[-1].double()
            begun = math.ceil(timing.delay / step)
            slope = (last - calls[begun].double()) / (len(calls) - 1 - begun)
            lines = [last - slope * (len(calls) - 1 - index) for index in range(len(calls))]
            least = first if timing.delay else torch.full_like(first, -torch.inf)
            rises = [torch.maximum(line, least) for line in lines] if (slope >= 0).all() else lines
            if all(torch.allclose(a, b.double(), rtol=1e-6, atol=1e-9) for a, b in zip(rises, calls, strict=True)):
                grown = self.builder.op("mul", self._count(node), self.builder.constant(slope.float().contiguous()))
                grown = self.builder.op("add", grown, self.builder.constant(lines[0].float().contiguous()))
                if timing.delay:  # what comes before the first frame is as at the first: no division by zero
                    grown = self.builder.op("maximum", grown, self.builder.constant(calls[0].contiguous()))
                return cast(Value, grown)
        return self.refuse(node, "depends on the position in the recording in a way that goes on for ever")

    def valid(self, node: fx.Node, timing: Timing) -> Value:
        """One for frames that the offline value has, zero for those that the stream is ahead of it: [frames]."""
        frames, step = timing.frames(self.hops), timing.rate * self.hops
        calls = math.ceil((timing.delay + timing.context) / step)
        key = (timing.delay, timing.context, timing.rate)
        if key not in self._valid:
            places = torch.arange(calls + 1)[:, None] * step + torch.arange(frames) - timing.context
            module = StreamPositions((places >= timing.delay).float())
            self._valid[key] = self.stateful(node, module, (), {"begun": (calls,)}, ("",))
        return self._valid[key]

    def masked(self, node: fx.Node, x: Value, timing: Timing) -> Value:
        """A value without what is in front of its first frame: an offline net has zeros there."""
        if not timing.delay:
            return x
        shape = [-1 if axis == timing.axis else 1 for axis in range(len(x.shape))]
        mask = self.builder.op("reshape", self.valid(node, timing), shape)
        return cast(Value, self.builder.op("mul", x, mask))

    def delayed(self, node: fx.Node, x: Value, timing: Timing, frames: int) -> Value:
        """A value so many frames later."""
        if not frames:
            return x
        if timing.context:  # its own frames alone are new
            self.refuse(node, "meets a value that is behind it while it is padded in time; slice the surplus off first")
        joined = self.with_past(node, x, timing.axis, frames, "wait")
        return cast(Value, self.builder.op("slice", joined, timing.axis, 0, x.shape[timing.axis]))

    def with_past(self, node: fx.Node, x: Value, axis: int, past: int, suffix: str = "past") -> Value:
        """A value with so many frames in front of it: zeros first, the last ones of the calls before then.

        Who asks for the same past of a value shares its state: litert-torch joins two that are alike, and one of them
        has no name in its file then.
        """
        key = (x.node, axis, past, suffix, self.origin(node).precise)
        if x.node is None or key not in self._past:
            shape = list(x.shape)
            frames, shape[axis] = shape[axis], past
            self._past[key] = self.stateful(node, StreamPad(axis, past, frames), (x,), {suffix: tuple(shape)})
        return self._past[key]

    def _count(self, node: fx.Node) -> Value:
        """How many calls came before this one: one state for all who count."""
        if self.count is None:
            self.count = self.stateful(node, StreamCount(), (), {"count": (1,)}, ("",))
        return self.count


def _short_name(node: fx.Node) -> str:
    return name_of(node).replace("constant_pad_nd", "pad")


def _multiple(grown: int, hops: int) -> int:
    return next(k for k in range(1, hops + 1) if k * grown % hops == 0)


def first_tensor(value: Any) -> Tensor | None:
    """The first in whatever an operation returned."""
    found = tensors(value)
    return found[0] if found else None


Rule = Callable[[Walk, fx.Node], bool]
