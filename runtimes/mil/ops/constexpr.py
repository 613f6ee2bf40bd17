"""Compressed weights: expanded once, at load."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from runtimes.mil.blob import unpack
from runtimes.mil.limits import room_to_broadcast
from runtimes.mil.ops.table import Kernel, Node, op


def _declared(node: Node, elements: int, output: int = 0) -> None:
    """Compare what would be expanded with the declaration before it is made."""
    if elements != node.declared_elements(output):
        kind = node.outputs[output].type
        raise node.refuse(f"declared as {kind}, its parts make {elements} elements; the package is corrupt")


def _ready(*values: Tensor) -> Kernel:
    result = values[0] if len(values) == 1 else values
    return Kernel(lambda: result, ())


def _along(value: Tensor, axis: int, rank: int) -> Tensor:
    """A scalar as it is, a vector laid along `axis` of a tensor of `rank`."""
    return value if value.dim() == 0 else value.reshape([-1 if a == axis else 1 for a in range(rank)])


def dense_from_lut(indices: Tensor, lut: Tensor, vector_axis: int | None) -> Tensor:
    """Palette entries for indices.

    Args:
        indices: integers of any shape S.
        lut: [*groups, palette, vector]; groups divide S axis by axis.
        vector_axis: the axis of S that each vector spreads along (vector > 1).
    """
    *groups, palette, vector = lut.shape
    place = torch.zeros(indices.shape, dtype=torch.int64)
    for axis, (size, group) in enumerate(zip(indices.shape, groups, strict=True)):
        place = place * group + _along(torch.arange(size) // (size // group), axis, indices.dim())
    values = lut.reshape(-1, vector)[place * palette + indices.to(torch.int64)]
    if vector == 1:
        return values.squeeze(-1)
    axis = (vector_axis or 0) % indices.dim()
    return values.movedim(-1, axis + 1).flatten(axis, axis + 1)


def dense_from_sparse(nonzero: Tensor, mask: Tensor) -> Tensor:
    """Values put where the mask is set, zero elsewhere."""
    if int((mask != 0).sum()) != nonzero.numel():
        raise ValueError(f"{nonzero.numel()} values for a mask of {int((mask != 0).sum())}")
    dense = torch.zeros(mask.shape, dtype=nonzero.dtype)
    dense[mask != 0] = nonzero.reshape(-1)
    return dense


def shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None) -> Tensor:
    """scale (data - offset), with scale and offset repeated over blocks."""
    for axis, (size, blocks) in enumerate(zip(data.shape, scale.shape, strict=True)):
        if size != blocks:
            scale = scale.repeat_interleave(size // blocks, axis)
            offset = None if offset is None else offset.repeat_interleave(size // blocks, axis)
    wide = data.to(scale.dtype)
    return scale * (wide if offset is None else wide - offset.to(scale.dtype))


@op("constexpr_affine_dequantize")
def affine_dequantize(node: Node) -> Kernel:
    """scale (data - zero_point), per tensor or along an axis."""
    data, scale, zero = node.need("quantized_data"), node.need("scale"), node.need("zero_point")
    axis = node.integer("axis", 0) % max(data.dim(), 1)
    _declared(node, data.numel())
    along = data.shape[axis] if data.dim() else 1
    if scale.numel() not in (1, along) or zero.numel() not in (1, along):
        raise node.refuse(f"{scale.numel()} scales and {zero.numel()} zero points do not fit axis {axis}")
    wide = data.to(torch.float32) - _along(zero.to(torch.float32), axis, data.dim())
    return _ready(wide * _along(scale, axis, data.dim()))


def _shift_and_scale(node: Node) -> tuple[Tensor, Tensor]:
    axis, rank = node.integer("axis", 0), node.rank("input")
    scale = _along(node.need("scale"), axis % max(rank, 1), rank)
    zero = node.tensor("zero_point")
    shift = torch.zeros(()) if zero is None else _along(zero.to(torch.float32), axis % max(rank, 1), rank)
    return shift, scale


@op("dequantize")
def dequantize(node: Node) -> Kernel:
    """scale (input - zero_point) at a call."""
    shift, scale = _shift_and_scale(node)

    def run(x: Tensor) -> Tensor:
        room_to_broadcast(x, shift, scale)
        return (x.to(torch.float32) - shift) * scale

    return Kernel(run, ("input",))


@op("quantize")
def quantize(node: Node) -> Kernel:
    """round(input / scale) + zero_point, saturated to the output type."""
    shift, scale = _shift_and_scale(node)
    signed = node.out_type.dtype == "int8"
    low, high, dtype = (-128.0, 127.0, torch.int8) if signed else (0.0, 255.0, torch.uint8)

    def run(x: Tensor) -> Tensor:
        room_to_broadcast(x, shift, scale)
        # NaN has no integer: 0, the same on every machine.
        whole = torch.nan_to_num(torch.round(x / scale) + shift, nan=0.0, posinf=high, neginf=low)
        return torch.clamp(whole, low, high).to(dtype)

    return Kernel(run, ("input",))


@op("constexpr_blockwise_shift_scale")
def blockwise_shift_scale(node: Node) -> Kernel:
    """Dequantised by blocks."""
    data = node.need("data")
    _declared(node, data.numel())
    return _ready(shift_scale(data, node.need("scale"), node.tensor("offset")))


@op("constexpr_lut_to_dense")
def lut_to_dense(node: Node) -> Kernel:
    """Palette lookup; until iOS 17 the indices are packed bits and there is one palette."""
    indices, lut = node.need("indices"), node.need("lut")
    if not node.has("shape"):
        _declared(node, indices.numel() * lut.shape[-1])
        return _ready(dense_from_lut(indices, lut, node.integer("vector_axis", 0)))
    shape = node.integers("shape") or []
    _declared(node, math.prod(shape))
    bits = max(1, round(math.log2(lut.numel())))
    whole = unpack(indices.numpy().view("uint8"), bits, math.prod(shape))
    return _ready(lut.reshape(-1)[torch.from_numpy(whole).to(torch.int64)].reshape(shape))


@op("constexpr_sparse_to_dense")
def sparse_to_dense(node: Node) -> Kernel:
    """Pruned weights; until iOS 17 the mask is packed bits."""
    nonzero, mask = node.need("nonzero_data"), node.need("mask")
    if node.has("shape"):
        shape = node.integers("shape") or []
        _declared(node, math.prod(shape))
        mask = torch.from_numpy(unpack(mask.numpy().view("uint8"), 1, math.prod(shape))).reshape(shape)
    _declared(node, mask.numel())
    return _ready(dense_from_sparse(nonzero, mask))


@op("constexpr_lut_to_sparse")
def lut_to_sparse(node: Node) -> Kernel:
    """Palette lookup of pruned indices: the mask, and the values where it is set."""
    mask, lut, axis = node.need("indices_mask"), node.need("lut"), node.integer("vector_axis", 0)
    _declared(node, mask.numel() * lut.shape[-1])
    dense = dense_from_lut(dense_from_sparse(node.need("indices_nonzero_data"), mask), lut, axis)
    if lut.shape[-1] > 1:
        mask = mask.repeat_interleave(lut.shape[-1], axis % mask.dim())
    return _ready(mask, dense[mask != 0])


@op("constexpr_sparse_blockwise_shift_scale")
def sparse_blockwise_shift_scale(node: Node) -> Kernel:
    """Dequantised pruned weights: the mask, and the values where it is set."""
    mask = node.need("data_mask")
    _declared(node, mask.numel())
    dense = shift_scale(dense_from_sparse(node.need("nonzero_data"), mask), node.need("scale"), node.tensor("offset"))
    return _ready(mask, dense[mask != 0])


@op("constexpr_cast")
def constexpr_cast(node: Node) -> Kernel:
    """Halves stored, floats meant."""
    source = node.need("source_val")
    _declared(node, source.numel())
    return _ready(source.to(torch.float32))
