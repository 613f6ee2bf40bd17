"""Core ML itself, on macOS."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.common.errors import ArtefactError, UsageError
from models.geometry import GraphSignature
from runtimes.mil.deps import require_coremltools
from runtimes.mil.package import open_package
from runtimes.native_output import quiet
from runtimes.protocol import Array, OpenedRuntime, Outputs, RuntimeInfo, State, check_call, handed_on

ComputeUnits = Literal["cpu", "cpu+gpu", "cpu+npu", "all"]
_UNITS = {"cpu": "CPU_ONLY", "cpu+gpu": "CPU_AND_GPU", "cpu+npu": "CPU_AND_NE", "all": "ALL"}


class CoreMLRuntime(OpenedRuntime):
    """Runs an .mlpackage with explicit state in Core ML.

    Args:
        path: the .mlpackage directory.
        signature: names and shapes of a call.
        compute_units: what Core ML may use; it chooses among them by itself.

    Raises:
        ArtefactError: this is not macOS, or Core ML refuses the package.
        MissingDependencyError: coremltools is not installed.
        UsageError: unknown compute units.
    """

    def __init__(self, path: Path | str, signature: GraphSignature, compute_units: ComputeUnits = "cpu") -> None:
        if compute_units not in _UNITS:
            raise UsageError(f"unknown compute units {compute_units!r}; expected one of: {', '.join(_UNITS)}")
        if platform.system() != "Darwin":
            raise ArtefactError(
                f"Core ML runs only on macOS, this is {platform.system()}; use the mil evaluator (mil-fp32 or mil-fp16)"
            )
        open_package(path)
        ct = require_coremltools("running a .mlpackage in Core ML")
        try:
            with quiet():
                self._model: Any = ct.models.MLModel(
                    str(path), compute_units=getattr(ct.ComputeUnit, _UNITS[compute_units])
                )
        except Exception as exc:  # coremltools documents no exception types; this is the one seam
            raise ArtefactError(f"Core ML cannot load {path}: {exc}") from exc
        info = RuntimeInfo("coreml", f"macOS {platform.mac_ver()[0]}", f"compute units: {compute_units}")
        super().__init__(signature, info)

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call; see runtimes.protocol.Runtime."""
        if self._model is None:
            raise ArtefactError("the runtime is closed")
        check_call(self.signature, block, state)
        try:
            values = self._model.predict({self.signature.inputs[0].name: block, **state})
        except Exception as exc:  # as above
            raise ArtefactError(f"Core ML failed: {exc}") from exc
        # Core ML's arrays may be read-only views of its own memory: the caller gets copies.
        outputs = {t.name: self._copy(values, t.name, t.shape) for t in self.signature.outputs}
        new = {s.name: self._copy(values, s.out_name, s.shape) for s in self.signature.states}
        return outputs, {**new, **handed_on(self.signature, state)}

    @staticmethod
    def _copy(values: dict[str, Any], name: str, shape: tuple[int, ...]) -> Array:
        if name not in values or np.shape(values[name]) != shape:
            raise ArtefactError(f"Core ML gave no {name!r} of shape {list(shape)}; it gave {sorted(values)}")
        return np.array(values[name], np.float32)

    def close(self) -> None:
        """Release the model; harmless if called twice."""
        self._model = None
