"""Convolutions with their batch norm folded in, channels last, for graphs that run on phones."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from models.common.arrays import Float64, Weights
from models.layers.constants import constant_conv

BATCH_NORM_EPSILON = 1e-5  # torch's default
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")  # in the order of batch_norm


def batch_norm(
    gain: Float64 | float,
    offset: Float64,
    mean: Float64,
    variance: Float64,
    epsilon: float = BATCH_NORM_EPSILON,
    before: Float64 | float = 0.0,
) -> tuple[Float64, Float64]:
    """A batch normalisation behind a bias `before`, as scale and shift."""
    scale = gain / np.sqrt(variance + epsilon)
    return scale, (before - mean) * scale + offset


def folded(weights: Weights, conv: str, norm: str, transposed: bool = False) -> tuple[Float64, Float64]:
    """A convolution's weight [outputs, inputs / groups, ...] and bias with the batch norm behind it in them.

    A transposed convolution's weight stands as [inputs, outputs / groups, ...] in checkpoints; here it comes as
    [outputs, inputs, ...], without groups.
    """
    gain, offset, mean, variance = (weights[f"{norm}.{part}"] for part in NORM_PARTS)
    gain, bias = batch_norm(gain, offset, mean, variance, before=weights[f"{conv}.bias"])
    weight = weights[f"{conv}.weight"]
    if not transposed:
        return weight * gain[:, None, None, None], bias
    # An input of a group only reaches the group's outputs: each [inputs, outputs, ...] of a group, turned.
    groups = len(gain) // weight.shape[1]
    turned = np.concatenate([part.swapaxes(0, 1) for part in np.split(weight, groups)])
    return dense(turned, groups) * gain[:, None, None, None], bias


def dense(weight: Float64, groups: int) -> Float64:
    """[outputs, inputs / groups, ...] of a grouped convolution as [outputs, inputs, ...], zeros between the groups."""
    outputs, per = weight.shape[:2]
    dense = np.zeros((outputs, per * groups, *weight.shape[2:]))
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        dense[rows, group * per : (group + 1) * per] = weight[rows]
    return dense


class FrequencyConv(nn.Module):
    """A convolution along frequency, channels last."""

    def __init__(self, weight: Float64, bias: Float64, stride: int = 1, padding: int = 0) -> None:
        """Args: weight [outputs, inputs, 1, taps]."""
        super().__init__()
        self.conv = constant_conv(weight, bias, (1, stride), (0, padding))

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, hops, f, inputs]. Returns: [1, hops, f', outputs]."""
        result: Tensor = self.conv(x.permute(0, 3, 1, 2))
        return result.permute(0, 2, 3, 1)


class Up(nn.Module):
    """Twice as many frequencies, less one: a transposed convolution of five taps and stride 2, as sub-pixels.

    Step 2m of the result sees taps 4, 2, 0 at m - 1, m, m + 1; step 2m + 1 sees taps 3, 1 at m, m + 1.
    """

    def __init__(self, hops: int, steps: int, weight: Float64, bias: Float64) -> None:
        """Args: weight [outputs, inputs, 1, 5] of the transposed convolution."""
        super().__init__()
        self.hops, self.steps, self.outputs = hops, steps, weight.shape[0]
        even = weight[..., [4, 2, 0]]
        odd = np.concatenate([np.zeros_like(weight[..., :1]), weight[..., [3, 1]]], -1)
        self.both = FrequencyConv(np.concatenate([even, odd]), np.tile(bias, 2), padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Args: [1, hops, f, inputs]. Returns: [1, hops, 2 f - 1, outputs]."""
        x = self.both(x).reshape(1, self.hops, 2 * self.steps, self.outputs)
        return x[:, :, : 2 * self.steps - 1]
