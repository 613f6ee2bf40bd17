"""A user's net from a file or a module of theirs, loaded so that nothing of theirs meets anything of ours.

A file is loaded under a private module name. What it imports from its own folder is found there first, even if it is
called `models` or `streaming` as our packages are (models/custom/imports.py); afterwards all of it leaves sys.modules.
A module ("package.module:build") is imported as Python does it, from the working folder too; a first name that is one
of ours is refused. Light itself; the user's file imports what it wants.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.common.errors import ConversionError, UsageError
from models.common.hashing import sha256_bytes, sha256_file
from models.custom.imports import OURS, PRIVATE, file_of, users_imports
from models.custom.taken import digest, opened_files

Sources = tuple[tuple[str, str], ...]  # path below the folder, sha256
ARCHIVES = (".pt", ".pth", ".ts", ".torchscript")  # TorchScript; checkpoints have the first two names as well
_OFFERED = (
    "CumulativeNorm",
    "ISTFT",
    "STFT",
    "StreamGeometry",
)  # of hearpack: what a net may import, whatever it calls its packages
_MODELS = Path(__file__).parents[1]  # our own frames in a traceback


@dataclass(frozen=True)
class Target:
    """What to load.

    Attributes:
        module: "net.py" file, dotted module name, .keras file, or TorchScript archive.
        callable_name: "build".
        is_file: whether `module` is a file.
    """

    module: str
    callable_name: str
    is_file: bool

    @property
    def factory(self) -> str:
        """As a manifest has it: the name of a file alone, no path."""
        name = Path(self.module).name if self.is_file else self.module
        return f"{name}:{self.callable_name}" if self.callable_name else name

    @property
    def is_keras(self) -> bool:
        return self.module.endswith(".keras")

    @property
    def is_archive(self) -> bool:
        """A TorchScript archive; as a .keras file, it is called by no name."""
        return self.module.endswith(ARCHIVES)

    @property
    def stem(self) -> str:
        """A default name for the model: of the file, or of its folder where the file is called net.py or model.py."""
        if not self.is_file:
            return self.module.rpartition(".")[2].lower()
        path = Path(self.module).resolve()
        return (path.parent.name if path.stem in ("net", "model") else path.stem).lower().replace(" ", "-")


def is_custom(text: str) -> bool:
    """Whether an argument names a net of the user's own, rather than a model of the catalogue."""
    return text.endswith((".py", ".keras", *ARCHIVES)) or ":" in text


def parse_target(text: str) -> Target:
    """ "path/net.py:build", "path/net.py", "package.module:build", "path/model.keras" or "path/model.pt".

    Raises:
        UsageError: no such file, a name that is one of ours, or none of these.
    """
    files = (".keras", *ARCHIVES)
    if text.endswith(files):
        module, function = text, ""
    else:
        module, _, function = text.rpartition(":") if ":" in text and not text.endswith(".py") else (text, "", "build")
    if module.endswith((".py", *files)):
        if not Path(module).is_file():
            raise UsageError(f"{module}: no such file; expected path/net.py:build, path/model.keras or path/model.pt")
        return Target(module, function, True)
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise UsageError(f"expected path/net.py:build, package.module:build or path/model.keras, got {text!r}")
    if module.split(".")[0] in OURS:
        raise UsageError(
            f"{module!r} begins with the name of a package of hearpack's own; "
            f"give the file instead: {module.replace('.', '/')}.py:{function}"
        )
    return Target(module, function, False)


@dataclass(frozen=True)
class Loaded:
    """A user's code, executed.

    Attributes:
        module: the module that holds the factory.
        result: what the factory returned.
        sources: the user's own files that took part.
        taken_sha256: over whatever else was imported or read meanwhile (models/custom/taken.py).
    """

    module: types.ModuleType
    result: Any
    sources: Sources
    taken_sha256: str

    @property
    def source_sha256(self) -> str:
        """Over names and contents of `sources`."""
        return sha256_bytes("".join(f"{path}\0{sha256}\n" for path, sha256 in self.sources).encode())


def load(target: Target) -> Loaded:
    """Execute the user's file or module and call its factory without arguments.

    Raises:
        UsageError: it cannot be imported, or has no such callable.
        ConversionError: the factory failed.
    """
    if target.is_archive:
        return _archive(Path(target.module).resolve())
    for name in _OFFERED:
        getattr(importlib.import_module("hearpack"), name)  # found once, it stays there while ours are put aside
    file = Path(target.module).resolve() if target.is_file else None
    installed: tuple[str, ...] = ()
    with users_imports(None if file is None else file.parent) as imported, opened_files() as opened:
        if file is None:
            module, top = _import(target), target.module.split(".")[0]
            result = _call(module, target)
            own = [m for name, m in sys.modules.items() if name == top or name.startswith(f"{top}.")]
            root, installed = Path(_place(sys.modules[top])).resolve().parent, (top,)
        else:
            module = _execute(file)
            result = _call(module, target)
            own, root = imported(), file.parent
        files = {found for each in own if (found := file_of(each)) is not None and found.is_relative_to(root)}
        files |= set() if file is None else {file}
        taken = digest(root, files, imported(), opened, installed)
    return Loaded(module, result, _sources(root, files), taken)


