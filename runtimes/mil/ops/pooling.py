"""Pooling windows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from runtimes.mil.limits import room_to_pad
from runtimes.mil.ops.conv import same_pads, torch_pads
from runtimes.mil.ops.table import Kernel, Node, op

AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
MAXIMUM: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class _Window:
    """Kernel, strides and padding of a pooling operation, ready to pad an input."""

    def __init__(self, node: Node) -> None:
        self.spatial = node.rank() - 2
        if self.spatial not in AVERAGE:
            raise node.refuse(f"expected rank 3 to 5, got {node.rank()}")
        ones = [1] * self.spatial
        self.kernel = node.integers("kernel_sizes") or ones
        self.strides = node.integers("strides") or ones
        self.ceil = node.flag("ceil_mode", False)
        self._pad_type = node.text("pad_type", "valid").lower()
        self._custom = node.integers("pad") or [0] * (2 * self.spatial)
        if self._pad_type not in ("valid", "custom", "same", "same_lower"):
            raise node.refuse(f"unknown pad_type {self._pad_type!r}")

    def pads(self, x: Tensor) -> list[int]:
        """[before, after] of each axis, with what ceil_mode adds behind."""
        sizes = list(x.shape[2:])
        if self._pad_type in ("same", "same_lower"):
            pads = same_pads(sizes, self.kernel, self.strides, [1] * self.spatial, self._pad_type == "same_lower")
        else:
            pads = list(self._custom) if self._pad_type == "custom" else [0] * (2 * self.spatial)
        if any(pads):
            room_to_pad(x.shape, pads)
        return pads

    def overhang(self, x: Tensor, pads: list[int]) -> list[int]:
        """As `pads`, for ceil_mode: the last window may hang over, but must start inside input or left padding."""
        if not self.ceil:
            return [0] * (2 * self.spatial)
        extra: list[int] = []
        for i, (k, stride) in enumerate(zip(self.kernel, self.strides, strict=True)):
            size = x.shape[2 + i] + pads[2 * i] + pads[2 * i + 1]
            steps = -(-(size - k) // stride)
            if steps * stride >= x.shape[2 + i] + pads[2 * i]:
                steps -= 1
            extra += [0, max(0, steps * stride + k - size)]
        room_to_pad(x.shape, [p + e for p, e in zip(pads, extra, strict=True)])
        return extra


@op("max_pool", rounds=False)
def max_pool(node: Node) -> Kernel:
    """Largest value of each window; padding never wins."""
    window = _Window(node)
    pool = MAXIMUM[window.spatial]

    def run(x: Tensor) -> Tensor:
        pads = window.pads(x)
        total = [p + e for p, e in zip(pads, window.overhang(x, pads), strict=True)]
        if any(total):
            x = F.pad(x, torch_pads(total), value=float("-inf"))
        return pool(x, window.kernel, window.strides)

    return Kernel(run, ("x",))


def _window_mean(node: Node) -> tuple[_Window, Callable[[Tensor], Tensor]]:
    window = _Window(node)
    pool = AVERAGE[window.spatial]
    return window, lambda x: pool(x, window.kernel, window.strides)


@op("avg_pool")
def avg_pool(node: Node) -> Kernel:
    """Mean of each window; padding counts unless excluded, what ceil_mode adds never does."""
    window, mean = _window_mean(node)
    exclude = node.flag("exclude_padding_from_average", False)

    def run(x: Tensor) -> Tensor:
        pads = window.pads(x)
        extra = window.overhang(x, pads)
        if not any(pads) and not any(extra):
            return mean(x)
        counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
        counted = F.pad(F.pad(counted, torch_pads(pads), value=0.0 if exclude else 1.0), torch_pads(extra))
        padded = F.pad(F.pad(x, torch_pads(pads)), torch_pads(extra))
        return mean(padded) / mean(counted)

    return Kernel(run, ("x",))


@op("l2_pool")
def l2_pool(node: Node) -> Kernel:
    """Square root of each window's sum of squares."""
    window, mean = _window_mean(node)
    volume = float(math.prod(window.kernel))

    def run(x: Tensor) -> Tensor:
        pads = window.pads(x)
        total = [p + e for p, e in zip(pads, window.overhang(x, pads), strict=True)]
        return torch.sqrt(mean(F.pad(x * x, torch_pads(total))) * volume)

    return Kernel(run, ("x",))
