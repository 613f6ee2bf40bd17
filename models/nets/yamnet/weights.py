"""YAMNet's layers and tensors by name, and the way to them from the authors' Keras checkpoint. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import WeightsError
from models.nets.yamnet.entry import YAMNET
from models.weights.tensors import MOBILENET_BLOCKS, MOBILENET_STEM, check_tensors, refuse_negative

CLASSES = YAMNET.output.shape[-1]


def conv_names() -> tuple[str, ...]:
    """The 27 convolutions in order: "stem", "block1.depthwise", "block1.pointwise", ... "block13.pointwise"."""
    numbers = range(1, len(MOBILENET_BLOCKS) + 1)
    return ("stem", *(f"block{number}.{part}" for number in numbers for part in ("depthwise", "pointwise")))


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a YAMNet weights file, axes in PyTorch's order, batch normalisation not folded.

    Each convolution has `.weight` and its batch normalisation's `.bias`, `.mean` and `.variance` (there is no
    gamma); "classifier" has `.weight` and `.bias`.
    """
    kernels = [(MOBILENET_STEM, 1, 3, 3)]
    inputs = MOBILENET_STEM
    for outputs, _ in MOBILENET_BLOCKS:
        kernels += [(inputs, 1, 3, 3), (outputs, inputs, 1, 1)]
        inputs = outputs
    shapes: dict[str, tuple[int, ...]] = {}
    for name, kernel in zip(conv_names(), kernels, strict=True):
        shapes[f"{name}.weight"] = kernel
        shapes |= {f"{name}.{part}": kernel[:1] for part in ("bias", "mean", "variance")}
    return shapes | {"classifier.weight": (CLASSES, inputs), "classifier.bias": (CLASSES,)}


def check(weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The weights as contiguous float32 arrays; WeightsError if they are not YAMNet's (`check_tensors`)."""
    checked = check_tensors("yamnet", weights, expected_shapes(), "are they of another net? Pull the weights again")
    refuse_negative("yamnet", checked, ".variance")
    return checked


def from_checkpoint(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Rename and reorder a Keras checkpoint's `layer_with_weights-N/...` (0 to 54, in the order of the layers).

    Args:
        tensors: what `read_checkpoint` gives with the prefix "layer-1/layer/_func/_yamnet/".

    Raises:
        WeightsError: a tensor is missing or of another shape.
    """
    axes = {"kernel": (3, 2, 0, 1), "depthwise_kernel": (2, 3, 0, 1)}
    weights: dict[str, NDArray[np.float32]] = {}
    try:
        for index, name in enumerate(conv_names()):
            kind = "depthwise_kernel" if name.endswith("depthwise") else "kernel"
            weights[f"{name}.weight"] = tensors[f"layer_with_weights-{2 * index}/{kind}"].transpose(axes[kind])
            for part, theirs in (("bias", "beta"), ("mean", "moving_mean"), ("variance", "moving_variance")):
                weights[f"{name}.{part}"] = tensors[f"layer_with_weights-{2 * index + 1}/{theirs}"]
        weights["classifier.weight"] = tensors["layer_with_weights-54/kernel"].T
        weights["classifier.bias"] = tensors["layer_with_weights-54/bias"]
    except (KeyError, ValueError) as exc:
        raise WeightsError(f"yamnet: the checkpoint is of another net: {exc}") from exc
    return check(weights)
