"""The evaluator behind hearpack's runtime protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from models.common.errors import ArtefactError
from models.geometry import GraphSignature
from runtimes.mil.deps import require_torch
from runtimes.mil.program import Mode, Port, Program
from runtimes.protocol import Array, OpenedRuntime, Outputs, RuntimeInfo, State, check_call, handed_on

_DTYPES = {"float32": "fp32", "float16": "fp16", "int32": "int32"}
Wanted = tuple[str, tuple[int, ...], str]


def _check_ports(
    which: Literal["input", "output"], wanted: list[Wanted], ports: tuple[Port, ...], package: str
) -> None:
    by_name = {p.name: p for p in ports}
    for name, shape, dtype in wanted:
        port = by_name.get(name)
        if port is None:
            raise ArtefactError(f"{package} has no {which} {name!r}; it has: {', '.join(by_name)}")
        if port.shape != shape or port.dtype != _DTYPES.get(dtype, dtype):
            raise ArtefactError(f"{package}: {which} {name!r} should be {dtype} {list(shape)}; the package has {port}")
    extra = sorted(set(by_name) - {name for name, _, _ in wanted})
    if extra:
        raise ArtefactError(f"{package} has an {which} {extra[0]!r} that the signature does not name")


class MilRuntime(OpenedRuntime):
    """Runs an .mlpackage with explicit state by emulation, anywhere.

    Args:
        path: the .mlpackage directory.
        signature: names and shapes of a call; the package must match it.
        mode: number mode, see runtimes.mil.
        threads: torch threads during a call; the process's own setting is put back after it.

    Raises:
        ArtefactError: the package cannot be loaded or does not match the signature.
        MissingDependencyError: coremltools or torch is not installed.
    """

    def __init__(self, path: Path | str, signature: GraphSignature, mode: Mode = "fp32", threads: int = 1) -> None:
        if threads < 1:
            raise ArtefactError(f"threads must be at least 1, got {threads}")
        torch = require_torch()
        program = Program.load(path, mode, threads=threads)
        name = Path(path).name
        inputs: list[Wanted] = [(t.name, t.shape, t.dtype) for t in signature.inputs]
        inputs += [(s.name, s.shape, s.dtype) for s in signature.states]
        outputs: list[Wanted] = [(t.name, t.shape, t.dtype) for t in signature.outputs]
        outputs += [(s.out_name, s.shape, s.dtype) for s in signature.states]
        _check_ports("input", inputs, program.inputs, name)
        _check_ports("output", outputs, program.outputs, name)
        if program.states:
            raise ArtefactError(f"{name} keeps Core ML states ({program.states[0].name}); expected states as inputs")
        self._program: Program | None = program
        detail = f"emulated on this CPU, not Apple's hardware; {mode} mode, threads: {threads}"
        super().__init__(signature, RuntimeInfo(f"mil-{mode}", f"torch {torch.__version__}", detail))

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call; see runtimes.protocol.Runtime."""
        if self._program is None:
            raise ArtefactError("the runtime is closed")
        check_call(self.signature, block, state)
        values = self._program.run({self.signature.inputs[0].name: block, **state})
        outputs = {t.name: values[t.name] for t in self.signature.outputs}
        new = {s.name: values[s.out_name] for s in self.signature.states}
        return outputs, {**new, **handed_on(self.signature, state)}

    def close(self) -> None:
        """Release the program; harmless if called twice."""
        self._program = None
