"""torch's recurrences over whole sequences: what they take, and their form for a fixed number of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from models.graph.builder import Builder, Value
from models.graph.table import FIXED, lowers
from models.layers.unrolled import Kind, Unrolled

NAMES = ("gru", "lstm", "rnn_tanh", "rnn_relu")


@dataclass(frozen=True)
class Recurrence:
    """A call of torch's gru, lstm, rnn_tanh or rnn_relu.

    Attributes:
        kind: which.
        x: its sequence; `first`: its first states; `weights`: all of them.
        has_bias, layers, bidirectional, batch_first: as torch has them.
    """

    kind: Kind
    x: Any
    first: tuple[Any, ...]
    weights: tuple[Any, ...]
    has_bias: bool
    layers: int
    bidirectional: bool
    batch_first: bool

    @property
    def frame_axis(self) -> int:
        """Of x, counted from its end: [frames, features], with or without a batch."""
        return -2 if self.batch_first else -3

    def unrolled(self, frames: int, batch: int) -> Unrolled:
        """As a module of fixed size; weights must be constants."""
        weights = [cast(Value, weight).tensor for weight in self.weights]
        return Unrolled(
            self.kind, weights, self.layers, self.bidirectional, self.has_bias, frames, batch, self.batch_first
        )


def recurrence(name: str, args: Sequence[Any]) -> Recurrence:
    """Read the arguments of torch's operation."""
    x, first, weights, has_bias, layers, _, _, bidirectional, batch_first = args
    states = tuple(first) if isinstance(first, list | tuple) else (first,)
    return Recurrence(
        cast(Kind, name), x, states, tuple(weights), bool(has_bias), int(layers), bool(bidirectional), bool(batch_first)
    )


def _fixed(name: str) -> None:
    @lowers(FIXED, name)
    def lowering(b: Builder, *args: Any) -> Any:
        call = recurrence(name, args)
        if not all(isinstance(weight, Value) and weight.is_constant for weight in call.weights):
            return NotImplemented
        frames, batch = call.x.shape[call.frame_axis], call.x.shape[-3 if call.batch_first else -2]
        module = call.unrolled(frames, batch)
        return b.module(module, call.x, *call.first, name=name, fp32=module.cells)


for _name in NAMES:
    _fixed(_name)
