"""Outputs beside the task's own, and embeddings: kept call by call, and written as a .npz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from models.common.files import atomic_file
from runtimes.protocol import Outputs, Runtime, State

Array = NDArray[np.float32]


class KeptOutputs:
    """A runtime, some of whose outputs are kept.

    Args:
        runtime: what computes.
        names: of the outputs.

    Attributes:
        values: by name, what each call gave.
    """

    def __init__(self, runtime: Runtime, names: Sequence[str]) -> None:
        self._runtime = runtime
        self.signature, self.info = runtime.signature, runtime.info
        self.reset, self.close = runtime.reset, runtime.close
        self.values: dict[str, list[Array]] = {name: [] for name in names}

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call; see runtimes.protocol.Runtime."""
        outputs, state = self._runtime.step(block, state)
        for name, values in self.values.items():
            values.append(outputs[name])
        return outputs, state

    def stacked(self) -> dict[str, Array]:
        """By name, float32 [calls, ...]."""
        return {name: np.stack(values) for name, values in self.values.items() if values}


def check_arrays_file(path: Path, option: str) -> None:
    """Raise UsageError unless arrays can be written under such a name."""
    if path.suffix.lower() != ".npz":
        raise UsageError(f"{option}: arrays go into a .npz, got {path.name!r}")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a .npz (numpy.load reads it). Raises OutputError; nothing is left behind."""
    with atomic_file(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # its stubs know no mapping
