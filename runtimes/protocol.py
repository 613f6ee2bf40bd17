"""The one protocol every runtime speaks: torch, LiteRT, Core ML and the evaluator.

State is a value: `step(block, state) -> (outputs, state)`. A runtime keeps no hidden state between
calls, so a reset is the zero state, and two streams may share one runtime by turns. Inputs beside `audio` (a far end)
are read from the state under their names, zeros after a reset, and handed on as they are: the host writes them there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError
from models.geometry import GraphSignature

Array = NDArray[np.float32]
State = Mapping[str, Array]
Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class RuntimeInfo:
    """Who computes.

    Attributes:
        engine: "torch", "litert-interpreter", "litert-compiled", "coreml", "mil-fp32" or "mil-fp16".
        version: version of the library that computes.
        detail: what else matters to a reader of a report (threads, delegate, "emulated").
    """

    engine: str
    version: str
    detail: str = ""


class Runtime(Protocol):
    """A loaded artefact, ready to be called."""

    @property
    def signature(self) -> GraphSignature: ...

    @property
    def info(self) -> RuntimeInfo: ...

    def reset(self) -> State:
        """The state at the start of a stream."""
        ...

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call.

        Args:
            block: float32, shape of the signature's `audio` ([1, samples]).
            state: what `reset` or the previous call returned.

        Returns:
            outputs by name (fresh arrays, the caller owns them), and the next state.

        Raises:
            ArtefactError: wrong shape or dtype, or the library failed.
        """
        ...

    def close(self) -> None:
        """Release what the library holds; harmless if called twice."""
        ...


class OpenedRuntime:
    """What the runtimes share: the signature they were opened with, who computes, and the zero state."""

    def __init__(self, signature: GraphSignature, info: RuntimeInfo) -> None:
        self.signature, self.info = signature, info

    def reset(self) -> State:
        """The state at the start of a stream."""
        return zero_state(self.signature)


def zero_state(signature: GraphSignature) -> dict[str, Array]:
    """Every state of the signature at its reset value, and silence in its inputs beside `audio`."""
    return {s.name: np.zeros(s.shape, np.float32) for s in signature.carried}


def handed_on(signature: GraphSignature, state: State) -> dict[str, Array]:
    """The inputs beside `audio`, which a call does not change."""
    return {t.name: state[t.name] for t in signature.inputs[1:]}


def check_call(signature: GraphSignature, block: Array, state: State) -> None:
    """Raise ArtefactError unless block and state fit the signature."""
    audio = signature.inputs[0]
    if block.shape != audio.shape or block.dtype != np.float32:
        raise ArtefactError(
            f"{audio.name}: expected float32 {list(audio.shape)}, got {block.dtype} {list(block.shape)}"
        )
    for spec in signature.carried:
        value = state.get(spec.name)
        if value is None:
            raise ArtefactError(f"state {spec.name!r} is missing; start a stream with reset()")
        if value.shape != spec.shape or value.dtype != np.float32:
            raise ArtefactError(
                f"state {spec.name!r}: expected float32 {list(spec.shape)}, got {value.dtype} {list(value.shape)}"
            )
