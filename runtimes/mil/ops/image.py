"""Images resized, cropped, moved. Half-precision rounding applies to the result, not to the places sampled."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from runtimes.mil.limits import room
from runtimes.mil.ops.grids import SAMPLING_MODES, reflected, sample, spread, stretch
from runtimes.mil.ops.table import Kernel, Node, op

# How far a place may lie outside by rounding before it counts as outside.
SLACK = 1e-4
COORDINATES = ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one")
PADDINGS = ("constant", "border", "reflection", "symmetric")
BOXES = ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST")


def _choice(node: Node, parameter: str, default: str, known: tuple[str, ...]) -> str:
    text = node.text(parameter, default)
    found = [k for k in known if k.lower() == text.lower()]
    if not found:
        raise node.refuse(f"unknown {parameter} {text!r}; known: {', '.join(known)}")
    return found[0]


def _resized(x: Tensor, height: int, width: int, mode: str, linear: bool) -> Tensor:
    return stretch(stretch(x, x.dim() - 2, height, mode, linear), x.dim() - 1, width, mode, linear)


def _scaled(node: Node, mode: str, linear: bool) -> Kernel:
    tall, wide = node.number("scale_factor_height", 1.0), node.number("scale_factor_width", 1.0)

    def run(x: Tensor) -> Tensor:
        height, width = math.floor(x.shape[-2] * tall), math.floor(x.shape[-1] * wide)
        return _resized(x, height, width, mode, linear)

    return Kernel(run, ("x",))


@op("upsample_nearest_neighbor", rounds=False)
def upsample_nearest_neighbor(node: Node) -> Kernel:
    """The last two axes scaled, each new pixel from the one that its first edge falls on."""
    return _scaled(node, "FLOOR", linear=False)


@op("upsample_bilinear")
def upsample_bilinear(node: Node) -> Kernel:
    """The last two axes scaled; the scale that counts is the one of the sizes, which are whole."""
    align = node.flag("align_corners", True)
    half_pixels = node.flag("half_pixel_centers", not align)
    if align and half_pixels:
        raise node.refuse("align_corners and half_pixel_centers exclude each other")
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half_pixels else "DEFAULT"
    return _scaled(node, mode, linear=True)


@op("resize_nearest_neighbor", rounds=False)
def resize_nearest_neighbor(node: Node) -> Kernel:
    """The last two axes brought to a size."""
    height, width = node.integer("target_size_height", 1), node.integer("target_size_width", 1)
    return Kernel(lambda x: _resized(x, height, width, "DEFAULT", False), ("x",))


@op("resize_bilinear")
def resize_bilinear(node: Node) -> Kernel:
    """The last two axes brought to a size."""
    height, width = node.integer("target_size_height", 1), node.integer("target_size_width", 1)
    mode = _choice(node, "sampling_mode", "DEFAULT", SAMPLING_MODES)
    return Kernel(lambda x: _resized(x, height, width, mode, True), ("x",))


@op("resize")
def resize(node: Node) -> Kernel:
    """The last `resized_dims` axes brought to the last sizes of `shape`; a size of 0 leaves the axis."""
    count = node.integer("resized_dims", 0)
    linear = _choice(node, "interpolation_mode", "LINEAR", ("LINEAR", "NEAREST_NEIGHBOR")) == "LINEAR"
    mode = _choice(node, "sampling_mode", "DEFAULT", SAMPLING_MODES)
    whole = linear and not node.is_float()

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = shape.tolist()
        if not 0 <= count <= len(sizes) <= x.dim():
            raise ValueError(f"resized_dims {count}, {len(sizes)} sizes and rank {x.dim()} do not fit")
        y = x.float() if whole else x
        for size, axis in zip(sizes[len(sizes) - count :], range(x.dim() - count, x.dim()), strict=True):
            if size < 0:
                raise ValueError(f"size {size} is negative")
            y = stretch(y, axis, size, mode, linear) if size else y
        return y.to(x.dtype)

    return Kernel(run, ("x", "shape"))


@op("crop", rounds=False)
def crop(node: Node) -> Kernel:
    """The last two axes without their borders."""
    (top, bottom), (left, right) = node.integers("crop_height") or (0, 0), node.integers("crop_width") or (0, 0)

    def run(x: Tensor) -> Tensor:
        height, width = x.shape[-2] - top - bottom, x.shape[-1] - left - right
        return x.narrow(-2, top, height).narrow(-1, left, width)

    return Kernel(run, ("x",))


def _corners(boxes: Tensor, mode: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First and last row, first and last column of boxes [n, 4]."""
    a, b, c, d = boxes.double().unbind(-1)
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    return (a - c / 2, a + c / 2, b - d / 2, b + d / 2) if mode.startswith("CENTER") else (a, c, b, d)


