"""Apple's two packages, imported late and without their noise; where they do not exist, that is said."""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import platform
import sys
import time
from types import ModuleType

from models.common.errors import ArtefactError, MissingDependencyError, first_line
from runtimes.native_output import quiet

OLDEST_GLIBC = (2, 34)
OLDEST_MACOS = 26
_SETTLE_S = 0.2


def missing_because() -> str:
    """Why this machine cannot have the packages at all; empty where it can."""
    wanted = f"Linux x86-64 with glibc {OLDEST_GLIBC[0]}.{OLDEST_GLIBC[1]} or newer, or macOS {OLDEST_MACOS} on arm64"
    came = f"{platform.system()} {platform.machine()}"
    if sys.version_info >= (3, 14):
        return f"Core AI is tried with Python 3.11 to 3.13, this is {platform.python_version()}"
    if sys.platform == "linux" and platform.machine() == "x86_64":
        library, version = platform.libc_ver()
        if library == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_GLIBC:
            return ""
        came += f" with {library or 'another libc'} {version}".rstrip()
    elif sys.platform == "darwin" and platform.machine() == "arm64":
        version = platform.mac_ver()[0]
        if version and int(version.split(".")[0]) >= OLDEST_MACOS:
            return ""
        came = f"macOS {version}"
    return f"Core AI's packages exist for {wanted}; this is {came}"


def require_coreai(module: str, purpose: str) -> ModuleType:
    """A module of coreai-core or coreai-torch.

    Args:
        module: "coreai.runtime", "coreai.authoring" or "coreai_torch".
        purpose: what needs it, the beginning of a sentence.

    Raises:
        ArtefactError: there is none for this machine.
        MissingDependencyError: not installed.
    """
    refuse_missing(purpose)
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as exc:  # there, and broken
        raise ArtefactError(f"{purpose}: {module} is installed and does not load: {first_line(exc)}") from exc


@functools.cache
def settle_at_exit() -> None:
    """Let Apple's threads let go of Python's objects before the process ends.

    Until Python 3.14 a thread that asks for the interpreter while it shuts down is ended by unwinding, and unwinding
    through Swift aborts the process ("C++ exception handling detected"; one end in ten without this wait).
    """
    atexit.register(time.sleep, _SETTLE_S)


def refuse_missing(purpose: str) -> None:
    """Raise what `require_coreai` raises where the packages are absent; nothing heavy is imported."""
    for module, package in (("coreai", "coreai-core"), ("coreai_torch", "coreai-torch")):
        if importlib.util.find_spec(module) is None:
            reason = missing_because()
            if reason:
                raise ArtefactError(f"{purpose}: {reason}")
            raise MissingDependencyError(package, "coreai", purpose)


def cannot_run() -> str:
    """Why this machine cannot execute an .aimodel as it is set up; empty where it can. Nothing heavy is imported."""
    if importlib.util.find_spec("coreai") is not None:
        return ""
    return missing_because() or "the extra is not installed: pip install 'hearpack[coreai]'"
