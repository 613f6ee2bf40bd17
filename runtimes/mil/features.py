"""What goes into and comes out of `MLModel.predict`: checks and conversions by the package's own description.

Image values follow Core ML: pixels 0 to 255 as floats [1, channels, height, width]; a colour output comes as RGBA
with full alpha. Core ML does not say how it turns a float into a byte; here it is limited to 0..255 and rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError, MissingDependencyError
from runtimes.mil.limits import room

if TYPE_CHECKING:
    from runtimes.mil.program import Port

Array = NDArray[Any]
INT32 = np.iinfo(np.int32)


class FunctionNameError(ArtefactError, ValueError):
    """The package has no such function; a ValueError, as in coremltools."""


class InputNameError(ArtefactError, KeyError):
    """An input is missing or unknown; a KeyError, as in coremltools."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0])


class InputTypeError(ArtefactError, TypeError):
    """An input is of a type that it cannot be; a TypeError, as in coremltools."""


class InputValueError(ArtefactError, RuntimeError, ValueError):
    """An input has the wrong shape or holds NaN; a RuntimeError, as in coremltools."""


class PredictionError(ArtefactError, RuntimeError):
    """The program failed on these values; a RuntimeError, as in coremltools."""


def _pil() -> Any:
    try:
        from PIL import Image
    except ImportError as exc:
        raise MissingDependencyError("pillow", "export", "an image input or output") from exc
    return Image


def check_feature(feature: Any) -> None:
    """Stop at a description whose types are unknown.

    Raises:
        ArtefactError: an array type or a colour space that Core ML's format does not have.
    """
    kind = feature.type.WhichOneof("Type")
    for which, field, enum in (
        ("multiArrayType", "dataType", "ArrayDataType"),
        ("imageType", "colorSpace", "ColorSpace"),
    ):
        if kind == which:
            described = getattr(feature.type, which)
            number = getattr(described, field)
            if number not in getattr(described, enum).values():
                raise ArtefactError(f"{feature.name!r} is described with the unknown {enum} {number}; export it again")


