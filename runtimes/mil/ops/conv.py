"""Convolutions. Padding that is alike on both sides goes to torch's own argument; the rest is padded first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from runtimes.mil.limits import MAX_ELEMENTS, room, room_to_broadcast, room_to_pad
from runtimes.mil.ops.table import Kernel, Node, op

CONV: dict[int, Callable[..., Tensor]] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: torch.conv_transpose1d,
    2: torch.conv_transpose2d,
    3: torch.conv_transpose3d,
}


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], lower: bool
) -> list[int]:
    """Padding [before, after] of each axis so that output size = ceil(input / stride).

    Args:
        sizes: spatial input sizes.
        kernel: kernel sizes.
        strides: strides.
        dilations: dilations.
        lower: the odd element goes before (same_lower) instead of after (same).
    """
    pads: list[int] = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
        half = total // 2
        pads += [total - half, half] if lower else [half, total - half]
    return pads


def torch_pads(pads: Sequence[int]) -> list[int]:
    """[before, after] pairs from the first axis on, in F.pad's order: last axis first."""
    return [p for i in range(len(pads) - 2, -1, -2) for p in (pads[i], pads[i + 1])]


def _room_by_declaration(x: Sequence[int | None], weight: Sequence[int | None], pads: Sequence[int]) -> None:
    """Room for a padded x [n, c, ...] and, as it may shrink, for as many places of each output channel."""
    room_to_pad(x, pads)
    room_to_pad([x[0], weight[0], *x[2:]], pads)


def _room_to_convolve(x: Tensor, weight: Tensor, pads: Sequence[int]) -> None:
    if any(pads) or x.numel() * len(weight) > MAX_ELEMENTS:
        _room_by_declaration(x.shape, weight.shape, pads)


@op("conv")
def conv(node: Node) -> Kernel:
    """Convolution in 1 to 3 dimensions, grouped or not."""
    spatial = node.rank() - 2
    if spatial not in CONV:
        raise node.refuse(f"expected rank 3 to 5, got {node.rank()}")
    function, groups = CONV[spatial], node.integer("groups", 1)
    strides = node.integers("strides") or [1] * spatial
    dilations = node.integers("dilations") or [1] * spatial
    pad_type = node.text("pad_type", "valid").lower()
    kernel, sizes = node.type("weight").shape[2:], node.type().shape[2:]
    known_kernel = [k for k in kernel if k is not None]
    bias = node.tensor("bias") if node.is_static("bias") else None
    operands = ("x", "weight", "bias") if node.has("bias") and bias is None else ("x", "weight")

    if pad_type == "valid":
        pads = [0] * (2 * spatial)
    elif pad_type == "custom":
        pads = node.integers("pad") or [0] * (2 * spatial)
    elif pad_type in ("same", "same_lower"):
        lower = pad_type == "same_lower"
        known = [n for n in sizes if n is not None]
        if len(known) < spatial:

            def run(x: Tensor, w: Tensor, b: Tensor | None = bias) -> Tensor:
                pads = same_pads(x.shape[2:], known_kernel, strides, dilations, lower)
                _room_to_convolve(x, w, pads)
                return function(F.pad(x, torch_pads(pads)), w, b, strides, 0, dilations, groups)

            return Kernel(run, operands)
        pads = same_pads(known, known_kernel, strides, dilations, lower)
    else:
        raise node.refuse(f"unknown pad_type {pad_type!r}")

    _room_by_declaration(node.type().shape, node.type("weight").shape, pads)
    padding, before = pads[::2], torch_pads(pads)
    even, sized = pads[::2] == pads[1::2], node.shape() is not None and node.shape("weight") is not None

    def convolved(x: Tensor, w: Tensor, b: Tensor | None = bias) -> Tensor:
        if not sized:
            _room_to_convolve(x, w, pads)
        if even:
            return function(x, w, b, strides, padding, dilations, groups)
        return function(F.pad(x, before), w, b, strides, 0, dilations, groups)

    return Kernel(convolved, operands)


@op("conv_quantized")
def conv_quantized(node: Node) -> Kernel:
    """Convolution with weights stored as integers: weight * quant_scale + quant_bias, per tensor or per channel."""
    if node.text("quantization_type", "linear").lower() != "linear":
        raise node.refuse("only quantization_type 'linear' is documented; use constexpr_lut_to_dense for palettes")
    weight, inner, bias = node.need("weight").float(), conv(node), node.tensor("bias")
    run = inner.fn
    if run is None:
        raise node.refuse("a convolution without a kernel")
    scale, shift = (
        v if v.numel() == 1 else v.reshape([-1] + [1] * (weight.dim() - 1))
        for v in (node.need("quant_scale"), node.need("quant_bias"))
    )
    room_to_broadcast(weight, scale, shift)
    dense, added = weight * scale + shift, None if bias is None else bias.float()
    return Kernel(lambda x: run(x, dense, added), ("x",))


def _room_to_spread(x: Tensor, weight: Tensor, strides: Sequence[int], dilations: Sequence[int], groups: int) -> None:
    """Room for the full result of a transposed convolution."""
    spread = [
        (n - 1) * stride + (k - 1) * dilation + 1
        for n, k, stride, dilation in zip(x.shape[2:], weight.shape[2:], strides, dilations, strict=True)
    ]
    room([x.shape[0], weight.shape[1] * groups, *spread])


@op("conv_transpose")
def conv_transpose(node: Node) -> Kernel:
    """Transposed convolution: the full result, then cut (or zero-extended) to the declared size."""
    spatial = node.rank() - 2
    if spatial not in CONV_TRANSPOSE:
        raise node.refuse(f"expected rank 3 to 5, got {node.rank()}")
    function, groups = CONV_TRANSPOSE[spatial], node.integer("groups", 1)
    strides = node.integers("strides") or [1] * spatial
    dilations = node.integers("dilations") or [1] * spatial
    pad_type = node.text("pad_type", "valid").lower()
    pads = (node.integers("pad") if pad_type == "custom" else None) or [0] * (2 * spatial)
    wanted = node.integers("output_shape")
    bias = node.tensor("bias")
    channels = None if bias is None else bias.reshape([-1] + [1] * spatial)

    if wanted is None and pad_type in ("valid", "custom") and pads[::2] == pads[1::2]:
        padding = pads[::2]

        def whole(x: Tensor, weight: Tensor) -> Tensor:
            _room_to_spread(x, weight, strides, dilations, groups)
            return function(x, weight, bias, strides, padding, 0, groups, dilations)

        return Kernel(whole, ("x", "weight"))

    def run(x: Tensor, weight: Tensor) -> Tensor:
        _room_to_spread(x, weight, strides, dilations, groups)
        full = function(x, weight, None, strides, 0, 0, groups, dilations)
        cuts: list[int] = []
        for i in range(spatial):
            size = full.shape[2 + i]
            if wanted is not None:
                target = wanted[2 + i] if len(wanted) > spatial else wanted[i]
            elif pad_type == "same":
                target = x.shape[2 + i] * strides[i]
            else:
                target = size - pads[2 * i] - pads[2 * i + 1]
            start = max(0, size - target) // 2 if pad_type == "same" else pads[2 * i]
            cuts += [-start, target - (size - start)]
        room_to_pad(full.shape, cuts)
        y = F.pad(full, torch_pads(cuts))
        if channels is None:
            return y
        room_to_broadcast(y, channels)
        return y + channels

    return Kernel(run, ("x", "weight"))
