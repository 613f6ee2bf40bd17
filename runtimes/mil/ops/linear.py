"""Matrix products."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from runtimes.mil.ops.table import TORCH_DTYPES, Kernel, Node, op


def _mixed(node: Node, fn: Callable[..., Tensor], operands: tuple[str, ...]) -> Kernel:
    """`fn`, for operands of different kinds (from iOS 17 on) in float32 and back in the output's type."""
    if len({node.is_float(p) for p in operands}) == 1:
        return Kernel(fn, operands)
    dtype = TORCH_DTYPES[node.out_type.dtype]
    return Kernel(lambda *values: fn(*(v.to(torch.float32) for v in values)).to(dtype), operands)


@op("linear")
def linear(node: Node) -> Kernel:
    """x W^T + b."""
    return _mixed(node, F.linear, ("x", "weight", "bias") if node.has("bias") else ("x", "weight"))


@op("matmul")
def matmul(node: Node) -> Kernel:
    """x y over the last two axes, either transposed first; a vector has nothing to transpose."""
    flip_x = node.flag("transpose_x", False) and node.rank("x") > 1
    flip_y = node.flag("transpose_y", False) and node.rank("y") > 1
    if not flip_x and not flip_y:
        return _mixed(node, torch.matmul, ("x", "y"))
    return _mixed(node, lambda x, y: torch.matmul(x.mT if flip_x else x, y.mT if flip_y else y), ("x", "y"))


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
