"""Where a resized axis takes its values from, and how images are sampled at given places.

An axis of `size` pixels has its pixel centres at 0 .. size - 1. The formulas are those that coremltools documents
for resize_bilinear; a crop is the same with a start and a length of its own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from runtimes.mil.limits import room

LONGEST_KEPT = 1 << 14
SAMPLING_MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "UNALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS")


def spread(first: Tensor, last: Tensor, count: int, mode: str) -> Tensor:
    """Places between two pixel centres.

    Args:
        first: first pixel centre, [...].
        last: last pixel centre, [...]; before the first one: backwards.
        count: how many places, at least 1.
        mode: one of SAMPLING_MODES.

    Returns:
        [..., count], not limited to the axis.
    """
    step = torch.arange(count, dtype=torch.float64)
    first, reach = first.double().unsqueeze(-1), (last.double() - first.double()).unsqueeze(-1)
    if mode == "ALIGN_CORNERS" and count == 1:
        return first + reach / 2
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        return first + step * (reach / max(count - 1, 1))
    if mode == "OFFSET_CORNERS":
        return first + (step + 0.5) * (torch.clamp_min(reach, 1.0) / count)
    length = reach + 1.0
    return first + step * (length / count) + (0.5 * length / count - 0.5 if mode == "UNALIGN_CORNERS" else 0.0)


@lru_cache(maxsize=256)
def line(size: int, count: int, mode: str) -> Tensor:
    """Places on a whole axis, inside it, float64 [count]."""
    whole = spread(torch.zeros(()), torch.tensor(size - 1.0), count, mode)
    return torch.clamp(whole, 0.0, size - 1.0)


@lru_cache(maxsize=256)
def _neighbours(size: int, count: int, mode: str) -> tuple[Tensor, Tensor, Tensor]:
    place = _kept(line, count)(size, count, mode)
    low = place.floor()
    return low.long(), torch.clamp_max(low.long() + 1, size - 1), (place - low).float()


@lru_cache(maxsize=256)
def nearest(size: int, count: int, mode: str) -> Tensor:
    """Index of the pixel that each place of a whole axis falls on, int64 [count].

    DEFAULT looks from the middle of the new pixel, as TensorFlow's half_pixel_centers; FLOOR from its first edge.
    """
    step = torch.arange(count)
    if mode == "FLOOR":
        return torch.clamp_max(step * size // count, size - 1)
    if mode == "DEFAULT":
        return (2 * step + 1) * size // (2 * count)
    return torch.clamp((_kept(line, count)(size, count, mode) + 0.5).floor().long(), 0, size - 1)


def _kept(places: Any, count: int) -> Any:
    """The function of an axis with its cache, or, for a long axis, without."""
    return places if count <= LONGEST_KEPT else places.__wrapped__


def stretch(x: Tensor, axis: int, count: int, mode: str, linear: bool) -> Tensor:
    """x with one axis resized to `count`."""
    size = x.shape[axis]
    room([x.numel() // max(size, 1), count])
    room([8, count])  # the places along the axis take four such values of eight bytes
    if not linear:
        return x.index_select(axis, _kept(nearest, count)(size, count, mode))
    low, high, weight = _kept(_neighbours, count)(size, count, mode)
    weight = weight.reshape([-1 if a == axis else 1 for a in range(x.dim())])
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weight)


def reflected(place: Tensor, size: int, about_edges: bool) -> Tensor:
    """Places outside mirrored back: about the outer pixels' centres, or about their edges."""
    low, reach = (-0.5, float(size)) if about_edges else (0.0, float(size - 1))
    if reach == 0.0:
        return torch.zeros_like(place)
    away = torch.remainder(place - low, 2.0 * reach)
    return torch.clamp(torch.where(away > reach, 2.0 * reach - away, away) + low, 0.0, size - 1.0)


def _pixels(image: Tensor, px: Tensor, py: Tensor, fill: float) -> Tensor:
    """Pixels [n, c, h, w] of images [n, c, H, W] at integer places [n, h, w]; `fill` outside."""
    n, c, height, width = image.shape
    inside = (px >= 0) & (px < width) & (py >= 0) & (py < height)
    index = torch.clamp(py, 0, height - 1) * width + torch.clamp(px, 0, width - 1)
    flat = index.reshape(n, 1, -1).expand(n, c, -1)
    values = image.reshape(n, c, -1).gather(2, flat).reshape(n, c, *px.shape[1:])
    return torch.where(inside.unsqueeze(1), values, torch.full((), fill, dtype=values.dtype))


def sample(image: Tensor, px: Tensor, py: Tensor, linear: bool, fill: float = 0.0) -> Tensor:
    """Images at any places.

    Args:
        image: [n, c, H, W].
        px: places along W, [n, h, w].
        py: places along H, [n, h, w].
        linear: bilinear, else the nearest pixel (a half goes to the even one).
        fill: value of the pixels outside.

    Returns:
        [n, c, h, w].
    """
    # Far places are all the same, and must not overflow the integers.
    px, py = torch.clamp(px, -2.0, image.shape[3] + 1.0), torch.clamp(py, -2.0, image.shape[2] + 1.0)
    if not linear:  # a place that is no number lies outside
        px, py = torch.nan_to_num(px, nan=-2.0), torch.nan_to_num(py, nan=-2.0)
        return _pixels(image, px.round().long(), py.round().long(), fill)
    x0, y0 = px.floor(), py.floor()
    wx, wy = (px - x0).float().unsqueeze(1), (py - y0).float().unsqueeze(1)
    left, top = x0.long(), y0.long()
    upper = torch.lerp(_pixels(image, left, top, fill), _pixels(image, left + 1, top, fill), wx)
    lower = torch.lerp(_pixels(image, left, top + 1, fill), _pixels(image, left + 1, top + 1, fill), wx)
    return torch.lerp(upper, lower, wy)
