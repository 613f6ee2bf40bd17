"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from runtimes.mil.ops.table import TORCH_DTYPES, Kernel, Node, op

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, axes, keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.dtype == torch.float32:
        return torch.mean(x, axes, keep)
    return torch.mean(x, axes, keep, dtype=torch.float64).to(x.dtype)


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


REDUCTIONS: dict[str, Reduce] = {
    "reduce_l1_norm": lambda x, axes, keep: _sum(torch.abs(x), axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: torch.sqrt(_sum(x * x, axes, keep)).to(x.dtype),
    "reduce_log_sum": lambda x, axes, keep: torch.log(_sum(x, axes, keep)).to(x.dtype),
    "reduce_log_sum_exp": lambda x, axes, keep: torch.logsumexp(x, axes, keep).to(x.dtype),
    "reduce_max": torch.amax,
    "reduce_mean": _mean,
    "reduce_min": torch.amin,
    "reduce_prod": _prod,
    "reduce_sum": _sum,
    "reduce_sum_square": lambda x, axes, keep: _sum(x * x, axes, keep),
}


def _enter(name: str, reduce: Reduce) -> None:
    def build(node: Node) -> Kernel:
        rank, keep = node.rank(), node.flag("keep_dims", False)
        axes = node.integers("axes")
        if not axes:
            axes = list(range(rank))
        if any(not -rank <= a < rank for a in axes):
            raise node.refuse(f"axes {axes} are out of range for rank {rank}")
        dims = [a % rank for a in axes]
        if name == "reduce_mean" and node.is_float():
            return Kernel(lambda x: torch.mean(x, dims, keep), ("x",))
        return Kernel(lambda x: reduce(x, dims, keep), ("x",))

    op(name, rounds=name not in ("reduce_max", "reduce_min"))(build)


for _name, _reduce in REDUCTIONS.items():
    _enter(_name, _reduce)


def _enter_arg(name: str, find: Callable[..., Tensor]) -> None:
    def build(node: Node) -> Kernel:
        axis, keep = node.axis("axis", -1), node.flag("keep_dims", False)
        dtype = TORCH_DTYPES[node.out_type.dtype]
        return Kernel(lambda x: find(x, axis, keep).to(dtype), ("x",))

    op(name, rounds=False)(build)


_enter_arg("reduce_argmax", torch.argmax)
_enter_arg("reduce_argmin", torch.argmin)
