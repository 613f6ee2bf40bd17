"""Constants of a graph: float64 arrays, rounded to float32 once, in C order (litert-torch confuses others)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Float64 = NDArray[np.float64]


def constant_linear(weight: Float64, bias: Float64 | None = None) -> nn.Linear:
    """A layer [outputs, inputs] with these constants, rounded to float32 once."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32))
    if bias is not None:
        layer.bias.data = torch.from_numpy(np.ascontiguousarray(bias, dtype=np.float32))
    return layer.requires_grad_(False)


def constant_buffer(value: Float64) -> Tensor:
    """A float32 tensor with these constants."""
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
