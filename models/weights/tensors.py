"""Weights by name, held against the names and shapes that a net expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import WeightsError


def check_tensors(
    net: str,
    weights: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    advice: str,
    ignored_suffix: str | None = None,
) -> dict[str, NDArray[np.float32]]:
    """The weights as contiguous float32 arrays, if they are the net's.

    Args:
        net: the net's name, for messages.
        weights: arrays by name.
        shapes: shapes by name.
        advice: what to give instead, for the message where names do not fit.
        ignored_suffix: names that end so may be there and are left out.

    Returns:
        the same arrays, float32, in the order of `shapes`.

    Raises:
        WeightsError: a tensor is missing, unknown, of another shape, not of floats or not finite.
    """
    missing = [key for key in shapes if key not in weights]
    unknown = [k for k in weights if k not in shapes and not (ignored_suffix and k.endswith(ignored_suffix))]
    if missing or unknown:
        said = [f"missing {_some(missing)}"] * bool(missing) + [f"unexpected {_some(unknown)}"] * bool(unknown)
        raise WeightsError(
            f"{net}: expected the {len(shapes)} tensors of its published form, got {len(weights)}: {'; '.join(said)}; "
            f"{advice}, or pull the weights again"
        )
    checked: dict[str, NDArray[np.float32]] = {}
    for key, shape in shapes.items():
        value = np.asarray(weights[key])
        if value.shape != shape:
            raise WeightsError(f"{net}: {key}: expected shape {list(shape)}, got {list(value.shape)}")
        if value.dtype.kind != "f":
            raise WeightsError(f"{net}: {key}: expected floats, got {value.dtype}; give weights that are not quantised")
        if not np.isfinite(value).all():
            raise WeightsError(f"{net}: {key}: holds NaN or infinity; the file is damaged, pull the weights again")
        checked[key] = np.ascontiguousarray(value, dtype=np.float32)
    return checked


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_weights(
    net: str, weights: Mapping[str, NDArray[np.float32]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Hold weights against the names and shapes that a net expects.

    Args:
        net: the net's name, for messages.
        weights: tensors by name.
        expected: shapes by name.

    Raises:
        WeightsError: tensors are missing, unknown, of another shape, not floating point or not finite.
    """
    faults = (
        ("missing", sorted(expected.keys() - weights.keys())),
        ("unknown", sorted(weights.keys() - expected.keys())),
    )
    if any(names for _, names in faults):
        listed = "; ".join(
            f"{len(names)} {fault}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for fault, names in faults
            if names
        )
        raise WeightsError(
            f"{net}: expected its {len(expected)} tensors, got {len(weights)} ({listed}); are they of another net?"
        )
    for name, shape in expected.items():
        value = weights[name]
        if value.shape != shape:
            raise WeightsError(f"{net}: {name} has shape {list(value.shape)}, expected {list(shape)}")
        if not np.issubdtype(value.dtype, np.floating) or not np.isfinite(value).all():
            raise WeightsError(
                f"{net}: {name} ({value.dtype}) must be floating point and finite; the weights are corrupt"
            )
