"""What this machine can and cannot do, and what to install."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from models import pretrained
from models.catalog import CATALOG
from models.common.progress import Progress, silent
from models.weights.fetch import cache_dir
from runtimes.coreai.deps import missing_because


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
    (
        "export to Core AI and run it (experimental)",
        ("coreai", "coreai_torch"),
        missing_because() or "pip install 'hearpack[coreai]'",
    ),
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
    "coreai": "coreai-core",
    "coreai_torch": "coreai-torch",
}


# How a library is used where loading it is not enough, or a part of it loads alone.
_TRIED = {
    "coreai": "import coreai.authoring, coreai.runtime",
    "ai_edge_litert": "import ai_edge_litert.interpreter, ai_edge_litert.compiled_model",
    "sounddevice": "import sounddevice\nsounddevice.check_input_settings()",
    "soundfile": "import io, numpy, soundfile\nsoundfile.write(io.BytesIO(), numpy.zeros(8), 8000, format='FLAC')",
}
_CURES = (
    ("PortAudio library not found", "install it (Debian: apt install libportaudio2)"),
    ("Error querying device", "no input device is connected, or none is permitted"),
)
_PATIENCE_S = 300.0


def _version(module: str) -> str:
    name = _DISTRIBUTIONS.get(module, module)
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name


def _abilities(quick: bool, progress: Progress) -> list[Ability]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        checks = []
        for ability in pool.map(lambda a: _ability(a[0], a[1], a[2], quick), _ABILITIES):
            checks.append(ability)
            progress("trying", len(checks) / len(_ABILITIES))
    mac = platform.system() == "Darwin" and importlib.util.find_spec("coremltools") is not None
    checks.append(
        Ability("run .mlpackage in Core ML itself", mac, "macOS" if mac else "needs macOS; the evaluator runs it here")
    )
    return checks


def _ability(what: str, modules: tuple[str, ...], remedy: str, quick: bool) -> Ability:
    """What is installed, and what a fresh process says when it uses it."""
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        return Ability(what, False, f"missing {', '.join(missing)}: {remedy}")
    found = ", ".join(map(_version, modules))
    if quick:
        return Ability(what, True, f"{found} (not tried)")
    code = "\n".join(_TRIED.get(m, f"import {m}") for m in modules)
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Ability(what, False, f"{found} did not load within {_PATIENCE_S:g} s; try again on a quiet machine")
    if tried.returncode == 0:
        return Ability(what, True, found)
    said = (tried.stderr.strip().splitlines() or [f"ended with code {tried.returncode}"])[-1]
    also = next((f"; {cure}" for word, cure in _CURES if word in said), "")
    return Ability(what, False, f"{found} is here and does not work: {said}{also}")


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
            f"{free / 1e9:.1f} GB at {present}; make demo needs 0.3 GB of it",
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


def doctor(*, quick: bool = False, progress: Progress = silent) -> Diagnosis:
    """Say what this machine can and cannot do, and what to install.

    Args:
        quick: only look at what is installed; otherwise each library is loaded in a process of its own.
        progress: called with (what, fraction done).

    Returns:
        the machine and its abilities.
    """
    machine = Machine(platform.python_version(), f"{platform.system()} {platform.machine()}", os.cpu_count())
    return Diagnosis(machine, (*_abilities(quick, progress), *_storage()))
