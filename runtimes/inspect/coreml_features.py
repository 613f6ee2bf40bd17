"""What a Core ML description says of an input or output beyond its tensor: images, sizes allowed, defaults, labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.mil.graph import Function, Literal, ValueType

Bounds = tuple[int, int | None]


@dataclass(frozen=True)
class ImageInfo:
    """An image input or output.

    Attributes:
        colour: "RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16".
        width, height: in pixels; the usual size where others are allowed.
        widths, heights: bounds where any size between is allowed; no upper one is None.
        sizes: (width, height) where only these are allowed.
    """

    colour: str
    width: int
    height: int
    widths: Bounds | None = None
    heights: Bounds | None = None
    sizes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class TensorInfo:
    """A named input, output or state of the package; a size of None is chosen at the call.

    Attributes:
        name, shape, dtype: as the program has them.
        image: where the value is an image.
        usual_shape: the shape to take where several are allowed.
        bounds: of each axis where a range is allowed; no upper one is None.
        shapes: where only these are allowed.
        optional: True where it may be left out, with the `default` that then counts; else None.
        default: what fills an optional input.
        description: what the package says of it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    image: ImageInfo | None = None
    usual_shape: tuple[int, ...] = ()
    bounds: tuple[Bounds, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    optional: bool | None = None
    default: float | None = None
    description: str = ""


def _bounds(range_: Any) -> Bounds:
    return int(range_.lowerBound), None if range_.upperBound < 0 else int(range_.upperBound)


def _image(image: Any) -> ImageInfo:
    names = {number: name for name, number in image.ColorSpace.items()}
    colour = names.get(image.colorSpace, f"unknown colour space {image.colorSpace}")
    which = image.WhichOneof("SizeFlexibility")
    size = (int(image.width), int(image.height))
    if which == "imageSizeRange":
        range_ = image.imageSizeRange
        return ImageInfo(colour, *size, _bounds(range_.widthRange), _bounds(range_.heightRange))
    sizes = image.enumeratedSizes.sizes if which == "enumeratedSizes" else ()
    return ImageInfo(colour, *size, sizes=tuple((int(s.width), int(s.height)) for s in sizes))


def tensor(name: str, kind: ValueType, feature: Any = None) -> TensorInfo:
    """A value of the program, with what its FeatureDescription adds.

    Args:
        name: its name.
        kind: its type in the program.
        feature: its description; None where there is none.
    """
    dtype = kind.dtype or kind.kind
    if feature is None:
        return TensorInfo(name, kind.shape, dtype)
    described, optional = str(feature.shortDescription), True if feature.type.isOptional else None
    if feature.type.WhichOneof("Type") == "imageType":
        image = _image(feature.type.imageType)
        return TensorInfo(name, kind.shape, dtype, image, optional=optional, description=described)
    array = feature.type.multiArrayType
    which, default = array.WhichOneof("ShapeFlexibility"), array.WhichOneof("defaultOptionalValue")
    shapes = array.enumeratedShapes.shapes if which == "enumeratedShapes" else ()
    ranges = array.shapeRange.sizeRanges if which == "shapeRange" else ()
    return TensorInfo(
        name,
        kind.shape,
        dtype,
        usual_shape=tuple(map(int, array.shape)) if which else (),
        bounds=tuple(map(_bounds, ranges)),
        shapes=tuple(tuple(map(int, s.shape)) for s in shapes),
        optional=optional,
        default=float(getattr(array, default)) if default and optional else None,
        description=described,
    )


def class_labels(function: Function) -> tuple[str | int, ...]:
    """Class labels of a classifier, in order; () where the program classifies nothing."""
    constants = {o.name: o.value for o in function.walk() if o.type == "const"}
    for operation in function.walk():
        for binding in operation.inputs.get("classes", ()) if operation.type == "classify" else ():
            literal = binding if isinstance(binding, Literal) else constants.get(binding)
            values = literal.decode() if literal is not None else ""
            return tuple(values.tolist()) if isinstance(values, np.ndarray) else (values,)
    return ()
