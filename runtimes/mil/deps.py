"""The two heavy packages, imported late and without their noise; and coremltools' protobuf without coremltools."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
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


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """torch with so many threads, and the process's own setting back after it; None leaves it."""
    import torch

    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# coremltools' generated protobuf modules import each other relatively, so they load under any package's name.
_PROTO = "hearpack_coremltools_proto"


def require_model_proto(purpose: str = "reading a .mlpackage") -> ModuleType:
    """The module Model_pb2 of coremltools' protobuf, without running coremltools itself (seconds, and a gigabyte).

    protobuf keeps one class for a message of the default pool, so these are coremltools' own classes, whether
    coremltools is imported before, later or never.

    Raises:
        MissingDependencyError: coremltools or protobuf is not installed.
    """
    if sys.modules.get("coremltools") is not None and "coremltools.proto.Model_pb2" in sys.modules:
        return sys.modules["coremltools.proto.Model_pb2"]
    if _PROTO not in sys.modules:
        spec = importlib.util.find_spec("coremltools")
        if spec is None or spec.origin is None:
            raise MissingDependencyError("coremltools", "export", purpose)
        package = ModuleType(_PROTO)
        package.__path__ = [str(Path(spec.origin).parent / "proto")]
        sys.modules[_PROTO] = package
    try:
        return importlib.import_module(f"{_PROTO}.Model_pb2")
    except ImportError as exc:
        raise MissingDependencyError("coremltools", "export", purpose) from exc
