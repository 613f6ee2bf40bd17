"""coremltools' own MLModel, predicting here instead of in Core ML.

    with patch_coremltools(mode="fp16"):
        coremltools.models.MLModel("net.mlpackage").predict({"audio": samples})

`MLModel.predict`, `make_state`, calibration and comparison stay coremltools' code; only what its native proxy
(`_MLModelProxy`) would do is done by the evaluator. coremltools' tests are run that way (tests/peers).
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, ClassVar

from models.common.errors import ArtefactError
from runtimes.mil.deps import require_coremltools
from runtimes.mil.graph import function_names
from runtimes.mil.mlmodel import MLModel, MLState
from runtimes.mil.package import NEWEST_SPECIFICATION, open_package
from runtimes.mil.program import Mode, check_mode

# What coremltools is told to run on: the newest macOS that it knows.
MACOS = (26, 0)
# The words of Core ML itself: callers and tests look for them.
REFUSED = "Unable to compute the prediction using ML Program"


class EvaluatorProxy:
    """Stands for coremltools' native `_MLModelProxy`; the program is compiled at the first prediction.

    Args:
        path: the package.
        _compute_units: ignored.
        function: function of a multi-function package; "" takes its default.
        _hints: ignored.
        asset: refused; a model in memory is Core ML's own.

    Raises:
        RuntimeError: no such function, or a model in memory.
    """

    options: ClassVar[dict[str, Any]] = {"mode": "fp32"}

    def __init__(self, path: str, _compute_units: str, function: str, _hints: Any, asset: Any) -> None:
        if asset is not None:
            raise RuntimeError("a model asset is Core ML's own and only there on macOS; pass the .mlpackage")
        self._path, self._function = path, function
        self._model: MLModel | None = None
        if function and Path(path).is_dir() and function not in function_names(open_package(path)):
            raise RuntimeError(f"no function {function!r}")

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return NEWEST_SPECIFICATION

    def loaded(self) -> MLModel:
        """The model, compiled at the first need."""
        if self._model is None:
            self._model = MLModel(self._path, function_name=self._function or None, allow_nan=True, **self.options)
        return self._model

    def predict(self, data: dict[str, Any], state: MLState | None = None) -> dict[str, Any]:
        try:
            results: dict[str, Any] = self.loaded().predict(data, state)
        except ArtefactError as exc:
            raise RuntimeError(f"{REFUSED}: {exc}") from exc
        return results

    def batchPredict(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:  # noqa: N802  their name
        return [self.predict(one) for one in data]

    def newState(self) -> MLState:  # noqa: N802  their name
        return self.loaded().make_state()

    def get_compiled_model_path(self) -> str:
        return str(self._path)  # nothing is compiled; a second proxy on this path opens the package again

    def get_load_duration_in_nano_seconds(self) -> int | None:
        return self.loaded().load_duration_in_nano_seconds

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        return None if self._model is None else self._model.last_predict_duration_in_nano_seconds


class Patch:
    """A patch in force; `undo` (or leaving its `with` block) puts coremltools back. Models opened meanwhile stay.

    Args:
        changes: module, name and value of each change.
    """

    def __init__(self, changes: list[tuple[ModuleType, str, Any]]) -> None:
        self._before = [(module, name, getattr(module, name)) for module, name, _ in changes]
        for module, name, value in changes:
            setattr(module, name, value)

    def undo(self) -> None:
        """Put back what was there; harmless if called twice."""
        for module, name, value in reversed(self._before):
            setattr(module, name, value)
        self._before = []

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def patch_coremltools(
    mode: Mode = "fp32", *, strict: bool = False, threads: int | None = 1, proxy: type[EvaluatorProxy] = EvaluatorProxy
) -> Patch:
    """Let coremltools' own MLModel predict by the evaluator, on any machine.

    Args:
        mode: number mode, see runtimes.mil.
        strict: stop at what Core ML does not define, see runtimes.mil.
        threads: torch threads during a call; None leaves the process's own setting.
        proxy: what stands for the native proxy.

    Returns:
        the patch, in force already; use it in a `with`, or call its `undo`.

    Raises:
        MissingDependencyError: coremltools is not installed.
        UsageError: unknown mode.
    """
    check_mode(mode)
    require_coremltools("patch_coremltools")
    from coremltools.models import _compiled_model, model, utils

    options = {"mode": mode, "strict": strict, "threads": threads}
    native = type("EvaluatorProxy", (proxy,), {"options": options})
    changes: list[tuple[ModuleType, str, Any]] = [
        (model, "_MLModelProxy", native),
        (_compiled_model, "_MLModelProxy", native),
    ]
    for module in (utils, model, _compiled_model):
        for name, value in (("_is_macos", lambda: True), ("_macos_version", lambda: MACOS)):
            if hasattr(module, name):
                changes.append((module, name, value))
    return Patch(changes)
