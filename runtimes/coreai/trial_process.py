"""What the child does that tries an .aimodel: open it in Apple's interpreter and call it twice (runtimes/trial.py).

An error that hearpack raises is no fault of the child: whoever asked will meet it too.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys

import numpy as np

from models.common.errors import HearpackError
from runtimes.coreai.runtime import CoreAIRuntime
from runtimes.trial import signature_of


def main() -> None:
    """Read a line of JSON {path, inputs, outputs, states} from stdin, and try the asset."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.loads(sys.stdin.buffer.read())
    signature = signature_of(request)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, signature.inputs[0].shape).astype(np.float32)
    with contextlib.suppress(HearpackError):
        runtime = CoreAIRuntime(request["path"], signature, tried=True)
        _, state = runtime.step(np.zeros_like(noise), runtime.reset())
        runtime.step(noise, state)
        runtime.close()
