"""A user's code imports what is theirs: first from its own folder, and ours only where they have no such package.

Our packages have generic names (models, streaming). While a user's code is loaded ours are put aside; what is found
under such a name is the user's, be it beside their file, on PYTHONPATH or on a path that their code adds, and with or
without an `__init__.py`. Where they have none, ours are as they were. Light.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

OURS = ("models", "runtimes", "streaming", "converters", "hearpack")
PRIVATE = "hearpack_own"  # name of the user's file as a package; ends up in tensor names: no path, nothing random
_ROOT = Path(__file__).resolve().parents[2]
_NOT_THEIRS = tuple(
    f"{folder}/"
    for folder in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")),
        *(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib")),
        *(str(_ROOT / name) for name in OURS),
    )
)
_INSTALLED = ("/site-packages/", "/dist-packages/")
_loaded: set[str] = set()  # modules of users outside their folders; they are imported anew at the next load


def is_installed(file: str) -> bool:
    """Whether a file came with a distribution."""
    return any(part in file for part in _INSTALLED)


def is_theirs(file: str) -> bool:
    """Whether a Python file is the user's: not Python's, not installed, not ours."""
    return not file.startswith(("<", *_NOT_THEIRS)) and not is_installed(file)


def file_of(module: Any) -> Path | None:
    """The Python file of a module, if it is the user's."""
    name = said(module, "__file__")
    if not isinstance(name, str) or not name.endswith(".py") or not is_theirs(name):
        return None
    file = Path(name).resolve()
    return file if is_theirs(str(file)) else None


def said(module: object, name: str) -> Any:
    """An attribute that a module has already; asking a lazy one by getattr would import what it stands for."""
    return getattr(module, "__dict__", {}).get(name)


@contextlib.contextmanager
def users_imports(folder: Path | None) -> Iterator[Callable[[], list[types.ModuleType]]]:
    """The user's folder first on the path (None: the working folder last), and our packages put aside.

    Yields:
        a function that gives the user's modules which were imported meanwhile.
    """
    for name in _loaded:
        sys.modules.pop(name, None)
    _loaded.clear()
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in OURS}
    before, wrote, path = dict(sys.modules), sys.dont_write_bytecode, list(sys.path)
    sys.dont_write_bytecode = True  # a .pyc is judged by its second and size: an edit within the second would be missed
    if folder is not None:
        sys.path.insert(0, str(folder))
    elif "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    finder = _TheirsFirst(hidden)
    sys.meta_path.insert(0, finder)
    importlib.invalidate_caches()

    def fresh() -> list[tuple[str, types.ModuleType]]:
        return [(name, m) for name, m in list(sys.modules.items()) if before.get(name) is not m]

    try:
        yield lambda: [module for _, module in fresh() if file_of(module) is not None]
    finally:
        sys.meta_path.remove(finder)
        sys.dont_write_bytecode, sys.path[:] = wrote, path
        for name, module in fresh():
            top = name.split(".")[0]
            if top in OURS:
                if not _is_ours(module):
                    del sys.modules[name]
            elif top != PRIVATE and _is_theirs(module):
                if folder is not None and _lies_below(module, folder):
                    del sys.modules[name]
                else:
                    _loaded.add(name)
        sys.modules.update(hidden)


class _TheirsFirst(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the user's package under a name of ours; ours, as it was, where they have none."""

    def __init__(self, hidden: dict[str, types.ModuleType]) -> None:
        self.hidden = hidden

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The user's on the path as it is now, a folder without `__init__.py` too."""
        if path is not None or fullname not in OURS:
            return None
        places = [place for place in sys.path if not (Path(place or ".") / "hearpack" / "__init__.py").is_file()]
        spec = importlib.machinery.PathFinder.find_spec(fullname, places, target)
        if spec is not None or fullname not in self.hidden:
            return spec
        sys.modules.update((n, m) for n, m in self.hidden.items() if n.startswith(f"{fullname}."))
        return importlib.util.spec_from_loader(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """The module that was put aside."""
        return self.hidden[spec.name]

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: it was executed long ago."""


def _places(module: types.ModuleType) -> list[str]:
    """The file of a module, or the folders of a package that has none."""
    name = said(module, "__file__")
    if isinstance(name, str):
        return [name]
    try:
        return [str(place) for place in said(module, "__path__") or ()]
    except (KeyError, TypeError):  # a package inside one that is gone
        return []


def _is_ours(module: types.ModuleType) -> bool:
    return any(place.startswith(str(_ROOT / name)) for place in _places(module) for name in OURS)


def _is_theirs(module: types.ModuleType) -> bool:
    places = _places(module)
    return (
        bool(places)
        and all(place.endswith(".py") or not Path(place).suffix for place in places)
        and all(is_theirs(place) for place in places)
    )


def _lies_below(module: types.ModuleType, folder: Path) -> bool:
    return all(Path(place).resolve().is_relative_to(folder) for place in _places(module))
