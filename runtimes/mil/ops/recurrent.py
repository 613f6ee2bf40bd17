"""Whole recurrent layers. Rounding to half applies to what comes out of the layer, not between its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from runtimes.mil.limits import room
from runtimes.mil.ops.table import Kernel, Node, op

Activation = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]

ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: torch.clamp(0.2 * x + 0.5, 0.0, 1.0),
    "scaled_tanh": torch.tanh,  # alpha and beta cannot be given here, and are 1 (coremltools' tests of lstm)
}


class _Weights(NamedTuple):
    """Weights of one direction: gates' inputs are x W_ih^T + b."""

    input: Tensor
    hidden: Tensor
    bias: Tensor | None


def _activation(node: Node, parameter: str, default: str) -> Activation:
    name = node.text(parameter, default).lower()
    if name not in ACTIVATIONS:
        raise node.refuse(f"unknown activation {name!r}; known: {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]


def _weights(node: Node, suffix: str = "") -> _Weights:
    return _Weights(node.need(f"weight_ih{suffix}"), node.need(f"weight_hh{suffix}"), node.tensor(f"bias{suffix}"))


def _gates(x: Tensor, weights: _Weights) -> Tensor:
    room([*x.shape[:2], len(weights.input)])
    return F.linear(x, weights.input, weights.bias)


def _scan(gates: Tensor, state: tuple[Tensor, ...], step: Step, backwards: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All steps of one direction: hidden states in the order of computation [s, b, H], and the last state."""
    rows = max(gates.shape[1], state[0].shape[0])
    room([max(len(gates), 1), rows, max(gates.shape[2], state[0].shape[1])])
    if not len(gates):
        return state[0].new_zeros((0, *state[0].shape)), state
    hidden: list[Tensor] = []
    for gate in reversed(gates.unbind(0)) if backwards else gates.unbind(0):
        state = step(gate, state)
        hidden.append(state[0])
    return torch.stack(hidden), state


def _direction(node: Node) -> str:
    direction = node.text("direction", "forward").lower()
    if direction not in ("forward", "reverse", "bidirectional"):
        raise node.refuse(f"unknown direction {direction!r}")
    return direction


def _lstm_step(node: Node, weights: _Weights, peephole: Tensor | None) -> Step:
    gate = _activation(node, "recurrent_activation", "sigmoid")
    cell = _activation(node, "cell_activation", "tanh")
    out = _activation(node, "activation", "tanh")
    limit = node.number("clip", float("inf"))
    clipped = limit != float("inf")
    p_in, p_forget, p_out = torch.zeros(3, 1) if peephole is None else peephole.reshape(3, -1)

    def step(gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = state
        i, f, o, z = (gates + F.linear(h, weights.hidden)).chunk(4, -1)
        if peephole is not None:
            i, f = i + p_in * c, f + p_forget * c
        z = cell(z)
        fresh = gate(f) * c + gate(i) * z
        if clipped:
            fresh = torch.clamp(fresh, -limit, limit)
        if peephole is not None:
            o = o + p_out * fresh
        return gate(o) * out(fresh), fresh

    return step


@op("lstm")
def lstm(node: Node) -> Kernel:
    """Long short-term memory over a sequence [s, b, I]; gates in the order input, forget, output, cell."""
    direction, whole = _direction(node), node.flag("output_sequence", False)
    ways: list[tuple[_Weights, Step, bool]] = []
    front = _weights(node)
    ways.append((front, _lstm_step(node, front, node.tensor("peephole")), direction == "reverse"))
    if direction == "bidirectional":
        back = _weights(node, "_back")
        ways.append((back, _lstm_step(node, back, node.tensor("peephole_back")), True))

    def run(x: Tensor, initial_h: Tensor, initial_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sequences: list[Tensor] = []
        finals: list[tuple[Tensor, ...]] = []
        starts = zip(initial_h.chunk(len(ways), -1), initial_c.chunk(len(ways), -1), strict=True)
        for (weights, step, backwards), start in zip(ways, starts, strict=True):
            sequence, final = _scan(_gates(x, weights), start, step, backwards)
            # A single layer in reverse gives its steps as computed; of two directions both stand in order of time.
            sequences.append(sequence.flip(0) if backwards and len(ways) == 2 else sequence)
            finals.append(final)
        h, c = torch.cat([f[0] for f in finals], -1), torch.cat([f[1] for f in finals], -1)
        return (torch.cat(sequences, -1) if whole else h.unsqueeze(0)), h, c

    return Kernel(run, ("x", "initial_h", "initial_c"))


def _single(node: Node, weights: _Weights, step: Step) -> Kernel:
    """A layer with one state, in one direction."""
    whole, backwards = node.flag("output_sequence", False), _direction(node) == "reverse"

    def run(x: Tensor, initial_h: Tensor) -> tuple[Tensor, Tensor]:
        sequence, (h,) = _scan(_gates(x, weights), (initial_h,), step, backwards)
        return (sequence if whole else h.unsqueeze(0)), h

    return Kernel(run, ("x", "initial_h"))


@op("gru")
def gru(node: Node) -> Kernel:
    """Gated recurrent unit; gates in the order reset, output, update.

    The reset gate acts on the state before the product with the hidden weights, unless `reset_after` (iOS 18). The
    formula in coremltools' documentation reads the other way; its own tests say this.
    """
    gate = _activation(node, "recurrent_activation", "sigmoid")
    out = _activation(node, "activation", "tanh")
    hidden, bias, input_bias = node.need("weight_hh"), node.tensor("bias"), node.tensor("input_bias")
    after = node.flag("reset_after", False)
    hidden_r, hidden_o, hidden_z = hidden.chunk(3)
    hidden_rz = torch.cat([hidden_r, hidden_z])
    zeros = torch.zeros(len(hidden))
    bias_r, bias_o, bias_z = (zeros if bias is None else bias).chunk(3)
    # With reset_after the hidden bias of the output gate is reset too, so it is not added to the inputs' beforehand.
    reset_bias = bias_o if after else None
    early = torch.cat([bias_r, torch.zeros_like(bias_o) if after else bias_o, bias_z])
    total = early if input_bias is None else early + input_bias

    def step(gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = state
        r_in, o_in, z_in = gates.chunk(3, -1)
        r_h, z_h = F.linear(h, hidden_rz).chunk(2, -1)
        r, z = gate(r_in + r_h), gate(z_in + z_h)
        o_h = r * F.linear(h, hidden_o, reset_bias) if after else F.linear(r * h, hidden_o)
        return ((1.0 - z) * out(o_in + o_h) + z * h,)

    return _single(node, _Weights(node.need("weight_ih"), hidden, total), step)


@op("rnn")
def rnn(node: Node) -> Kernel:
    """Plain recurrent layer."""
    out = _activation(node, "activation", "tanh")
    weights = _weights(node)
    hidden = weights.hidden
    return _single(node, weights, lambda gates, state: (out(gates + F.linear(state[0], hidden)),))
