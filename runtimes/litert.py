"""LiteRT (TensorFlow Lite) as a runtime: the classic interpreter, and CompiledModel, the API of phones.

Tensors are found by signature name, never by position. A file is walked with every offset checked
before the library sees it, because the library takes the process down on some damaged files.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.common.errors import ArtefactError, MissingDependencyError, first_line
from models.common.hashing import sha256_bytes
from models.geometry import GraphSignature
from runtimes.inspect.tflite import Signature, Walk, aliased_outputs, load_bytes, walk
from runtimes.native_output import quiet
from runtimes.protocol import Array, OpenedRuntime, Outputs, RuntimeInfo, State, check_call, handed_on
from runtimes.trial import try_first
from runtimes.weight_cache import WeightCache

Engine = Literal["interpreter", "compiled"]
Mark = Callable[[str], None]
_Call = Callable[[Array, State], list[Array]]
# Where Interpreter lives, newest name first: (module, distribution).
_HOMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
    ("tensorflow.lite.python.interpreter", "tensorflow"),
)


@dataclass(frozen=True)
class _Names:
    """The file's names of our tensors, in the order of the signature."""

    key: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _walked(
    path: Path | bytes, signature: GraphSignature, io_names: Mapping[str, str], name: str | None
) -> tuple[bytes, str, Walk, _Names]:
    """A file's bytes, its name for messages, its walk, and where our tensors are in it."""
    data = load_bytes(path)
    what = name or ("the .tflite" if isinstance(path, bytes) else str(path))
    try:
        found = walk(data)
        return data, what, found, _match(found.signatures, signature, io_names)
    except ArtefactError as exc:
        raise ArtefactError(f"{what}: {exc}") from exc


def try_file(tflite: bytes, signature: GraphSignature, io_names: Mapping[str, str], name: str) -> None:
    """What opening a file does before LiteRT sees it: the checks, and the trial of a file that is not known.

    Raises:
        ArtefactError: as LiteRTRuntime.
    """
    _walked(tflite, signature, io_names, name)
    try_first(tflite, trial_key(tflite), name, signature, io_names)


def trial_key(tflite: bytes) -> str:
    """What a file is known by in runtimes/trial.py: its hash, and the LiteRT that runs it here."""
    return f"{sha256_bytes(tflite)}-{litert_version()}"


