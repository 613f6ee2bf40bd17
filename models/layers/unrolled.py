"""torch's GRU, LSTM and RNN written out over a fixed number of frames, with their states as values.

Every form of torch's: layers, both directions, projections, with and without bias. Matrices of the input run over all
frames at once; the cells have no weights, so that they can stay in float32 alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from models.layers.constants import BEYOND_AUDIO

Kind = Literal["gru", "lstm", "rnn_tanh", "rnn_relu"]


def join_frames(rows: list[Tensor], most: float) -> Tensor:
    """Frames of an RNN below each other, in groups of four (models/layers/recurrent.py says why).

    Args:
        most: what no value reaches.
    """
    while len(rows) > 4:
        groups = [torch.cat(rows[first : first + 4], 0) for first in range(0, len(rows), 4)]
        rows = [torch.clamp(group, -most, most) for group in groups]
    return torch.cat(rows, 0) if len(rows) > 1 else rows[0]


class GruCell(nn.Module):
    """What a GRU does behind its matrices; no weights."""

    def forward(self, drive: Tensor, feedback: Tensor, hidden: Tensor) -> Tensor:
        units = hidden.shape[1]
        gates = torch.sigmoid(drive[:, : 2 * units] + feedback[:, : 2 * units])
        reset, update = gates[:, :units], gates[:, units:]
        offered = torch.tanh(drive[:, 2 * units :] + reset * feedback[:, 2 * units :])
        return offered + update * (hidden - offered)


class LstmCell(nn.Module):
    """What an LSTM does behind its matrices; no weights. Gates stand as input, forget, output, cell."""

    def forward(self, drive: Tensor, feedback: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        units = cell.shape[1]
        gates = drive + feedback
        opened = torch.sigmoid(gates[:, : 3 * units])
        offered = torch.tanh(gates[:, 3 * units :])
        cell = opened[:, units : 2 * units] * cell + opened[:, :units] * offered
        return opened[:, 2 * units :] * torch.tanh(cell), cell


class RnnCell(nn.Module):
    """What a plain RNN does behind its matrices."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, drive: Tensor, feedback: Tensor) -> Tensor:
        gates = drive + feedback
        return torch.relu(gates) if self.kind == "rnn_relu" else torch.tanh(gates)


class _Direction(nn.Module):
    """One layer in one direction."""

    def __init__(self, kind: Kind, weights: Sequence[Tensor], has_bias: bool) -> None:
        super().__init__()
        self.kind = kind
        ih, hh, *rest = weights
        biases = rest[:2] if has_bias else [None, None]
        self.from_input, self.from_hidden = self._linear(ih, biases[0]), self._linear(hh, biases[1])
        self.units = hh.shape[0] // {"gru": 3, "lstm": 4}.get(kind, 1)
        self.project = self._plain(rest[-1], None) if len(rest) == (3 if has_bias else 1) else None
        cells: dict[str, nn.Module] = {"gru": GruCell(), "lstm": LstmCell()}
        self.cell = cells.get(kind) or RnnCell(kind)

    def _linear(self, weight: Tensor, bias: Tensor | None) -> nn.Linear:
        return self._plain(self._order(weight), None if bias is None else self._order(bias))

    @staticmethod
    def _plain(weight: Tensor, bias: Tensor | None) -> nn.Linear:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().contiguous(), requires_grad=False)
        return layer

    def _order(self, value: Tensor) -> Tensor:
        if self.kind != "lstm":
            return value
        gate_in, forget, cell, gate_out = value.chunk(4)
        return torch.cat([gate_in, forget, gate_out, cell])

    def forward(
        self,
        x: Tensor,
        frames: int,
        hidden: Tensor,
        cell: Tensor | None,
        backwards: bool,
        mask: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """x [frames x batch, features], frame by frame; hidden and cell [batch, units]."""
        drive, batch = self.from_input(x), hidden.shape[0]
        rows: list[Tensor] = []
        for frame in reversed(range(frames)) if backwards else range(frames):
            now, feedback = drive[frame * batch : (frame + 1) * batch], self.from_hidden(hidden)
            if cell is not None:
                hidden, cell = self.cell(now, feedback, cell)
            elif self.kind == "gru":
                hidden = self.cell(now, feedback, hidden)
            else:
                hidden = self.cell(now, feedback)
            if self.project is not None:
                hidden = self.project(hidden)
            if mask is not None:
                hidden = hidden * mask[frame : frame + 1]
                cell = None if cell is None else cell * mask[frame : frame + 1]
            rows.append(hidden)
        return rows[::-1] if backwards else rows, hidden, cell


class Unrolled(nn.Module):
    """A recurrence over the frames of a call.

    Args:
        kind: which one.
        weights: as torch has them: for each layer and direction weight_ih, weight_hh, the two biases, a projection.
        layers, bidirectional, has_bias: of it.
        frames: of a call.
        batch: sequences side by side.
        batch_first: [batch, frames, features] rather than [frames, batch, features].
    """

    def __init__(
        self,
        kind: Kind,
        weights: Sequence[Tensor],
        layers: int,
        bidirectional: bool,
        has_bias: bool,
        frames: int,
        batch: int,
        batch_first: bool,
    ) -> None:
        super().__init__()
        self.kind, self.frames, self.batch, self.batch_first = kind, frames, batch, batch_first
        self.ends = 2 if bidirectional else 1
        self.gated = False  # whether a mask [frames] follows x: where it is zero, the states become zero
        each = len(weights) // (layers * self.ends)
        self.layers = nn.ModuleList(
            _Direction(kind, weights[first : first + each], has_bias) for first in range(0, len(weights), each)
        )
        first = cast(_Direction, self.layers[0])
        # A GRU gives back a first state that is larger; an LSTM and tanh stay below one.
        self.most = 1.0 if first.project is None and kind in ("lstm", "rnn_tanh") else BEYOND_AUDIO

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the parts that have no weights."""
        return tuple(f"layers.{index}.cell" for index in range(len(self.layers)))

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """One call.

        Args:
            x: [batch, frames, features], or [frames, batch, features].
            states: a mask [frames], if gated; hidden [layers x directions, batch, units]; an LSTM's cell.

        Returns:
            the output, and the new states.
        """
        frames, batch = self.frames, self.batch
        mask, states = (states[0], states[1:]) if self.gated else (None, states)
        if self.batch_first and batch > 1:
            x = x.transpose(0, 1)
        x = x.reshape(frames * batch, x.shape[-1])
        new: list[tuple[Tensor, ...]] = []
        for first in range(0, len(self.layers), self.ends):
            both = []
            for index in range(first, first + self.ends):
                own = [state[index] for state in states]
                rows, hidden, cell = self.layers[index](
                    x, frames, own[0], own[1] if self.kind == "lstm" else None, index > first, mask
                )
                both.append(join_frames(rows, self.most))
                new.append((hidden,) if cell is None else (hidden, cell))
            x = torch.cat(both, 1) if len(both) > 1 else both[0]
        kept = [torch.stack(parts, 0) for parts in zip(*new, strict=True)]
        if not self.batch_first:
            return (x.reshape(frames, batch, x.shape[1]), *kept)
        if batch > 1:
            return (x.reshape(frames, batch, x.shape[1]).transpose(0, 1), *kept)
        return (x.reshape(1, frames, x.shape[1]), *kept)
