"""What the child of runtimes/trial.py does: open one .tflite in both engines and call each twice.

Run by runtimes.trial and by nobody else. An error that hearpack raises is no fault of the child: whoever asked will
meet it too. Anything worse ends the process, and that is its answer.
"""

from __future__ import annotations

import json
import resource
import sys

import numpy as np

from models.common.errors import HearpackError
from runtimes.litert import Engine, LiteRTRuntime
from runtimes.trial import signature_of

_ENGINES: tuple[Engine, ...] = ("interpreter", "compiled")


def main() -> None:
    """Read a line of JSON {inputs, outputs, states, io_names} and the file from stdin, and try the file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.loads(sys.stdin.buffer.readline())
    data = sys.stdin.buffer.read()
    signature = signature_of(request)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, signature.inputs[0].shape).astype(np.float32)
    for engine in _ENGINES:
        try:
            runtime = LiteRTRuntime(data, signature, engine, io_names=request["io_names"], tried=True)
            _, state = runtime.step(np.zeros_like(noise), runtime.reset())
            runtime.step(noise, state)
            runtime.close()
        except HearpackError:
            continue
