"""One call of the net in a pipeline, and the wrapper that can skip it or make it fail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError
from runtimes.protocol import Outputs, Runtime, State

Array = NDArray[np.float32]


@dataclass(slots=True)
class Call:
    """One call of the net.

    Attributes:
        number: of the call, from 0.
        first: stream index of its oldest new sample. end: after its newest. local_end: the same since the last reset.
        in_end: after the newest sample that really came in: less than `end` where a flush added zeros.
        arrival_ns: callback that brought `first`. ready_ns: callback that completed the buffer.
        resampler_ns: group delay of the resampler that was in use.
        late_ns: a call that ends after this has missed its deadline.
        start_ns, end_ns: begin and end.
        values: float32, what came out; None where it failed.
        skipped, gated: the net was not run.
    """

    number: int
    first: int
    end: int
    local_end: int
    in_end: int
    arrival_ns: int
    ready_ns: int
    resampler_ns: int
    late_ns: int
    start_ns: int
    end_ns: int = 0
    values: Array | None = None
    skipped: bool = False
    gated: bool = False


class Guard:
    """A runtime that can be told to skip a call, or to fail."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.signature, self.info = runtime.signature, runtime.info
        self.reset, self.close = runtime.reset, runtime.close
        self.skip = False
        self.fail = 0

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call, or zeros, or an error put in on purpose."""
        if self.fail:
            self.fail -= 1
            raise ArtefactError("the model failed (a fault put in on purpose)")
        if self.skip:
            return {t.name: np.zeros(t.shape, np.float32) for t in self.signature.outputs}, state
        return self._runtime.step(block, state)
