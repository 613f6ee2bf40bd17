"""GRU and LSTM written out for graphs that run on phones: the cells, several cells as one, outputs in one tensor.

torch's GRU (Cho et al., arXiv:1406.1078, the reset gate behind the recurrent matrix); gates stand as reset, update,
new. Neither converter may see nn.GRU or nn.LSTM: one makes a loop of it, the other thousands of operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models.common.arrays import Float64, Weights
from models.layers.constants import constant_linear


class GruCell(nn.Module):
    """What a GRU does behind its matrices; gates stand as reset, update, new."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units

    def forward(self, opening: Tensor, offer: Tensor, feedback: Tensor, hidden: Tensor) -> Tensor:
        """Write one step.

        Args:
            opening: [rows, 2 units], what the input gives to the reset and update gates.
            offer: [rows, units], what it gives to the new values.
            feedback: [rows, 3 units], what the recurrent matrix makes of `hidden`.
            hidden: [rows, units].

        Returns:
            the new hidden.
        """
        units = self.units
        gates = torch.sigmoid(opening + feedback[:, : 2 * units])  # [rows, 2 units]
        offered = torch.tanh(offer + gates[:, :units] * feedback[:, 2 * units :])  # [rows, units]
        return offered + gates[:, units:] * (hidden - offered)


def stack_rows(rows: list[Tensor]) -> Tensor:
    """Outputs [n, units] of successive steps as [steps * n, units].

    XNNPACK does not take over a concatenation of more than four, which would split the graph, and the LiteRT
    converter merges nested ones: the clamp, which no output of a GRU or LSTM reaches, keeps them apart.
    """
    while len(rows) > 4:
        rows = [torch.clamp(torch.cat(rows[first : first + 4]), -1.0, 1.0) for first in range(0, len(rows), 4)]
    return torch.cat(rows) if len(rows) > 1 else rows[0]


def gru_matrices(weights: Weights, name: str, suffix: str = "") -> dict[str, Float64]:
    """The matrices of torch's GRU `name`; suffix "_reverse" for the backward direction."""
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {part: weights[f"{name}.{part}_l0{suffix}"] for part in parts}


def stacked(cells: Sequence[tuple[Mapping[str, Float64], int]], inputs: int) -> dict[str, Float64]:
    """Several GRU cells as one: gate by gate, block-diagonal.

    Args:
        cells: matrices of each, and the column of the common input where its own inputs begin.
        inputs: columns of the common input.
    """
    units = [cell["weight_hh"].shape[1] for cell, _ in cells]
    total = sum(units)
    stacked = {
        "weight_ih": np.zeros((3 * total, inputs)),
        "weight_hh": np.zeros((3 * total, total)),
        "bias_ih": np.zeros(3 * total),
        "bias_hh": np.zeros(3 * total),
    }
    for index, (cell, column) in enumerate(cells):
        own, first = units[index], sum(units[:index])
        for gate in range(3):
            rows = slice(gate * total + first, gate * total + first + own)
            source = slice(gate * own, (gate + 1) * own)
            width = cell["weight_ih"].shape[1]
            stacked["weight_ih"][rows, column : column + width] = cell["weight_ih"][source]
            stacked["weight_hh"][rows, first : first + own] = cell["weight_hh"][source]
            stacked["bias_ih"][rows], stacked["bias_hh"][rows] = cell["bias_ih"][source], cell["bias_hh"][source]
    return stacked


class LstmCell(nn.Module):
    """What an LSTM does behind its matrices; gates stand as input, forget, output, cell."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units

    def forward(self, drive: Tensor, feedback: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Args: drive and feedback [1, 4 units], cell [1, units]. Returns: hidden and cell [1, units]."""
        units = self.units
        gates = drive + feedback
        opened = torch.sigmoid(gates[:, : 3 * units])  # [1, 3 units]
        offered = torch.tanh(gates[:, 3 * units :])  # [1, units]
        cell = opened[:, units : 2 * units] * cell + opened[:, :units] * offered
        return opened[:, 2 * units :] * torch.tanh(cell), cell


class Lstm(nn.Module):
    """An LSTM layer written out over the hops of a call."""

    def __init__(self, hops: int, weight_ih: Float64, weight_hh: Float64, bias: Float64) -> None:
        super().__init__()
        self.hops = hops

        def reorder(value: Float64) -> Float64:
            gate_in, forget, cell, gate_out = np.split(value, 4)
            return np.concatenate([gate_in, forget, gate_out, cell])

        self.from_input = constant_linear(reorder(weight_ih), reorder(bias))
        self.from_hidden = constant_linear(reorder(weight_hh))
        self.cell = LstmCell(weight_hh.shape[1])

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Args: x [hops, inputs], hidden and cell [1, units]. Returns: outputs [hops, units], hidden, cell."""
        drive = self.from_input(x)  # [hops, 4 units]
        outputs: list[Tensor] = []
        for hop in range(self.hops):
            hidden, cell = self.cell(drive[hop : hop + 1], self.from_hidden(hidden), cell)
            outputs.append(hidden)
        return stack_rows(outputs), hidden, cell
