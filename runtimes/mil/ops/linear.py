"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from runtimes.mil.ops.table import Kernel, Node, op


@op("linear")
def linear(node: Node) -> Kernel:
    """x W^T + b."""
    return Kernel(F.linear, ("x", "weight", "bias") if node.has("bias") else ("x", "weight"))


@op("matmul")
def matmul(node: Node) -> Kernel:
    """x y over the last two axes, either transposed first."""
    flip_x, flip_y = node.flag("transpose_x", False), node.flag("transpose_y", False)
    if flip_x and flip_y:
        return Kernel(lambda x, y: torch.matmul(x.mT, y.mT), ("x", "y"))
    if flip_x:
        return Kernel(lambda x, y: torch.matmul(x.mT, y), ("x", "y"))
    if flip_y:
        return Kernel(lambda x, y: torch.matmul(x, y.mT), ("x", "y"))
    if node.is_float("x") != node.is_float("y"):
        return Kernel(lambda x, y: torch.matmul(x.to(torch.float32), y.to(torch.float32)), ("x", "y"))
    return Kernel(torch.matmul, ("x", "y"))


@op("einsum")
def einsum(node: Node) -> Kernel:
    """A product of two tensors by equation."""
    equation = node.text("equation", "")
    if not equation:
        raise node.refuse("parameter 'equation' is missing")
    return Kernel(lambda *values: torch.einsum(equation, *values), ("values",))


@op("scaled_dot_product_attention")
def attention(node: Node) -> Kernel:
    """softmax(q k^T / sqrt(d) + mask) v."""
    operands = ("query", "key", "value")
    if node.has("attn_mask"):
        return Kernel(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), (*operands, "attn_mask"))
    return Kernel(F.scaled_dot_product_attention, operands)
