"""Weights files: the bytes of a safetensors file, and checkpoints of the user's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.common.errors import WeightsError
from models.common.hashing import sha256_file
from models.weights.checkpoint import existing
from models.weights.fetch import Source


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that was verified.

    Attributes:
        path: safetensors in the cache, or the user's file.
        sha256: of that file.
        sources: packages it was made from; empty for a user's file.
        licences: licence files in the cache; empty for a user's file.
    """

    path: Path
    sha256: str
    sources: tuple[Source, ...] = ()
    licences: tuple[Path, ...] = ()


class Origin(NamedTuple):
    """Where weights come from, as a manifest says it."""

    source: str
    version: str
    sha256: str
    licence: str
    citation: str


def to_safetensors(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The bytes of a safetensors file, the same for the same tensors whatever library version there is.

    Args:
        tensors: float32 arrays by name.
    """
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    at = 0
    for name in sorted(tensors):
        data = np.ascontiguousarray(tensors[name], "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def user_file(path: str | Path) -> WeightsFile:
    """A user's checkpoint as a WeightsFile; WeightsError if there is no such file."""
    file = existing(path)
    return WeightsFile(file, sha256_file(file))


def check_sidecar(file: WeightsFile, published: str) -> None:
    """Compare a published checkpoint with the sha256 that the user was given with it, in FILE.sha256.

    Nobody but the user can say what the file should be; asking for it once makes a truncated download or a renamed
    file a message here, and not a net that hears nothing.

    Args:
        file: the checkpoint.
        published: where it comes from, for the message.

    Raises:
        WeightsError: no such file beside it, or another sha256 in it.
    """
    sidecar = file.path.with_name(f"{file.path.name}.sha256")
    try:
        wanted = sidecar.read_text(encoding="utf-8").split()[:1]
    except (OSError, UnicodeDecodeError):
        wanted = []
    if wanted != [file.sha256]:
        held = f"says {wanted[0][:12]}…" if wanted else "is missing or empty"
        raise WeightsError(
            f"{file.path.name}: its sha256 is {file.sha256}, but {sidecar.name} beside it {held}; if the file is the "
            f"one of {published}, write that line: sha256sum {file.path.name} > {sidecar.name}"
        )
