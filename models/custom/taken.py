"""What a user's code imported or read while it was loaded, so that an export is known by it. Light.

Three things beside the files of its own folder: modules of the user's from elsewhere (PYTHONPATH, pip install -e), by
content; distributions that the user's modules import, by what they installed; and files that their code opened to
read, a config or an array. What an installed package reads while it is imported is its own affair.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.common.hashing import sha256_bytes, sha256_file
from models.custom.imports import file_of, is_installed, is_theirs, said

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([\w.,\t ]+))", re.MULTILINE)
_DEVICES = ("/dev/", "/proc/", "/sys/")
_LOADER = str(Path(__file__).with_name("loading.py"))
_opened: dict[str, bool] | None = None  # by path whether it was opened to be read only, while somebody wants to know


@contextlib.contextmanager
def opened_files() -> Iterator[dict[str, bool]]:
    """Collects the files that the user's code opens.

    Yields:
        by absolute path whether it was opened to be read only; filled meanwhile.
    """
    global _opened
    _listen()
    _opened = {}
    try:
        yield _opened
    finally:
        _opened = None


def digest(
    folder: Path,
    sources: Collection[Path],
    modules: Sequence[types.ModuleType],
    opened: Mapping[str, bool],
    installed: Collection[str] = (),
) -> str:
    """sha256 over what took part; the same wherever it lies.

    Args:
        folder: the user's own.
        sources: what is known of anyway, and left out.
        modules: the user's.
        opened: of `opened_files`.
        installed: packages that took part, beside those that the user's modules import.
    """
    parts, imported = [], set(installed)
    for module in modules:
        file = file_of(module)
        if file is not None:
            text = file.read_bytes()
            imported |= set(_imports(text.decode("utf-8", "replace")))
            parts += [] if file in sources else [f"module {module.__name__} {sha256_bytes(text)}"]
    parts += [f"installed {name} {version}" for name in imported if (version := _installed(name))]
    for path, read_only in opened.items():
        file = Path(path)
        if read_only and file.is_file():
            name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else ""
            parts.append(f"file {name} {sha256_file(file)}")
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


@functools.cache
def _listen() -> None:
    """Once a process: a hook cannot be taken out again."""
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is None or event != "open":
        return
    path, mode, flags = arguments
    if isinstance(path, int) or path is None:
        return
    name = os.path.realpath(os.fsdecode(path))
    if name.startswith(_DEVICES) or name.endswith((".py", ".pyc")) or not _for_the_user():
        return
    reads = not set("wax+") & set(mode) if isinstance(mode, str) else not flags & (os.O_WRONLY | os.O_RDWR)
    _opened[name] = _opened.get(name, True) and reads


def _for_the_user() -> bool:
    """Whether a line of the user's is what opens a file, through however many libraries; an import is not."""
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or name == _LOADER:
            return False
        if is_theirs(name):
            return True
        frame = frame.f_back
    return False


def _imports(text: str) -> Iterator[str]:
    for module, several in _IMPORT.findall(text):
        for name in (module,) if module else several.split(","):
            yield name.split(".")[0].split(" as ")[0].strip()


def _installed(name: str) -> str:
    """What a distribution's list of files says of it, or the version that a package states."""
    module = sys.modules.get(name)
    file = said(module, "__file__")
    if not isinstance(file, str) or not is_installed(file):
        return ""
    place = Path(file).parent if Path(file).stem != "__init__" else Path(file).parents[1]
    wanted = name.lower().replace("_", "")
    for entry in os.scandir(place):
        stem, _, rest = entry.name.partition("-")
        if rest.endswith(".dist-info") and stem.lower().replace("_", "").replace("-", "") == wanted:
            with contextlib.suppress(OSError):
                return sha256_bytes((place / entry.name / "RECORD").read_bytes())
    return str(getattr(module, "__version__", ""))
