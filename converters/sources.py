"""Which of our own files take part in an export, and their digest: a changed line there is a new export. Light.

Those are the modules that `converters.export` imports, late imports included, the folder of the net that is exported,
and what lies beside them: licences, labels, model cards. Reports, simulator, installers and other nets are not.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import re
from collections.abc import Iterator
from pathlib import Path

from models.common.hashing import sha256_bytes

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("models", "runtimes", "streaming", "converters")
_KINDS = (".py", ".toml", ".json", ".f32", ".txt", ".md")
# The second is run in a process of its own.
_ROOTS = ("converters.export", "converters.litert.keras_worker")
# It names the folders of all nets; the one that is exported takes part by its own.
_LEFT_OUT = frozenset({"models.catalog"})
# Ten times as fast as a syntax tree, and the same modules (tests/converters/test_sources.py).
_OURS = f"(?:{'|'.join(_PACKAGES)})"
_WORD = re.compile(r"\w+")
_IMPORT = re.compile(
    rf"^[ \t]*(?:from[ \t]+({_OURS}[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]+)|import[ \t]+({_OURS}[\w.]*))",
    re.MULTILINE,
)


def sources_digest(package: str) -> str:
    """sha256 over the files that take part in the export of the net whose folder is `package`."""
    digest = hashlib.sha256()
    files = export_files(package)
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + sha256_bytes(files[name].read_bytes()).encode())
    return digest.hexdigest()


def export_files(package: str) -> dict[str, Path]:
    """The files that take part in the export of the net whose folder is `package`, by their place below `ROOT`."""
    tree = {name: file for ours in _PACKAGES for name, file in _tree(ROOT / ours, ours)}
    place = package.replace(".", "/")
    if f"{place}/__init__.py" not in tree:  # a net that does not lie beside ours
        tree.update(_tree(Path(str(importlib.resources.files(package))), place))
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in tree}
    todo = [*_ROOTS, *(module for module, name in modules.items() if name.startswith(f"{place}/"))]
    found: dict[str, Path] = {}
    while todo:
        module = todo.pop()
        name = modules.get(module, "")
        if name.endswith(".py") and name not in found and module not in _LEFT_OUT:
            found[name] = tree[name]
            todo += [module.rpartition(".")[0], *_imports(tree[name])]  # a package is imported with what is in it
    folders = {name.rpartition("/")[0] for name in found}
    packages = {name.rpartition("/")[0] for name in tree if name.endswith("/__init__.py")}
    for name, file in tree.items():
        folder = name.rpartition("/")[0]
        while folder not in packages:
            folder = folder.rpartition("/")[0]
        if folder in folders and not name.endswith(".py"):
            found[name] = file
    return found


def _tree(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Modules and data files below a folder, by their place."""
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _tree(Path(entry.path), f"{name}/{entry.name}")
        elif entry.name.endswith(_KINDS):
            yield f"{name}/{entry.name}", Path(entry.path)


def _imports(file: Path) -> Iterator[str]:
    """Names of ours that a module imports; of `from a import b` both a and a.b, which may be a module too."""
    for module, members, plain in _IMPORT.findall(file.read_text(encoding="utf-8")):
        yield module or plain
        yield from (f"{module}.{member}" for member in _WORD.findall(members))
