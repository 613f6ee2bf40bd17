"""What this machine can and cannot do, and what to install."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass

from models import pretrained
from models.catalog import CATALOG
from models.weights.fetch import cache_dir


@dataclass(frozen=True)
class Ability:
    """One ability.

    Attributes:
        what: what can be done.
        available: whether it can be done here.
        detail: versions, or what to install.
    """

    what: str
    available: bool
    detail: str


_ABILITIES = (
    ("run .tflite", ("ai_edge_litert",), "pip install hearpack"),
    ("read and write audio files", ("soundfile",), "pip install hearpack"),
    ("run the torch original", ("torch",), "pip install 'hearpack[export]'"),
    ("export to LiteRT", ("torch", "litert_torch"), "pip install 'hearpack[export]'"),
    ("export to Core ML", ("torch", "coremltools"), "pip install 'hearpack[export]'"),
    ("run .mlpackage in the evaluator (emulated halves)", ("torch", "coremltools"), "pip install 'hearpack[export]'"),
    ("export Keras models", ("tensorflow",), "pip install 'hearpack[keras]'"),
    ("capture from the microphone", ("sounddevice",), "pip install 'hearpack[live]'"),
    (
        "judge metadata with MediaPipe",
        ("mediapipe",),
        "pip install mediapipe (Debian also: apt install libegl1 libgles2)",
    ),
    ("PESQ in quality tables", ("pesq",), "pip install pesq (needs a C compiler)"),
    ("DNSMOS in quality tables", ("onnxruntime",), "pip install 'hearpack[export]'"),
)
_DISTRIBUTIONS = {
    "ai_edge_litert": "ai-edge-litert",
    "litert_torch": "litert-torch",
    "ai_edge_quantizer": "ai-edge-quantizer",
}


def _version(module: str) -> str:
    name = _DISTRIBUTIONS.get(module, module)
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name


def _abilities() -> list[Ability]:
    checks = []
    for what, modules, remedy in _ABILITIES:
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        detail = ", ".join(map(_version, modules)) if not missing else f"missing {', '.join(missing)}: {remedy}"
        checks.append(Ability(what, not missing, detail))
    mac = platform.system() == "Darwin" and importlib.util.find_spec("coremltools") is not None
    checks.append(
        Ability("run .mlpackage in Core ML itself", mac, "macOS" if mac else "needs macOS; the evaluator runs it here")
    )
    return checks


def _storage() -> list[Ability]:
    cache = cache_dir()
    present = cache
    while not present.exists():
        present = present.parent
    writable = os.access(present, os.W_OK)
    detail = f"{cache} ({'writable' if writable else 'NOT writable: set HEARPACK_CACHE to another folder'})"
    free = shutil.disk_usage(present).free
    checks = [Ability("keep weights and exports", writable, detail)]
    checks.append(
        Ability(
            "free disk",
            free > 1_000_000_000,
            f"{free / 1e6:.2f} MB at {present}; an export of both models needs 300 MB",
        )
    )
    for name in filter(pretrained.is_pinned, CATALOG):
        cached = pretrained.is_cached(name)
        checks.append(Ability(f"weights of {name}", cached, "in the cache" if cached else f"hearpack pull {name}"))
    return checks


@dataclass(frozen=True)
class Machine:
    """Python's version, the system, and its cores."""

    python: str
    system: str
    cores: int | None


@dataclass(frozen=True)
class Diagnosis:
    """This machine, and what it can and cannot do."""

    machine: Machine
    checks: tuple[Ability, ...]


def doctor() -> Diagnosis:
    """Say what this machine can and cannot do, and what to install.

    Returns:
        the machine and its abilities.
    """
    machine = Machine(platform.python_version(), f"{platform.system()} {platform.machine()}", os.cpu_count())
    return Diagnosis(machine, (*_abilities(), *_storage()))
