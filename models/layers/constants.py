"""Constants of a graph: float64 arrays, rounded to float32 once, in C order (litert-torch confuses others)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.common.arrays import Float64

# A clamp there changes nothing. It survives conversion, and so keeps apart what a converter would merge: an output from
# the input that it is handed through from, or nested concatenations.
BEYOND_AUDIO = 1e30


def constant_linear(weight: Float64, bias: Float64 | None = None) -> nn.Linear:
    """A layer [outputs, inputs] with these constants, rounded to float32 once."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = constant_buffer(weight)
    if bias is not None:
        layer.bias.data = constant_buffer(bias)
    return layer.requires_grad_(False)


def constant_conv(
    weight: Float64,
    bias: Float64 | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> nn.Conv2d:
    """A convolution [outputs, inputs / groups, rows, columns] with these constants, rounded to float32 once."""
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(
        inputs * groups, outputs, (kernel[0], kernel[1]), stride, padding, dilation, groups, bias=bias is not None
    )
    layer.weight.data = constant_buffer(weight)
    if bias is not None:
        layer.bias = nn.Parameter(constant_buffer(bias), requires_grad=False)
    return layer


def constant_buffer(value: Float64) -> Tensor:
    """A float32 tensor with these constants."""
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
