"""Whole recurrent layers. Rounding to half applies to what comes out of the layer, not between its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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


# torch's own layer takes over from here on; below, setting it up costs more than it saves.
FUSED_FROM_STEPS = 4


def _torch_order(value: Tensor, order: tuple[int, ...]) -> Tensor:
    """Rows of gates in torch's order."""
    parts = value.chunk(len(order))
    return torch.cat([parts[k] for k in order]).contiguous()


def _fused(
    layer: Callable[..., tuple[Tensor, ...]],
    ways: list[tuple[_Weights, Tensor | None]],
    order: tuple[int, ...],
) -> Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """torch's layer over a whole sequence, forwards, or in both directions where there are two `ways`.

    Args:
        layer: torch.lstm or torch.gru.
        ways: of each direction its weights and its hidden bias.
        order: MIL's gates in torch's order.

    Returns:
        function of x [s, b, I] and states [directions, b, H], as the layer.
    """
    flat: list[Tensor] = []
    for weights, hidden_bias in ways:
        zeros = torch.zeros(len(weights.input))
        biases = (zeros if weights.bias is None else weights.bias, zeros if hidden_bias is None else hidden_bias)
        flat += [_torch_order(value, order) for value in (weights.input, weights.hidden, *biases)]

    def run(x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        room([*x.shape[:2], len(flat[0]) * len(ways)])
        start = states if len(states) > 1 else states[0]
        return layer(x, start, flat, True, 1, 0.0, False, len(ways) == 2, False)

    return run


def _per_direction(state: Tensor, count: int) -> Tensor:
    """[b, directions * H] as [directions, b, H]."""
    return torch.stack(state.chunk(count, -1)).contiguous()


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

    usual = _is_usual(
        node, ("recurrent_activation", "cell_activation", "activation"), ("sigmoid", "tanh", "tanh")
    ) and not (node.has("clip") or node.has("peephole") or node.has("peephole_back"))
    fused = _fused(torch.lstm, [(weights, None) for weights, _, _ in ways], (0, 1, 3, 2)) if usual else None

    def at_once(fused: Any, x: Tensor, initial_h: Tensor, initial_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # A single layer in reverse gives its steps as computed.
        turned = x.flip(0) if direction == "reverse" else x
        starts = tuple(_per_direction(state, len(ways)) for state in (initial_h, initial_c))
        sequence, h, c = fused(turned, starts)
        h, c = torch.cat(h.unbind(0), -1), torch.cat(c.unbind(0), -1)
        return (sequence if whole else h.unsqueeze(0)), h, c

    def run(x: Tensor, initial_h: Tensor, initial_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if fused and len(x) >= FUSED_FROM_STEPS and x.shape[1] == len(initial_h) == len(initial_c):
            return at_once(fused, x, initial_h, initial_c)
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


def _is_usual(node: Node, parameters: tuple[str, ...], usual: tuple[str, ...]) -> bool:
    return all(node.text(p, u).lower() == u for p, u in zip(parameters, usual, strict=True))


def _single(node: Node, weights: _Weights, step: Step, fused: Any = None) -> Kernel:
    """A layer with one state, in one direction; `fused` runs it over a whole sequence."""
    whole, backwards = node.flag("output_sequence", False), _direction(node) == "reverse"

    def run(x: Tensor, initial_h: Tensor) -> tuple[Tensor, Tensor]:
        if fused and len(x) >= FUSED_FROM_STEPS and x.shape[1] == len(initial_h):
            sequence, last = fused(x.flip(0) if backwards else x, (initial_h.unsqueeze(0).contiguous(),))
            return (sequence if whole else last), last[0]
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

    weights, fused = _Weights(node.need("weight_ih"), hidden, total), None
    if after and _is_usual(node, ("recurrent_activation", "activation"), ("sigmoid", "tanh")):
        # Only with reset_after is it torch's cell; its hidden bias is `bias`, its other one `input_bias`.
        fused = _fused(torch.gru, [(weights._replace(bias=input_bias), bias)], (0, 2, 1))
    return _single(node, weights, step, fused)


@op("rnn")
def rnn(node: Node) -> Kernel:
    """Plain recurrent layer."""
    out = _activation(node, "activation", "tanh")
    weights = _weights(node)
    hidden = weights.hidden
    return _single(node, weights, lambda gates, state: (out(gates + F.linear(state[0], hidden)),))
