"""Normalisations; sums and means in float32, the affine part in the same step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runtimes.mil.limits import room, room_to_broadcast
from runtimes.mil.ops.table import Kernel, Node, op


def _channels(node: Node, parameter: str, default: float) -> Tensor:
    value = node.tensor(parameter)
    if value is None:
        return torch.full((), default)
    return value.reshape([-1] + [1] * (node.rank() - 2))


@op("batch_norm")
def batch_norm(node: Node) -> Kernel:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta with given statistics, along axis 1."""
    mean, variance, epsilon = node.need("mean"), node.need("variance"), node.number("epsilon", 1e-5)
    gamma, beta = node.tensor("gamma"), node.tensor("beta")
    return Kernel(lambda x: F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon), ("x",))


@op("instance_norm")
def instance_norm(node: Node) -> Kernel:
    """As batch_norm, with each sample's and channel's own statistics."""
    epsilon, axes = node.number("epsilon", 1e-5), list(range(2, node.rank()))
    gamma, beta = _channels(node, "gamma", 1.0), _channels(node, "beta", 0.0)

    def run(x: Tensor) -> Tensor:
        room_to_broadcast(x, gamma, beta)
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + epsilon) * gamma + beta

    return Kernel(run, ("x",))


@op("layer_norm")
def layer_norm(node: Node) -> Kernel:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over `axes`."""
    rank, epsilon = node.rank(), node.number("epsilon", 1e-5)
    axes = sorted(a % rank for a in (node.integers("axes") or range(rank)))
    gamma, beta = node.tensor("gamma"), node.tensor("beta")
    sizes = node.type().shape
    inner = [n for a, n in enumerate(sizes) if a in axes and n is not None]
    if axes == list(range(rank - len(axes), rank)) and len(inner) == len(axes):
        return Kernel(lambda x: F.layer_norm(x, inner, gamma, beta, epsilon), ("x",))

    def aligned(value: Tensor | None, default: float) -> Tensor:
        if value is None:
            return torch.full((), default)
        lengths = iter(value.shape)
        return value.reshape([next(lengths) if a in axes else 1 for a in range(rank)])

    scale, shift = aligned(gamma, 1.0), aligned(beta, 0.0)

    def run(x: Tensor) -> Tensor:
        room_to_broadcast(x, scale, shift)
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + epsilon) * scale + shift

    return Kernel(run, ("x",))


@op("l2_norm")
def l2_norm(node: Node) -> Kernel:
    """x / sqrt(sum x^2 + epsilon) over the last three axes."""
    epsilon, rank = node.number("epsilon", 1e-6), node.rank()
    axes = list(range(max(rank - 3, 0), rank))
    return Kernel(lambda x: x / torch.sqrt(torch.sum(x * x, axes, keepdim=True) + epsilon), ("x",))


@op("local_response_norm")
def local_response_norm(node: Node) -> Kernel:
    """x / (k + alpha / size * sum of squares over `size` neighbouring channels)^beta."""
    size = node.integer("size", 5)
    alpha, beta, k = node.number("alpha", 1e-4), node.number("beta", 0.75), node.number("k", 1.0)

    def run(x: Tensor) -> Tensor:
        room([x.numel() // max(x.shape[1], 1), x.shape[1] + size])
        return F.local_response_norm(x, size, alpha, beta, k)

    return Kernel(run, ("x",))
