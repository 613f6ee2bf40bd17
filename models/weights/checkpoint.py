"""A file of weights as arrays by name: .safetensors, or a torch checkpoint of which nothing is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import WeightsError
from models.weights.torch_file import read_torch_file
from models.weights.torch_pickle import BrokenPickleError, ForeignObjectError, TensorRef

Arrays = dict[str, NDArray[Any]]


def existing(path: str | Path) -> Path:
    """The file, or WeightsError if there is none."""
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"{file}: expected a weights file (.safetensors, or a torch checkpoint), there is none")
    return file


def load_file(path: str | Path) -> Arrays:
    """Tensors of a .safetensors file or a torch checkpoint.

    Nothing in a torch file is executed, and torch is not needed. It holds a state_dict, as it is or under
    "state_dict", "model_state_dict" or "model"; a "module." before every name (DataParallel) is taken off.

    Args:
        path: the file.

    Returns:
        arrays by name, floating point as float32.

    Raises:
        WeightsError: no such file, not a checkpoint, truncated or holding code.
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


def _load_torch(file: Path) -> Arrays:
    try:
        arrays = read_torch_file(file, lambda held: _state_dict(file, held))
    except ForeignObjectError as exc:
        raise WeightsError(
            f"{file}: holds pickled Python objects ({str(exc)[:80]}), which could run code and are refused; "
            f"save the tensors alone: torch.save(net.state_dict(), ...) or safetensors"
        ) from exc
    except BrokenPickleError as exc:
        raise WeightsError(
            f"{file}: is truncated, damaged or no torch checkpoint ({exc}); fetch or save it again"
        ) from exc
    return {name: _float32(value) for name, value in arrays.items()}


def _state_dict(file: Path, held: object) -> dict[str, TensorRef]:
    """The tensors by name of what a checkpoint holds."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not held or not all(isinstance(v, TensorRef) for v in held.values()):
        raise WeightsError(f"{file}: expected a state_dict (tensors by name), or one under 'state_dict' or 'model'")
    prefix = "module." if all(str(name).startswith("module.") for name in held) else ""
    return {str(name).removeprefix(prefix): tensor for name, tensor in held.items()}
