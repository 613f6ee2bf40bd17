"""A file of weights as arrays by name: .safetensors, or a torch checkpoint of which nothing is executed."""

from __future__ import annotations

import codecs
import importlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import MissingDependencyError, WeightsError

Arrays = dict[str, NDArray[Any]]


def existing(path: str | Path) -> Path:
    """The file, or WeightsError if there is none."""
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"{file}: expected a weights file (.safetensors, or a torch checkpoint), there is none")
    return file


def load_file(path: str | Path) -> Arrays:
    """Tensors of a .safetensors file or a torch checkpoint.

    A torch file is read with `weights_only=True`: nothing in it is executed. It holds a state_dict, as it is or under
    "state_dict", "model_state_dict" or "model"; a "module." before every name (DataParallel) is taken off.

    Args:
        path: the file.

    Returns:
        arrays by name, floating point as float32.

    Raises:
        WeightsError: no such file, not a checkpoint, truncated or holding code.
        MissingDependencyError: a torch file, and torch is not installed.
    """
    file = existing(path)
    try:
        with file.open("rb") as stream:
            magic = stream.read(9)
    except OSError as exc:
        raise WeightsError(f"{file}: cannot be read: {exc.strerror}") from exc
    is_safetensors = magic[8:] == b"{" and int.from_bytes(magic[:8], "little") < file.stat().st_size
    if is_safetensors or file.suffix == ".safetensors":
        return _load_safetensors(file)
    if magic.startswith((b"PK\x03\x04", b"\x80")):
        return _load_torch(file)
    raise WeightsError(
        f"{file}: expected a .safetensors file or a torch checkpoint, got {file.stat().st_size} bytes "
        f"that start with {magic[:4].hex(' ') or 'nothing'}; save the net with safetensors.torch.save_file"
    )


def _load_safetensors(file: Path) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file as load_arrays

    try:
        arrays = load_arrays(file)
    except (SafetensorError, ValueError, KeyError, OSError) as exc:
        raise WeightsError(
            f"{file}: is truncated, corrupt, or of a type that numpy has not ({exc}); fetch or save it again"
        ) from exc
    return {name: _float32(value) for name, value in arrays.items()}


def _float32(value: NDArray[Any]) -> NDArray[Any]:
    return value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value


def _numpy_globals() -> list[Any]:
    """What rebuilds a numpy array or number from a pickle: data, no code.

    Checkpoints of a training run often hold some beside the weights; PANNs' have their sampler's state.
    """
    multiarray: Any = importlib.import_module("numpy._core.multiarray")
    rebuilt = [
        (getattr(multiarray, function), f"{module}.multiarray.{function}")
        for function in ("_reconstruct", "scalar")
        for module in ("numpy.core", "numpy._core")
    ]
    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"]
    return [*rebuilt, np.ndarray, np.dtype, *dict.fromkeys(kinds), codecs.encode]


def _load_torch(file: Path) -> Arrays:
    try:
        import torch
    except ImportError as exc:
        raise MissingDependencyError("torch", "export", f"reading the torch checkpoint {file.name}") from exc
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            held = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        if "truncated" in str(exc):
            raise WeightsError(f"{file}: is truncated; fetch or save it again") from exc
        raise WeightsError(
            f"{file}: holds pickled Python objects, which could run code and are refused; "
            f"save the tensors alone: torch.save(net.state_dict(), ...) or safetensors"
        ) from exc
    except Exception as exc:  # the one seam to torch's reader, which raises anything on a damaged file
        raise WeightsError(
            f"{file}: is truncated or no torch checkpoint ({type(exc).__name__}); fetch or save it again"
        ) from exc
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not held or not all(isinstance(v, torch.Tensor) for v in held.values()):
        raise WeightsError(f"{file}: expected a state_dict (tensors by name), or one under 'state_dict' or 'model'")
    prefix = "module." if all(str(name).startswith("module.") for name in held) else ""
    tensors = {str(name).removeprefix(prefix): value.detach() for name, value in held.items()}
    return {name: (value.float() if value.is_floating_point() else value).numpy() for name, value in tensors.items()}
