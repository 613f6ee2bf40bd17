"""Weights by name, compared with the names and shapes that a net expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import WeightsError

_COUNTER = ".num_batches_tracked"


# MobileNet v1 (Howard et al., arXiv:1704.04861): channels of the stem, and (output channels, stride) of the 13
# depthwise-separable blocks behind it.
MOBILENET_STEM = 32
MOBILENET_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip


def norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Of a batch normalisation, as torch names its tensors."""
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def rnn_shapes(name: str, gates: int, inputs: int, units: int, place: str = "_l0") -> dict[str, tuple[int, ...]]:
    """Of one layer and direction of a GRU (3 gates) or LSTM (4), as torch names its tensors."""
    rows = gates * units
    weights = {f"{name}.weight_ih{place}": (rows, inputs), f"{name}.weight_hh{place}": (rows, units)}
    return weights | {f"{name}.bias_ih{place}": (rows,), f"{name}.bias_hh{place}": (rows,)}


def check_tensors(
    net: str,
    weights: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    advice: str,
) -> dict[str, NDArray[np.float32]]:
    """The weights as contiguous float32 arrays, if they are the net's.

    Args:
        net: the net's name, for messages.
        weights: arrays by name. Counters that batch norms keep for training may be among them and are left out.
        shapes: shapes by name.
        advice: what to give instead, for messages.

    Returns:
        the same arrays, float32, in the order of `shapes`.

    Raises:
        WeightsError: a tensor is missing, unknown, of another shape, not of floats or not finite.
    """
    missing = [key for key in shapes if key not in weights]
    unknown = [k for k in weights if k not in shapes and not k.endswith(_COUNTER)]
    if missing or unknown:
        said = [f"missing {_some(missing)}"] * bool(missing) + [f"unexpected {_some(unknown)}"] * bool(unknown)
        raise WeightsError(
            f"{net}: expected the {len(shapes)} tensors of its published form, got {len(weights)}: {'; '.join(said)}; "
            f"{advice}"
        )
    checked: dict[str, NDArray[np.float32]] = {}
    for key, shape in shapes.items():
        value = np.asarray(weights[key])
        if value.shape != shape:
            raise WeightsError(f"{net}: {key}: expected shape {list(shape)}, got {list(value.shape)}")
        if value.dtype.kind != "f":
            raise WeightsError(f"{net}: {key}: expected floats, got {value.dtype}; give weights that are not quantised")
        if not np.isfinite(value).all():
            raise WeightsError(f"{net}: {key}: holds NaN or infinity; the file is damaged; {advice}")
        checked[key] = np.ascontiguousarray(value, dtype=np.float32)
    return checked


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def refuse_negative(net: str, weights: Mapping[str, NDArray[Any]], suffix: str) -> None:
    """Raise WeightsError where a tensor whose name ends so, a variance, has a negative value."""
    for name in weights:
        if name.endswith(suffix) and (weights[name] < 0).any():
            raise WeightsError(f"{net}: {name} has negative values; the weights are corrupt")