def _sizes(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"


def shape_fault(feature: Any, shape: tuple[int, ...]) -> str:
    """Why the flexible shapes that the description lists do not admit this one, in Core ML's words; "" if they do."""
    array = feature.type.multiArrayType
    flexibility = array.WhichOneof("ShapeFlexibility")
    if flexibility == "enumeratedShapes" and all(tuple(s.shape) != shape for s in array.enumeratedShapes.shapes):
        return f"MultiArray Shape ({' x '.join(map(str, shape))}) was not in enumerated set of allowed shapes"
    if flexibility == "shapeRange" and len(array.shapeRange.sizeRanges) == len(shape):
        for axis, (allowed, n) in enumerate(zip(array.shapeRange.sizeRanges, shape, strict=True)):
            low, high = allowed.lowerBound, allowed.upperBound
            if n < low or 0 <= high < n:
                return (
                    f"Size ({n}) of dimension ({axis}) is not in allowed range ({low}..{high if high >= 0 else 'any'})"
                )
    return ""


def _as_array(name: str, value: Any) -> Array:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as exc:
        raise InputTypeError(f"input {name!r} cannot be read as an array: {exc}") from exc
    if array.dtype.kind not in "fiub":
        raise InputTypeError(f"input {name!r} is of type {array.dtype}; expected numbers")
    return array


def _as_integers(port: Port, array: Array) -> Array:
    """Whole numbers as int32, whatever type holds them; anything else is refused."""
    if array.dtype.kind == "f" and not bool(np.all(array == np.rint(array))):
        raise InputTypeError(f"input {port} takes integers; got {array.dtype} values that are not whole")
    if array.size and not (float(array.min()) >= INT32.min and float(array.max()) <= INT32.max):
        raise InputValueError(f"input {port}: a value does not fit into int32")
    return array.astype(np.int32)


def array_in(port: Port, feature: Any, value: Any, allow_nan: bool) -> Array:
    """A multi-array input as the program takes it.

    Args:
        port: the program's input.
        feature: its FeatureDescription.
        value: array, tensor, list or number, of any numeric type.
        allow_nan: whether NaN may pass.

    Raises:
        InputTypeError: no numbers, or fractions for an integer input.
        InputValueError: a wrong shape, or NaN.
    """
    array = _as_array(port.name, value)
    # Core ML's boundary has no rank 0: one element stands for a scalar, and the other way round.
    if array.size == 1 and all(n == 1 for n in port.shape) and (array.shape == () or port.shape == ()):
        array = array.reshape([1] * len(port.shape))
    if not port.admits(array.shape):
        raise InputValueError(f"input {port.name!r}: expected shape {_sizes(port.shape)}, got {_sizes(array.shape)}")
    fault = shape_fault(feature, array.shape)
    if fault:
        raise InputValueError(f"input {port.name!r}: {fault}")
    if port.dtype.startswith("fp"):
        if array.dtype.kind == "f" and not allow_nan and bool(np.isnan(array).any()):
            raise InputValueError(f"input {port.name!r} holds NaN; clean it, or load the model with allow_nan=True")
        return array.astype(np.float32)
    return array.astype(bool) if port.dtype == "bool" else _as_integers(port, array)


def _space(feature: Any) -> str:
    image = feature.type.imageType
    return str(image.ColorSpace.Name(image.colorSpace))


def image_in(port: Port, feature: Any, value: Any) -> Array:
    """A PIL image as the program takes it.

    Raises:
        InputTypeError: no PIL image, or one of the wrong mode.
        InputValueError: an image of the wrong size.
        MissingDependencyError: Pillow is not installed.
    """
    image, space = _pil(), _space(feature)
    mode = {"RGB": "RGB", "BGR": "RGB", "GRAYSCALE": "L", "GRAYSCALE_FLOAT16": "F"}.get(space)
    if mode is None:
        raise ArtefactError(f"input {port.name!r}: colour space {space} is not supported")
    if not isinstance(value, image.Image) or value.mode != mode:
        got = f"mode {value.mode}" if isinstance(value, image.Image) else type(value).__name__
        raise InputTypeError(f"image input {port.name!r} must be a PIL.Image.Image of mode {mode}; got {got}")
    pixels = np.asarray(value, np.float32)
    if space == "GRAYSCALE_FLOAT16":
        pixels = pixels.astype(np.float16).astype(np.float32)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if space == "BGR":
        pixels = pixels[::-1]
    if not port.admits((1, *pixels.shape)):
        size = f"{value.width} x {value.height}"
        raise InputValueError(
            f"image input {port.name!r}: {size} pixels do not fit [1, channels, height, width] {port}"
        )
    if not _allowed_size(feature, value.width, value.height):
        raise InputValueError(
            f"image input {port.name!r}: {value.width} x {value.height} pixels are not among the sizes the model allows"
        )
    # A program may take pixels as uint8; the compiler widens them from any integers.
    return np.ascontiguousarray(pixels[None], np.float32 if port.dtype.startswith("fp") else np.int32)


def _allowed_size(feature: Any, width: int, height: int) -> bool:
    image = feature.type.imageType
    flexibility = image.WhichOneof("SizeFlexibility")
    if flexibility == "enumeratedSizes":
        return any((s.width, s.height) == (width, height) for s in image.enumeratedSizes.sizes)
    if flexibility == "imageSizeRange":
        ranges = ((image.imageSizeRange.widthRange, width), (image.imageSizeRange.heightRange, height))
        return all(r.lowerBound <= n and (r.upperBound < 0 or n <= r.upperBound) for r, n in ranges)
    return True


def default_value(port: Port, feature: Any) -> Array | None:
    """The value of an optional input that was left out, or None where it must be given."""
    array = feature.type.multiArrayType
    if not feature.type.isOptional or feature.type.WhichOneof("Type") != "multiArrayType":
        return None
    which = array.WhichOneof("defaultOptionalValue")
    if which is None or any(n is None for n in port.shape):
        return None
    shape = [n for n in port.shape if n is not None]
    try:
        room(shape)
    except ValueError as exc:
        raise InputValueError(f"input {port.name!r} has no default that can be made: {exc}") from exc
    return np.full(shape, getattr(array, which), np.float32 if port.dtype.startswith("fp") else np.int32)


def value_out(feature: Any, value: Any) -> Any:
    """An output as coremltools hands it over.

    Args:
        feature: its FeatureDescription.
        value: what the program returned.

    Returns:
        an array of the described type (a half comes as float32, a scalar as one element), a PIL image, a label, or
        a dict of probabilities.
    """
    if not isinstance(value, np.ndarray):
        return value
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        return _image_out(feature, value)
    array = feature.type.multiArrayType
    name = array.ArrayDataType.Name(array.dataType)
    dtype = {"DOUBLE": np.float64, "INT32": np.int32, "INT8": np.int8}.get(name, np.float32)
    return value.reshape(1).astype(dtype) if value.shape == () else value.astype(dtype)


def _image_out(feature: Any, value: Array) -> Any:
    image, space = _pil(), _space(feature)
    planes = value.reshape(value.shape[-3:])
    if space == "GRAYSCALE_FLOAT16":
        return image.fromarray(planes[0].astype(np.float16).astype(np.float32))
    whole = np.rint(np.clip(np.nan_to_num(planes), 0.0, 255.0)).astype(np.uint8)
    if space == "GRAYSCALE":
        return image.fromarray(whole[0])
    colours = whole[::-1] if space == "BGR" else whole
    return image.fromarray(np.concatenate([colours, np.full_like(colours[:1], 255)]).transpose(1, 2, 0).copy())