@op("crop_resize")
def crop_resize(node: Node) -> Kernel:
    """Boxes of the images, each brought to one size. Until iOS 16 the boxes come as `roi`, for all images at once."""
    count = (node.integer("target_height", 1), node.integer("target_width", 1))
    scale = node.number("spatial_scale", 1.0)
    normalized, fill = node.flag("normalized_coordinates", False), node.number("pad_value", 0.0)
    layout = _choice(node, "box_coordinate_mode", BOXES[0], BOXES)
    mode = _choice(node, "sampling_mode", "DEFAULT", SAMPLING_MODES)

    def places(first: Tensor, last: Tensor, size: int, count: int) -> Tensor:
        factor = scale * (size - 1 if normalized else 1)
        first, last = first * factor, last * factor
        if mode == "UNALIGN_CORNERS":
            # Seen in coremltools' own test (TestCropResize of iOS 15): an end outside the image is the image's end.
            first = torch.where((first < 0) | (first > size - 1), torch.zeros_like(first), first)
            last = torch.where((last < 0) | (last > size - 1), torch.full_like(last, size - 1), last)
        return spread(first, last, count, mode)

    def cut(x: Tensor, boxes: Tensor, index: Tensor) -> Tensor:
        room([boxes.shape[0], x.shape[1], *count])
        room([boxes.shape[0], *x.shape[1:]])
        top, bottom, left, right = _corners(boxes, layout)
        height, width = x.shape[2:]
        py, px = places(top, bottom, height, count[0]), places(left, right, width, count[1])
        in_y, in_x = (
            (p >= -SLACK) & (p <= n - 1 + SLACK) for p, n in ((py, height), (px, width))
        )  # fmt: skip
        inside = in_y.unsqueeze(2) & in_x.unsqueeze(1)
        grid_y = torch.clamp(py, 0, height - 1).unsqueeze(2).expand(inside.shape)
        grid_x = torch.clamp(px, 0, width - 1).unsqueeze(1).expand(inside.shape)
        values = sample(x.index_select(0, index.long()), grid_x, grid_y, linear=True)
        return torch.where(inside.unsqueeze(1), values, torch.full((), fill))

    if node.has("boxes"):
        if node.has("box_indices"):
            return Kernel(cut, ("x", "boxes", "box_indices"))
        return Kernel(lambda x, boxes: cut(x, boxes, torch.arange(boxes.shape[0])), ("x", "boxes"))

    def run(x: Tensor, roi: Tensor) -> Tensor:
        rows = roi.flatten(1)
        if rows.shape[1] == 5:
            return cut(x, rows[:, 1:], rows[:, 0]).unsqueeze(1)
        room([rows.shape[0], *x.shape[:2], *count])
        images = [cut(x, rows, torch.full((rows.shape[0],), b)) for b in range(x.shape[0])]
        return torch.stack(images, 1)

    return Kernel(run, ("x", "roi"))


def _pixel_places(at: Tensor, size: int, mode: str, align: bool) -> Tensor:
    """Coordinates along an axis in pixels."""
    if mode == "unnormalized":
        return at.double()
    share = (at.double() + 1.0) / 2.0 if mode == "normalized_minus_one_to_one" else at.double()
    return share * (size - 1) if align else share * size - 0.5


@op("resample")
def resample(node: Node) -> Kernel:
    """Images at the given (x, y) coordinates."""
    linear = _choice(node, "sampling_mode", "bilinear", ("bilinear", "nearest")) == "bilinear"
    padding, mode = (
        _choice(node, "padding_mode", "constant", PADDINGS),
        _choice(node, "coordinates_mode", COORDINATES[0], COORDINATES),
    )
    align, fill = node.flag("align_corners", False), node.number("padding_value", 0.0)

    def placed(at: Tensor, size: int) -> Tensor:
        place = _pixel_places(at, size, mode, align)
        if padding == "constant":
            return place
        if padding == "border":
            return torch.clamp(place, 0.0, size - 1.0)
        return reflected(place, size, about_edges=padding == "symmetric")

    def run(x: Tensor, coordinates: Tensor) -> Tensor:
        room([max(x.shape[1], 8), coordinates.numel() // 2])
        px, py = placed(coordinates[..., 0], x.shape[3]), placed(coordinates[..., 1], x.shape[2])
        return sample(x, px, py, linear, fill)

    return Kernel(run, ("x", "coordinates"))


@op("affine")
def affine(node: Node) -> Kernel:
    """Images under an affine map of coordinates from -1 to 1, zero outside."""
    height, width = node.integer("output_height", 1), node.integer("output_width", 1)
    for parameter, only in (
        ("sampling_mode", "bilinear"),
        ("padding_mode", "constant"),
        ("coordinates_mode", "normalized_minus_one_to_one"),
    ):
        _choice(node, parameter, only, (only,))
    if node.number("padding_value", 0.0) != 0.0 or not node.flag("align_corners", True):
        raise node.refuse("expected padding_value 0 and align_corners true: Core ML supports nothing else")
    room([16, height, width])  # the places take eight such values of eight bytes
    one = torch.ones(height, width, dtype=torch.float64)
    rows = torch.linspace(-1.0, 1.0, height, dtype=torch.float64).unsqueeze(1) * one
    columns = torch.linspace(-1.0, 1.0, width, dtype=torch.float64) * one
    places = torch.stack([columns, rows, one])  # [3, h, w]

    def run(x: Tensor, matrix: Tensor) -> Tensor:
        room([x.shape[0], max(x.shape[1], 8), height, width])
        maps = matrix.double().reshape(-1, 2, 3).expand(x.shape[0], 2, 3)
        moved = torch.einsum("nij,jhw->nihw", maps, places)
        px, py = (_pixel_places(moved[:, i], x.shape[3 - i], COORDINATES[1], True) for i in (0, 1))
        return sample(x, px, py, linear=True)

    return Kernel(run, ("x", "transform_matrix"))
