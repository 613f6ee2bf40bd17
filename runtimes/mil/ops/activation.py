"""Activations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runtimes.mil.limits import room_to_broadcast
from runtimes.mil.ops.table import Kernel, Node, op, simple

simple("relu", torch.relu, "x", rounds=False)
simple("relu6", F.relu6, "x", rounds=False)
simple("sigmoid", torch.sigmoid, "x")
simple("silu", F.silu, "x")
simple("tanh", torch.tanh, "x")
simple("softsign", F.softsign, "x")
# torch's own softplus switches to x above a threshold; this form is exact everywhere.
simple("softplus", lambda x: torch.log1p(torch.exp(-torch.abs(x))) + torch.relu(x), "x")


def _alpha_beta(node: Node) -> tuple[float, float]:
    return float(node.need("alpha")), float(node.need("beta"))


def _per_channel(node: Node, parameter: str) -> Tensor:
    value = node.need(parameter)
    return value.reshape([-1] + [1] * (node.rank() - 2))


@op("softmax")
def softmax(node: Node) -> Kernel:
    """exp(x) over its sum along `axis`."""
    axis = node.axis("axis", -1)
    return Kernel(lambda x: torch.softmax(x, axis), ("x",))


@op("gelu")
def gelu(node: Node) -> Kernel:
    """Gaussian error linear unit, exact or one of two approximations."""
    mode = node.text("mode", "EXACT").upper()
    if mode == "EXACT":
        return Kernel(F.gelu, ("x",))
    if mode == "TANH_APPROXIMATION":
        return Kernel(lambda x: F.gelu(x, approximate="tanh"), ("x",))
    if mode == "SIGMOID_APPROXIMATION":
        return Kernel(lambda x: x * torch.sigmoid(1.702 * x), ("x",))
    raise node.refuse(f"unknown mode {mode!r}")


@op("leaky_relu")
def leaky_relu(node: Node) -> Kernel:
    """x where positive, else alpha x."""
    alpha = float(node.need("alpha"))
    return Kernel(lambda x: F.leaky_relu(x, alpha), ("x",))


@op("elu")
def elu(node: Node) -> Kernel:
    """x where positive, else alpha (e^x - 1)."""
    alpha = float(node.need("alpha"))
    return Kernel(lambda x: F.elu(x, alpha), ("x",))


@op("prelu")
def prelu(node: Node) -> Kernel:
    """leaky_relu with one alpha a channel (axis 1)."""
    alpha = _per_channel(node, "alpha")

    def run(x: Tensor) -> Tensor:
        room_to_broadcast(x, alpha)
        return torch.relu(x) + torch.clamp_max(x, 0.0) * alpha

    return Kernel(run, ("x",))


@op("clamped_relu")
def clamped_relu(node: Node) -> Kernel:
    """min(beta, x) where x >= 0, else min(beta, alpha x)."""
    alpha, beta = _alpha_beta(node)
    return Kernel(lambda x: torch.clamp_max(torch.where(x >= 0, x, alpha * x), beta), ("x",))


@op("thresholded_relu", rounds=False)
def thresholded_relu(node: Node) -> Kernel:
    """x where x >= alpha, else 0."""
    alpha = float(node.need("alpha"))
    return Kernel(lambda x: torch.where(x >= alpha, x, torch.zeros((), dtype=x.dtype)), ("x",))


@op("linear_activation")
def linear_activation(node: Node) -> Kernel:
    """alpha x + beta."""
    alpha, beta = _alpha_beta(node)
    return Kernel(lambda x: x * alpha + beta, ("x",))


@op("sigmoid_hard")
def sigmoid_hard(node: Node) -> Kernel:
    """alpha x + beta limited to [0, 1]."""
    alpha, beta = _alpha_beta(node)
    return Kernel(lambda x: torch.clamp(x * alpha + beta, 0.0, 1.0), ("x",))


@op("scaled_tanh")
def scaled_tanh(node: Node) -> Kernel:
    """alpha tanh(beta x)."""
    alpha, beta = _alpha_beta(node)
    return Kernel(lambda x: alpha * torch.tanh(beta * x), ("x",))


@op("softplus_parametric")
def softplus_parametric(node: Node) -> Kernel:
    """alpha ln(1 + e^(beta x)), one alpha and beta a channel (axis 1)."""
    alpha, beta = _per_channel(node, "alpha"), _per_channel(node, "beta")

    def run(x: Tensor) -> Tensor:
        room_to_broadcast(x, alpha, beta)
        return alpha * torch.logaddexp(beta * x, torch.zeros(()))

    return Kernel(run, ("x",))
