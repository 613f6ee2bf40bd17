"""A loaded ML Program: named arrays in, named arrays out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError, UsageError
from runtimes.mil.deps import limited_threads, require_torch
from runtimes.mil.graph import Function, ValueType, read_function
from runtimes.mil.limits import room
from runtimes.mil.package import open_package

if TYPE_CHECKING:
    from runtimes.mil.code import Code

Mode = Literal["fp32", "fp16"]


@dataclass(frozen=True)
class Port:
    """An input, an output or a state of a program.

    Attributes:
        name: its name.
        shape: None where a size is chosen at the call.
        dtype: type in the program: "fp32", "fp16", "int32", ...
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether a value of this shape fits."""
        return len(shape) == len(self.shape) and all(n in (None, m) for n, m in zip(self.shape, shape, strict=True))

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


class State:
    """Values that a stateful program keeps between calls; each stream makes its own.

    Args:
        cells: a one-element list for each state.
    """

    def __init__(self, cells: Mapping[str, list[Any]]) -> None:
        self._cells = dict(cells)

    def read(self, name: str) -> NDArray[Any]:
        """A copy of one state."""
        value: NDArray[Any] = self._cells[name][0].numpy().copy()
        return value

    def cell(self, name: str) -> list[Any]:
        """The cell itself, for the program."""
        return self._cells[name]


def check_mode(mode: str) -> None:
    """Raise UsageError on an unknown number mode."""
    if mode not in ("fp32", "fp16"):
        raise UsageError(f"unknown number mode {mode!r}; expected 'fp32' or 'fp16'")


def _port(name: str, kind: ValueType) -> Port:
    return Port(name, kind.shape, kind.dtype)


class Program:
    """An entry point of an .mlpackage, compiled. Build one with `Program.load`.

    Attributes:
        inputs: what `run` takes.
        outputs: what `run` returns.
        states: what a State holds; empty for most programs.
        mode: number mode, see runtimes.mil.
        opset: "CoreML7" and the like.

    Args:
        function: the entry point.
        mode: number mode, see runtimes.mil.
        strict: stop at what Core ML does not define, see runtimes.mil.
        threads: torch threads during a call; None leaves the process's own setting. Threads of one call wait for each
            other in a loop: on a busy machine two are many times slower than one.
    """

    def __init__(self, function: Function, mode: Mode, strict: bool = False, threads: int | None = 1) -> None:
        require_torch()
        import torch

        from runtimes.mil.compile import compile_function, round_to_half
        from runtimes.mil.ops.table import TORCH_DTYPES

        self._torch, self._dtypes, self._round = torch, TORCH_DTYPES, round_to_half
        with limited_threads(threads):
            self._code: Code = compile_function(function, mode, strict)
        self._order = function.block.inputs
        types = {o.name: o.type for operation in function.block.operations for o in operation.outputs}
        types |= {i.name: i.type for i in function.block.inputs}
        self.inputs = tuple(_port(i.name, i.type) for i in self._order if i.type.kind != "state")
        self.states = tuple(_port(i.name, i.type) for i in self._order if i.type.kind == "state")
        # `return y, y` names one output twice.
        self._results = function.block.outputs
        self.outputs = tuple(_port(name, types[name]) for name in dict.fromkeys(self._results))
        self.mode: Mode = mode
        self._threads = threads
        self.opset = function.opset
        self.calls = len(self._code.calls)
        for port in (*self.inputs, *self.states):
            if port.dtype not in TORCH_DTYPES:
                raise ArtefactError(f"input {port}: type {port.dtype} is not supported")
        try:
            room([sum(math.prod(n or 1 for n in port.shape) for port in self.states)])
        except ValueError as exc:
            raise ArtefactError(f"the states: {exc}") from exc

    @classmethod
    def load(
        cls,
        path: Path | str,
        mode: Mode = "fp32",
        function: str | None = None,
        strict: bool = False,
        threads: int | None = 1,
    ) -> Program:
        """Load and compile a package.

        Args:
            path: the .mlpackage directory.
            mode: "fp32" or "fp16", see runtimes.mil.
            function: entry point of a multi-function package; None takes its default.
            strict: stop at what Core ML does not define, see runtimes.mil.
            threads: torch threads during a call; None leaves the process's own setting.

        Raises:
            ArtefactError: not an ML Program package, a missing operation, broken weights.
            MissingDependencyError: coremltools or torch is not installed.
            UsageError: unknown mode.
        """
        check_mode(mode)
        return cls(read_function(open_package(path), function), mode, strict, threads)

    def make_state(self) -> State:
        """Zeroed states, for the start of a stream."""
        cells: dict[str, list[Any]] = {}
        for port in self.states:
            shape = [n for n in port.shape if n is not None]
            cells[port.name] = [self._torch.zeros(shape, dtype=self._dtypes[port.dtype])]
        return State(cells)

    def write_state(self, state: State, name: str, value: NDArray[Any]) -> None:
        """Set one state to a value of its shape and kind.

        Args:
            state: what `make_state` gave.
            name: which state.
            value: float or integer array.

        Raises:
            ArtefactError: no such state, or a value of another shape or kind.
        """
        ports = [p for p in self.states if p.name == name]
        if not ports:
            raise ArtefactError(f"no state {name!r}; there are: {', '.join(p.name for p in self.states) or 'none'}")
        state.cell(name)[0] = self._tensor(ports[0], value).clone()

    def _tensor(self, port: Port, value: NDArray[Any]) -> Any:
        array = np.asarray(value)
        is_float = port.dtype.startswith("fp")
        if not port.admits(array.shape) or array.dtype.kind not in (
            "f" if is_float else "b" if port.dtype == "bool" else "iu"
        ):
            raise ArtefactError(f"input {port}; got {array.dtype} {list(array.shape)}")
        if is_float:
            array = np.ascontiguousarray(array, np.float32)
            if not array.flags.writeable:
                array = array.copy()
            tensor = self._torch.from_numpy(array.reshape(np.shape(value)))
            return self._round(tensor) if self.mode == "fp16" and port.dtype == "fp16" else tensor
        return self._torch.from_numpy(np.array(array)).to(self._dtypes[port.dtype])

    def run(self, inputs: Mapping[str, NDArray[Any]], state: State | None = None) -> dict[str, Any]:
        """One call.

        Args:
            inputs: an array for each input, by name; floats of any width, they are taken as float32.
            state: what `make_state` gave, changed by the call; only for stateful programs.

        Returns:
            a fresh array for each output; floats are float32 in both modes. A classifier's label is text or an
            integer, its probabilities a dict of floats by label.

        Raises:
            ArtefactError: a wrong name, shape or type, or an operation failed on these values.
        """
        if len(inputs) != len(self.inputs) or any(p.name not in inputs for p in self.inputs):
            expected = ", ".join(p.name for p in self.inputs)
            raise ArtefactError(f"expected inputs {expected}; got {', '.join(inputs) or 'none'}")
        if self.states and state is None:
            raise ArtefactError("this program is stateful; pass the state that make_state() gave")
        with self._torch.inference_mode(), limited_threads(self._threads):
            ports = iter(self.inputs)
            values = [
                state.cell(i.name) if state is not None and i.type.kind == "state" else self._next(ports, inputs)
                for i in self._order
            ]
            results = self._code(*values)
            return {
                name: r.numpy().copy() if isinstance(r, self._torch.Tensor) else r
                for name, r in zip(self._results, results, strict=True)
            }

    def _next(self, ports: Any, inputs: Mapping[str, NDArray[Any]]) -> Any:
        port = next(ports)
        return self._tensor(port, inputs[port.name])
