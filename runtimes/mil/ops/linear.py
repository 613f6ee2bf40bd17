"""Matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from runtimes.mil.limits import MAX_ELEMENTS, room
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

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        room([x.numel() // max(weight.shape[-1], 1), len(weight)])
        return F.linear(x, weight, bias)

    return _mixed(node, run, ("x", "weight", "bias") if node.has("bias") else ("x", "weight"))


@op("matmul")
def matmul(node: Node) -> Kernel:
    """x y over the last two axes, either transposed first; a vector has nothing to transpose."""
    flip_x = node.flag("transpose_x", False) and node.rank("x") > 1
    flip_y = node.flag("transpose_y", False) and node.rank("y") > 1

    def run(x: Tensor, y: Tensor) -> Tensor:
        x, y = x.mT if flip_x else x, y.mT if flip_y else y
        if x.numel() * y.numel() > MAX_ELEMENTS and x.dim() > 1 and y.dim() > 1:
            room([*np.broadcast_shapes(tuple(x.shape[:-2]), tuple(y.shape[:-2])), x.shape[-2], y.shape[-1]])
        return torch.matmul(x, y)

    return _mixed(node, run, ("x", "y"))


@op("einsum")
def einsum(node: Node) -> Kernel:
    """A product of two tensors by equation."""
    equation = node.text("equation", "")
    if not equation:
        raise node.refuse("parameter 'equation' is missing")

    def run(*values: Tensor) -> Tensor:
        room(_einsum_sizes(equation, values))
        return torch.einsum(equation, *values)

    return Kernel(run, ("values",))


def _einsum_sizes(equation: str, values: tuple[Tensor, ...]) -> list[int]:
    """Sizes of the result; those of an ellipsis as one, at most their product."""
    terms, _, result = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for term, value in zip(terms.split(","), values, strict=True):
        before, dots, after = term.partition("...")
        inner = value.shape[len(before) : value.dim() - len(after)] if dots else ()
        last = value.shape[value.dim() - len(after) :] if dots else ()
        for letter, size in (*zip(before, value.shape, strict=False), *zip(after, last, strict=False)):
            sizes[letter] = max(sizes.get(letter, 1), size)
        sizes["..."] = max(sizes.get("...", 1), math.prod(inner))
    wanted = result if "->" in equation else "".join(c for c in sizes if terms.count(c) == 1)
    return [sizes.get(letter, 1) for letter in wanted.replace("...", "")] + [sizes["..."]]


@op("scaled_dot_product_attention")
def attention(node: Node) -> Kernel:
    """softmax(q k^T / sqrt(d) + mask) v."""
    operands = ("query", "key", "value")

    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if q.numel() * k.numel() > MAX_ELEMENTS:
            batch = np.broadcast_shapes(tuple(q.shape[:-2]), tuple(k.shape[:-2]), tuple(v.shape[:-2]))
            room([*batch, q.shape[-2], max(k.shape[-2], v.shape[-1])])
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return Kernel(run, (*operands, "attn_mask") if node.has("attn_mask") else operands)
