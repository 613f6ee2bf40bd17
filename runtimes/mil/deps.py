"""The two heavy packages, imported late and without their noise."""

from __future__ import annotations

import importlib
from types import ModuleType

from models.common.errors import MissingDependencyError
from runtimes.native_output import quiet


def _require(module: str, purpose: str) -> ModuleType:
    # On Linux coremltools logs a warning for each macOS library it lacks and one for an untested torch version.
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as exc:
        raise MissingDependencyError(module, "export", purpose) from exc


def require_coremltools(purpose: str = "reading a .mlpackage") -> ModuleType:
    """coremltools, or MissingDependencyError that names the purpose."""
    return _require("coremltools", purpose)


def require_torch(purpose: str = "running a .mlpackage") -> ModuleType:
    """torch, or MissingDependencyError that names the purpose."""
    return _require("torch", purpose)
