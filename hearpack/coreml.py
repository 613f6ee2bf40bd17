"""Core ML models on any machine, under one name of its own: `from hearpack.coreml import MLModel`.

hearpack's packages have general names (`models`, `runtimes`), and a project may have folders of the same names. So this
module does not take them: it loads the evaluator from where hearpack itself lies, as `hearpack._kit.models` and
`hearpack._kit.runtimes`, whatever sys.path holds and whatever was imported before. The project's `import models` stays
the project's, before and after. Where hearpack's own `models` and `runtimes` are imported already, those are used.

Its errors are in this module, too (`hearpack.coreml.HearpackError`): catch them by these names.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.common.errors import ArtefactError, HearpackError, MissingDependencyError, UsageError
    from runtimes.mil import MLModel, MLState, Mode, Program, UndefinedWarning
    from runtimes.mil.features import (
        FunctionNameError,
        InputNameError,
        InputTypeError,
        InputValueError,
        PredictionError,
    )
    from runtimes.mil.patch import Patch, patch_coremltools

_HOME = Path(__file__).resolve().parents[1]
_KIT = "hearpack._kit"
_TAKEN = ("models", "runtimes")
_SOURCES = {
    "models.common.errors": ("ArtefactError", "HearpackError", "MissingDependencyError", "UsageError"),
    "runtimes.mil": ("MLModel", "MLState", "Mode", "Program", "UndefinedWarning"),
    "runtimes.mil.features": (
        "FunctionNameError",
        "InputNameError",
        "InputTypeError",
        "InputValueError",
        "PredictionError",
    ),
    "runtimes.mil.patch": ("Patch", "patch_coremltools"),
}

__all__ = [
    "ArtefactError",
    "FunctionNameError",
    "HearpackError",
    "InputNameError",
    "InputTypeError",
    "InputValueError",
    "MLModel",
    "MLState",
    "MissingDependencyError",
    "Mode",
    "Patch",
    "PredictionError",
    "Program",
    "UndefinedWarning",
    "UsageError",
    "patch_coremltools",
]


class _Renamed(ast.NodeTransformer):
    """`from models.x import y` as `from hearpack._kit.models.x import y`."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level == 0 and node.module and node.module.split(".")[0] in _TAKEN:
            node.module = f"{_KIT}.{node.module}"
        return node


class _Loader(SourceFileLoader):
    """Compiles a source with its imports renamed, and keeps no bytecode: that is of the source as it stands."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = _Renamed().visit(ast.parse(self.get_data(path), path))
        code: CodeType = compile(tree, path, "exec", dont_inherit=True)
        return code


class _Finder(MetaPathFinder):
    """Finds `hearpack._kit.<module>` beside hearpack."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  importlib's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        parts = name.removeprefix(f"{_KIT}.").split(".")
        if not name.startswith(f"{_KIT}.") or parts[0] not in _TAKEN:
            return None
        place = _HOME.joinpath(*parts)
        file = place / "__init__.py" if (place / "__init__.py").is_file() else place.with_suffix(".py")
        if not file.is_file():
            return None
        folders = [str(place)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name, file, loader=_Loader(name, str(file)), submodule_search_locations=folders
        )


def _imported() -> bool:
    """Whether hearpack's own packages are imported under their own names."""
    files = (getattr(sys.modules.get(name), "__file__", None) for name in _TAKEN)
    return all(file and Path(file).resolve().parent == _HOME / name for file, name in zip(files, _TAKEN, strict=True))


def _prefix() -> str:
    if _imported():
        return ""
    if _KIT not in sys.modules:
        kit = ModuleType(_KIT)
        kit.__path__ = []
        sys.modules[_KIT] = kit
        sys.meta_path.insert(0, _Finder())
    return f"{_KIT}."


def _load() -> dict[str, Any]:
    prefix = _prefix()
    try:
        return {
            name: getattr(importlib.import_module(prefix + module), name)
            for module, names in _SOURCES.items()
            for name in names
        }
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.startswith(prefix or _TAKEN):
            raise ImportError(f"{_HOME} is not a whole installation of hearpack ({exc}); install it again") from exc
        raise


globals().update(_load())
