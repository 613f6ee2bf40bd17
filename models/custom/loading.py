"""A user's net from a file or a module of theirs, loaded so that nothing of theirs meets anything of ours.

A file is loaded under a private module name. What it imports from its own folder is found there first, even if it is
called `models` or `streaming` as our packages are; afterwards all of it leaves sys.modules and ours are back.
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

OURS = ("models", "runtimes", "streaming", "converters", "hearpack")
Sources = tuple[tuple[str, str], ...]  # path below the folder, sha256
_OFFERED = (
    "CumulativeNorm",
    "ISTFT",
    "STFT",
    "StreamGeometry",
)  # of hearpack: what a net may import, whatever it calls its packages
_PRIVATE = "hearpack_own"  # ends up in tensor names: no path, nothing random
_MODELS = Path(__file__).parents[1]  # our own frames in a traceback


@dataclass(frozen=True)
class Target:
    """What to load.

    Attributes:
        module: "net.py" file, dotted module name, or .keras file.
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
        return name if self.is_keras else f"{name}:{self.callable_name}"

    @property
    def is_keras(self) -> bool:
        return self.module.endswith(".keras")

    @property
    def stem(self) -> str:
        """A default name for the model: of the file, or of its folder where the file is called net.py or model.py."""
        if not self.is_file:
            return self.module.rpartition(".")[2].lower()
        path = Path(self.module).resolve()
        return (path.parent.name if path.stem in ("net", "model") else path.stem).lower().replace(" ", "-")


def is_custom(text: str) -> bool:
    """Whether an argument names a net of the user's own, rather than a model of the catalogue."""
    return text.endswith((".py", ".keras")) or ":" in text


def parse_target(text: str) -> Target:
    """ "path/net.py:build", "path/net.py", "package.module:build" or "path/model.keras".

    Raises:
        UsageError: no such file, a name that is one of ours, or none of these.
    """
    if text.endswith(".keras"):
        module, function = text, ""
    else:
        module, _, function = text.rpartition(":") if ":" in text and not text.endswith(".py") else (text, "", "build")
    if module.endswith((".py", ".keras")):
        if not Path(module).is_file():
            raise UsageError(f"{module}: no such file; expected path/net.py:build or path/model.keras")
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
    """

    module: types.ModuleType
    result: Any
    sources: Sources

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
    for name in _OFFERED if "hearpack" in sys.modules else ():
        getattr(sys.modules["hearpack"], name)  # found once, it stays there while packages of ours are hidden
    if target.is_file:
        file = Path(target.module).resolve()
        with _private_imports(file.parent) as taken:
            module = _execute(file)
            result = _call(module, target)
            files = {file, *_files_below(file.parent, taken())}
        return Loaded(module, result, _sources(file.parent, files))
    top = target.module.split(".")[0]
    with _working_folder():
        try:
            module = importlib.import_module(target.module)
        except Exception as exc:  # a user's module may raise anything
            raise UsageError(f"{target.module}: cannot be imported: {_line(exc)}") from exc
        result = _call(module, target)
    own = [m for name, m in sys.modules.items() if name == top or name.startswith(f"{top}.")]
    root = Path(getattr(sys.modules[top], "__file__", None) or next(iter(sys.modules[top].__path__))).resolve().parent
    return Loaded(module, result, _sources(root, _files_below(root, own)))


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


def _execute(file: Path) -> types.ModuleType:
    name = f"{_PRIVATE}.{file.stem}"
    package = types.ModuleType(_PRIVATE)
    package.__path__ = [str(file.parent)]  # so that `from . import layers` works
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file.name}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    for known in [m for m in sys.modules if m == _PRIVATE or m.startswith(f"{_PRIVATE}.")]:
        del sys.modules[known]
    sys.modules[_PRIVATE], sys.modules[name] = package, module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:  # a user's file may raise anything
        raise UsageError(f"{file.name}: cannot be loaded: {_line(exc)}") from exc
    return module


def _call(module: types.ModuleType, target: Target) -> Any:
    function = getattr(module, target.callable_name, None)
    if not callable(function):
        offers = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UsageError(
            f"{target.factory}: there is no callable {target.callable_name!r}; "
            f"it offers: {', '.join(offers[:8]) or 'none'}"
        )
    try:
        return function()
    except Exception as exc:  # a user's factory may raise anything
        raise ConversionError(f"{target.factory}: {target.callable_name}() failed: {_line(exc)}") from exc


def _line(exc: Exception) -> str:
    """The kind, the message, and the line of the user's file where it happened."""
    trace, place = exc.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code.co_filename
        if not code.startswith("<") and _MODELS not in Path(code).parents:
            place = f" ({Path(code).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(exc).__name__}: {exc}{place}"


@contextlib.contextmanager
def _private_imports(folder: Path) -> Iterator[Any]:
    """The user's folder first on the path, and names of ours that it has too put aside.

    Yields:
        a function that gives the modules which came from the folder.
    """
    hidden_names = [n for n in OURS if (folder / n).is_dir() or (folder / f"{n}.py").is_file()]

    def belongs(name: str) -> bool:
        return name.split(".")[0] in hidden_names

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if belongs(name)}
    before, wrote = set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a .pyc is judged by its second and size: an edit within the second would be missed
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()

    def taken() -> list[types.ModuleType]:
        return [m for name, m in list(sys.modules.items()) if name not in before and _file_of(m, folder) is not None]

    try:
        yield taken
    finally:
        sys.dont_write_bytecode = wrote
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            private = name == _PRIVATE or name.startswith(f"{_PRIVATE}.")
            if name not in before and not private and (belongs(name) or _file_of(module, folder) is not None):
                del sys.modules[name]
        sys.modules.update(hidden)


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


def _file_of(module: Any, folder: Path) -> Path | None:
    name = getattr(module, "__file__", None)
    if not isinstance(name, str):
        return None
    file = Path(name).resolve()
    inside = file.is_relative_to(folder) and "site-packages" not in file.parts
    return file if inside and file.suffix == ".py" else None


def _files_below(folder: Path, loaded: list[types.ModuleType]) -> set[Path]:
    files = (_file_of(module, folder) for module in loaded)
    return {file for file in files if file is not None}


def _sources(root: Path, files: set[Path]) -> Sources:
    return tuple((file.relative_to(root).as_posix(), sha256_file(file)) for file in sorted(files))
