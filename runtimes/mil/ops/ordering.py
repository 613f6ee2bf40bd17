"""Sorting and the largest few. Equal values keep their order."""

from __future__ import annotations

import torch
from torch import Tensor

from runtimes.mil.ops.table import TORCH_DTYPES, Kernel, Node, op


@op("argsort", rounds=False)
def argsort(node: Node) -> Kernel:
    """Indices that sort x along an axis, largest first unless ascending."""
    axis, down = node.axis("axis", -1), not node.flag("ascending", False)
    return Kernel(lambda x: torch.argsort(x, dim=axis, descending=down, stable=True).to(torch.int32), ("x",))


@op("topk", rounds=False)
def topk(node: Node) -> Kernel:
    """The k largest (or, ascending, smallest) values along an axis, in order, and where they are."""
    axis, down = node.axis("axis", -1), not node.flag("ascending", False)
    single = len(node.outputs) == 1
    dtype = torch.int32 if single else TORCH_DTYPES[node.outputs[1].type.dtype]

    def run(x: Tensor, k: int) -> Tensor | tuple[Tensor, Tensor]:
        values, indices = torch.sort(x, dim=axis, descending=down, stable=True)
        first = values.narrow(axis, 0, k)
        return first if single else (first, indices.narrow(axis, 0, k).to(dtype))

    if node.has("k") and not node.is_static("k"):
        return Kernel(lambda x, k: run(x, int(k)), ("x", "k"))
    count = node.integer("k", 1)
    return Kernel(lambda x: run(x, count), ("x",))
