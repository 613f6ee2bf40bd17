"""Which engine can run an artefact on this machine, and opening it."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from typing import Literal, get_args

from models.common.errors import UsageError
from models.weights.fetch import cache_dir
from runtimes.bundle import Artefact, Bundle
from runtimes.protocol import Runtime

Engine = Literal["litert-interpreter", "litert-compiled", "coreml", "mil-fp32", "mil-fp16", "coreai"]
ENGINES: tuple[str, ...] = get_args(Engine)


@dataclass(frozen=True)
class Choice:
    """An artefact and the engine that runs it."""

    artefact: Artefact
    engine: Engine


def is_half(artefact: Artefact) -> bool:
    """Whether any of the arithmetic is in half precision."""
    return "fp16" in artefact.precision.compute


def engines_for(artefact: Artefact) -> tuple[Engine, ...]:
    """Engines that run an artefact here, the usual one first.

    A .tflite runs in CompiledModel, the API of the apps, and in the classic interpreter (the only one where just
    tflite-runtime is installed). A .mlpackage runs in Core ML on macOS; the evaluator runs it anywhere, halves emulated
    where the program has them. An .aimodel runs in Apple's interpreter (`cannot_run` says where it does not).
    """
    if artefact.format == "coreai":
        return ("coreai",)
    if artefact.format == "litert":
        if importlib.util.find_spec("ai_edge_litert") is None:
            return ("litert-interpreter",)
        return ("litert-compiled", "litert-interpreter")
    mil: Engine = "mil-fp16" if is_half(artefact) else "mil-fp32"
    return ("coreml", mil) if platform.system() == "Darwin" else (mil,)


def cannot_run(artefact: Artefact) -> str:
    """Why an experimental artefact cannot be executed here; empty where it can, and for all others."""
    if artefact.format != "coreai":
        return ""
    from runtimes.coreai.deps import cannot_run as reason

    return reason()


def choose(bundle: Bundle, artefact_id: str | None = None, engine: str | None = None) -> Choice:
    """Pick an artefact and an engine, defaulting to the first LiteRT artefact.

    Raises:
        BundleError: no such artefact.
        UsageError: no such engine, or one that does not run this format.
    """
    artefacts = bundle.manifest.artefacts
    if artefact_id is None:
        order = [a for a in artefacts if a.id == "litert-fp32"] + [a for a in artefacts if a.format == "litert"]
        artefact = (order or list(artefacts))[0]
    else:
        artefact = bundle.artefact(artefact_id)
    usual = engines_for(artefact)
    if engine is None:
        return Choice(artefact, usual[0])
    valid = ("coreml", "mil-fp32", "mil-fp16") if artefact.format == "coreml" else usual
    for name in valid:
        if name == engine:
            return Choice(artefact, name)
    raise UsageError(f"engine {engine!r} cannot run artefact {artefact.id}; expected one of: {', '.join(valid)}")


def try_artefact(bundle: Bundle, artefact: Artefact) -> None:
    """Have a child open an artefact, where opening it here would run native code on a file that is not known.

    `open_runtime` does so by itself; this is for who opens it in a process that is being timed.

    Raises:
        ArtefactError: the file is damaged, or the child died of it.
    """
    if artefact.format == "litert":
        from runtimes.litert import try_file

        name = str(bundle.artefact_path(artefact))
        try_file(bundle.read_artefact(artefact), bundle.manifest.signature, artefact.io, name)


def open_runtime(bundle: Bundle, choice: Choice, threads: int = 1) -> Runtime:
    """Load an artefact.

    Args:
        bundle: the opened bundle.
        choice: artefact and engine.
        threads: compute threads.

    Raises:
        BundleError: a file does not match its hash.
        ArtefactError: the library refuses it, or killed the process that tried it first.
    """
    path = bundle.artefact_path(choice.artefact)
    signature = bundle.manifest.signature
    if choice.engine in ("litert-interpreter", "litert-compiled"):
        from runtimes.litert import LiteRTRuntime

        engine: Literal["interpreter", "compiled"] = "compiled" if choice.engine.endswith("compiled") else "interpreter"
        # Unrolled hops repeat the same weights: without the cache each is packed again (docs/latency.md).
        unrolled = engine == "compiled" and bundle.manifest.buffer.hops_per_call > 1
        cache = cache_dir() / "xnnpack" if unrolled else None
        return LiteRTRuntime(
            bundle.read_artefact(choice.artefact),
            signature,
            engine=engine,
            threads=threads,
            weight_cache=cache,
            io_names=choice.artefact.io,
            sha256=choice.artefact.files[0].sha256,
            name=str(path),
        )
    bundle.check_files([choice.artefact])
    if choice.engine == "coreai":
        from runtimes.coreai.runtime import CoreAIRuntime

        return CoreAIRuntime(path, signature)
    if choice.engine == "coreml":
        from runtimes.coreml import CoreMLRuntime

        return CoreMLRuntime(path, signature)
    from runtimes.mil import MilRuntime

    return MilRuntime(path, signature, mode="fp16" if choice.engine == "mil-fp16" else "fp32", threads=threads)