class LiteRTRuntime(OpenedRuntime):
    """A .tflite, ready to be called.

    Args:
        path: the file, or its bytes.
        signature: names and shapes one call has.
        engine: "interpreter" (classic) or "compiled" (CompiledModel, what phones run).
        threads: compute threads.
        weight_cache: a directory in which XNNPACK keeps packed weights from run to run ("compiled" only);
            a damaged or foreign cache is thrown away and built again.
        io_names: our name -> name in the file, where they differ.
        tried: the file is this machine's own: no process of its own tries it first (runtimes/trial.py).
        sha256: of the file, where the caller has just compared it.
        name: what messages call it; the path by default.
        mark: told the name of each stage of loading when it ends ("runtime_imported", "model_loaded",
            "tensors_allocated"; with "compiled" also "environment_made"), for streaming.measure.cold_start.

    Raises:
        ArtefactError: no .tflite, damaged, its tensors are not those of `signature`, or it killed who tried it first.
        MissingDependencyError: no LiteRT runtime is installed.
    """

    def __init__(
        self,
        path: Path | bytes,
        signature: GraphSignature,
        engine: Engine = "interpreter",
        threads: int = 1,
        weight_cache: Path | None = None,
        io_names: Mapping[str, str] | None = None,
        tried: bool = False,
        sha256: str | None = None,
        name: str | None = None,
        mark: Mark = lambda _stage: None,
    ) -> None:
        if threads < 1:
            raise ArtefactError(f"expected at least 1 thread, got {threads}")
        data, what, found, names = _walked(path, signature, io_names or {}, name)
        digest = sha256 or sha256_bytes(data)
        aliased = aliased_outputs(found)
        if engine == "compiled" and aliased:
            raise ArtefactError(
                f"{what}: output {aliased[0]!r} is an input handed through; CompiledModel would compute garbage"
            )
        if not tried:
            try_first(data, f"{digest}-{litert_version()}", what, signature, io_names or {})
        self._output_names = tuple(t.name for t in signature.outputs)
        self._state_names = tuple(s.name for s in signature.states)
        self._call: _Call | None
        try:
            if engine == "interpreter":
                self._call, info = _open_interpreter(data, signature, names, threads, mark)
            else:
                keys = None if weight_cache is None else (weight_cache, digest)
                self._call, info = _open_compiled(data, signature, names, threads, keys, mark)
        except (RuntimeError, ValueError, OSError, KeyError) as exc:
            raise ArtefactError(f"{what}: LiteRT cannot load it: {first_line(exc)}") from exc
        super().__init__(signature, info)
        self._data: bytes | None = data  # the library reads weights where they lie
        self._what = what

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call; see runtimes.protocol.Runtime."""
        if self._call is None:
            raise ArtefactError(f"{self._what}: the runtime was closed; open it again")
        check_call(self.signature, block, state)
        try:
            arrays = self._call(block, state)
        except (RuntimeError, ValueError) as exc:
            raise ArtefactError(f"{self._what}: LiteRT failed to run it: {first_line(exc)}") from exc
        cut = len(self._output_names)
        new = dict(zip(self._state_names, arrays[cut:], strict=True))
        return dict(zip(self._output_names, arrays[:cut], strict=True)), {**new, **handed_on(self.signature, state)}

    def close(self) -> None:
        """Release what the library holds; harmless if called twice."""
        if self._call is not None:
            with quiet():
                self._call = None
            self._data = None


def _match(signatures: tuple[Signature, ...], ours: GraphSignature, io_names: Mapping[str, str]) -> _Names:
    """Find our tensors in the file, comparing names, shapes and element types."""
    if not signatures:
        raise ArtefactError("the file has no named signature; export it with hearpack")
    theirs = signatures[0]
    if theirs.subgraph != 0:
        raise ArtefactError(f"expected the signature {theirs.key!r} in subgraph 0, it is in {theirs.subgraph}")
    sides = (
        ("input", ours.input_names, ours.input_shapes, theirs.inputs),
        (
            "output",
            ours.output_names,
            tuple(t.shape for t in ours.outputs) + tuple(s.shape for s in ours.states),
            theirs.outputs,
        ),
    )
    resolved = []
    for side, names, shapes, tensors in sides:
        by_name = {t.name: t for t in tensors}
        file_names = tuple(io_names.get(name, name) for name in names)
        if set(file_names) != set(by_name):
            raise ArtefactError(
                f"expected the {side}s {', '.join(sorted(file_names))}; the file has {', '.join(sorted(by_name))}"
            )
        for name, shape in zip(file_names, shapes, strict=True):
            tensor = by_name[name]
            if tensor.shape != shape or tensor.dtype != "float32":
                raise ArtefactError(
                    f"{side} {name!r}: expected float32 {list(shape)}, the file has {tensor.dtype} {list(tensor.shape)}"
                )
        resolved.append(file_names)
    return _Names(theirs.key, resolved[0], resolved[1])


@functools.cache
def _interpreter_class() -> tuple[Any, str, str]:
    """Interpreter, its distribution and version, from whichever package is installed."""
    for module_name, distribution in _HOMES:
        try:
            with quiet():
                module = importlib.import_module(module_name)
        except ImportError:
            continue
        return module.Interpreter, distribution, _version(distribution)
    raise MissingDependencyError("ai-edge-litert", "export", "running a .tflite")


def litert_version() -> str:
    """Version of the LiteRT that runs files here, without importing it."""
    versions = (_version(distribution) for _, distribution in _HOMES)
    return next((version for version in versions if version != "unknown"), "unknown")


@functools.cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _open_interpreter(
    data: bytes, signature: GraphSignature, names: _Names, threads: int, mark: Mark
) -> tuple[_Call, RuntimeInfo]:
    interpreter_class, distribution, version = _interpreter_class()
    mark("runtime_imported")
    with quiet():
        interpreter = interpreter_class(model_content=data, num_threads=threads)
        mark("model_loaded")
        interpreter.allocate_tensors()
        # The runner is only asked for indices: it allocates at every call, and while it lives invoke() is refused.
        runner = interpreter.get_signature_runner(names.key)
        input_details, output_details = runner.get_input_details(), runner.get_output_details()
        del runner
    first = input_details[names.inputs[0]]["index"]
    carried = zip(signature.input_names[1:], names.inputs[1:], strict=True)
    states_in = tuple((name, input_details[n]["index"]) for name, n in carried)
    outputs = tuple(output_details[n]["index"] for n in names.outputs)
    mark("tensors_allocated")
    set_tensor, invoke, get_tensor = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor

    def call(block: Array, state: State) -> list[Array]:
        set_tensor(first, block)
        for name, index in states_in:
            set_tensor(index, state[name])
        invoke()
        return [get_tensor(index) for index in outputs]  # get_tensor copies

    detail = f"{distribution}, {threads} thread{'s' if threads > 1 else ''}"
    return call, RuntimeInfo("litert-interpreter", version, detail)


def _open_compiled(
    data: bytes,
    signature: GraphSignature,
    names: _Names,
    threads: int,
    weight_cache: tuple[Path, str] | None,
    mark: Mark,
) -> tuple[_Call, RuntimeInfo]:
    try:
        with quiet():
            from ai_edge_litert.compiled_model import CompiledModel
            from ai_edge_litert.hardware_accelerator import HardwareAccelerator
            from ai_edge_litert.options import CpuOptions, Options
    except ImportError as exc:
        raise MissingDependencyError("ai-edge-litert", "export", "running a .tflite with CompiledModel") from exc
    version = _version("ai-edge-litert")
    _silence_exit()
    mark("runtime_imported")
    with quiet():
        environment = _environment()
    mark("environment_made")

    def build(cache_file: str) -> Any:
        cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=cache_file)
        options = Options(HardwareAccelerator.CPU, cpu_options=cpu)
        return CompiledModel.from_buffer(data, environment=environment, options=options)

    with quiet():
        if weight_cache is None:
            cached, model = False, build("")
        else:
            folder, digest = weight_cache
            cached, model = WeightCache(folder).open(f"{digest[:24]}-{version}-t{threads}", build)
        mark("model_loaded")
        index = model.get_signature_index(names.key)
        inputs = {n: model.create_input_buffer_by_name(names.key, n) for n in names.inputs}
        outputs = {n: model.create_output_buffer_by_name(names.key, n) for n in names.outputs}
        # The first write of a process logs the creation of an environment; have that now.
        inputs[names.inputs[0]].write(np.zeros(signature.inputs[0].shape, np.float32))
    mark("tensors_allocated")
    layout = model.get_signature_by_index(index)
    ordered_inputs = [inputs[n] for n in layout["inputs"]]
    ordered_outputs = [outputs[n] for n in layout["outputs"]]
    write_block = inputs[names.inputs[0]].write
    carried = zip(signature.input_names[1:], names.inputs[1:], strict=True)
    writes = tuple((name, inputs[n].write) for name, n in carried)
    shapes = tuple(t.shape for t in signature.outputs) + tuple(s.shape for s in signature.states)
    reads = tuple((outputs[n].read, int(np.prod(shape)), shape) for n, shape in zip(names.outputs, shapes, strict=True))
    run, float32 = model.run_by_index, np.float32

    def call(block: Array, state: State) -> list[Array]:
        write_block(block)
        for name, write in writes:
            write(state[name])
        run(index, ordered_inputs, ordered_outputs)
        return [read(count, float32).reshape(shape) for read, count, shape in reads]  # read allocates

    detail = f"ai-edge-litert, {threads} thread{'s' if threads > 1 else ''}, CPU"
    if weight_cache is not None:
        detail += ", weight cache warm" if cached else ", weight cache cold"
    return call, RuntimeInfo("litert-compiled", version, detail)


@functools.cache
def _environment() -> Any:
    """One environment for the whole process: each would load its accelerators again, and log when it goes."""
    import ai_edge_litert
    from ai_edge_litert.environment import Environment, EnvironmentOptions

    return Environment.create(options=EnvironmentOptions(runtime_path=str(Path(ai_edge_litert.__file__).parent)))


@functools.cache
def _silence_exit() -> None:
    """CompiledModel's environment logs its own destruction after Python has ended; nothing else can write by then."""

    def to_null() -> None:
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.close(null)

    atexit.register(to_null)
