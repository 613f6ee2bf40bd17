"""Weights by name, compared with the names and shapes that a net expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import WeightsError

_COUNTER = ".num_batches_tracked"


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