def _archive(file: Path) -> Loaded:
    """A TorchScript archive in place of what a factory returns."""
    import torch

    jit_load: Any = torch.jit.load  # untyped in torch
    try:
        net = jit_load(str(file), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as exc:
        raise UsageError(
            f"{file.name}: holds no TorchScript; if it holds weights, give the code, path/net.py:build, and this file "
            f"with --weights"
        ) from exc
    return Loaded(types.ModuleType(file.stem), net, _sources(file.parent, {file}), "")


def _place(package: types.ModuleType) -> str:
    return getattr(package, "__file__", None) or str(next(iter(package.__path__)))


def changed_sources(target: Target, sources: Sources) -> tuple[str, ...]:
    """Which of the files that once took part are not what they were; nothing is executed to find out.

    Args:
        target: what is to be loaded.
        sources: what `load` said of it then.

    Returns:
        paths of `sources`, or the file to be executed where `sources` has it not; empty where all are the same.
    """
    root, first = _root(target)
    if root is None or first not in (path for path, _ in sources):
        return (first,)
    files = ((root / path, path, sha256) for path, sha256 in sources)
    return tuple(path for file, path, sha256 in files if not file.is_file() or sha256_file(file) != sha256)


def _root(target: Target) -> tuple[Path | None, str]:
    """The folder that paths of sources are relative to, as in `load`, and the file that would be executed first."""
    if target.is_file:
        file = Path(target.module).resolve()
        return file.parent, file.name
    top, *inner = target.module.split(".")
    with _working_folder():
        try:
            spec = importlib.util.find_spec(top)  # of a first name: nothing is imported
        except (ImportError, ValueError, AttributeError):
            spec = None
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        return None, target.module
    folder = next(iter(spec.submodule_search_locations or ()), None)
    root = Path(spec.origin if spec.has_location and spec.origin else str(folder)).resolve().parent
    inside = Path(folder).resolve().relative_to(root) if folder is not None else Path()
    whole = inside.joinpath(*inner) if inner else inside / (Path(str(spec.origin)).stem)
    package = (root / whole / "__init__.py").is_file()
    return root, (whole / "__init__.py" if package else whole.with_suffix(".py")).as_posix()


def _import(target: Target) -> types.ModuleType:
    try:
        return importlib.import_module(target.module)
    except Exception as exc:  # a user's module may raise anything
        raise UsageError(f"{target.module}: cannot be imported: {_line(exc, Path())}") from exc


def _execute(file: Path) -> types.ModuleType:
    name = f"{PRIVATE}.{file.stem}"
    package = types.ModuleType(PRIVATE)
    package.__path__ = [str(file.parent)]  # so that `from . import layers` works
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file.name}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    for known in [m for m in sys.modules if m == PRIVATE or m.startswith(f"{PRIVATE}.")]:
        del sys.modules[known]
    sys.modules[PRIVATE], sys.modules[name] = package, module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:  # a user's file may raise anything
        raise UsageError(f"{file.name}: cannot be loaded: {_line(exc, file)}") from exc
    return module


def _call(module: types.ModuleType, target: Target) -> Any:
    function = getattr(module, target.callable_name, None)
    if not callable(function):
        offers = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UsageError(
            f"{target.factory}: there is no callable {target.callable_name!r}; "
            f"it offers: {', '.join(offers[:8]) or 'none'}"
        )
    file = Path(str(module.__file__))
    try:
        return function()
    except Exception as exc:  # a user's factory may raise anything
        raise ConversionError(f"{target.factory}: {target.callable_name}() failed: {_line(exc, file)}") from exc


def _line(exc: Exception, file: Path) -> str:
    """The kind, the message, and the line of the user's code where it happened; of a missing file, where it was not.

    Args:
        exc: what was raised.
        file: of the user's, that a relative path may have meant to lie beside.
    """
    trace, place = exc.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code.co_filename
        if not code.startswith("<") and _MODELS not in Path(code).parents:
            place = f" ({Path(code).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    wanted = exc.filename if isinstance(exc, FileNotFoundError) else None
    if not isinstance(wanted, str) or Path(wanted).is_absolute():
        return f"{type(exc).__name__}: {exc}{place}"
    beside = (file.parent / wanted).exists()
    offer = f"beside {file.name} it is: open it by Path(__file__).parent" if beside else f"nor is it beside {file.name}"
    return f"no {wanted!r} in the working folder {Path.cwd()}; {offer}{place}"


@contextlib.contextmanager
def _working_folder() -> Iterator[None]:
    """The working folder last on the path: the command's own does not have it."""
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.append(here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)


def _sources(root: Path, files: set[Path]) -> Sources:
    return tuple((file.relative_to(root).as_posix(), sha256_file(file)) for file in sorted(files))
