"""One process that opens and calls changed .tflite files in both engines, untried: FILE FIRST COUNT.

Each seed is a line "begin SEED WHAT" before and "end SEED refused|error|ran" after. Where the process dies between the
two, that file is one for the child of runtimes/trial.py. By hand, for a night:

    python -m tests.fuzz.tflite_graphs tests/fixtures/tflite/step.tflite 0 100000
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from models.common.errors import ArtefactError
from models.geometry import GraphSignature, StateSpec, TensorSpec
from runtimes.inspect.tflite import walk
from runtimes.litert import Engine, LiteRTRuntime
from tests.fuzz.tflite_mutators import files

ENGINES: tuple[Engine, ...] = ("interpreter", "compiled")


def signature_of(tflite: bytes) -> GraphSignature:
    """The signature of a bundle that the file would fit: `audio` and states in, `NAME_out` the new states."""
    (found,) = walk(tflite).signatures
    states = tuple(
        StateSpec(t.name, t.shape) for t in found.inputs if f"{t.name}_out" in {o.name for o in found.outputs}
    )
    names = {s.name for s in states} | {s.out_name for s in states}
    inputs = tuple(TensorSpec(t.name, t.shape, (-1.0, 1.0), "") for t in found.inputs if t.name not in names)
    return GraphSignature(
        inputs,
        tuple(TensorSpec(t.name, t.shape, (-1.0, 1.0), "") for t in found.outputs if t.name not in names),
        states,
    )


def attempt(tflite: bytes, signature: GraphSignature) -> str:
    """Open and call a file in both engines: "refused" by the checks, "error" of LiteRT, or "ran"."""
    try:
        walk(tflite)
    except ArtefactError:
        return "refused"
    outcome = "ran"
    for engine in ENGINES:
        try:
            runtime = LiteRTRuntime(tflite, signature, engine, tried=True)
            block = np.full(signature.inputs[0].shape, 0.1, np.float32)
            runtime.step(block, runtime.reset())
            runtime.close()
        except ArtefactError:
            outcome = "error"
    return outcome


def main(file: str, first: int, count: int) -> None:
    base = Path(file).read_bytes()
    signature = signature_of(base)
    for seed, what, tflite in files(base, range(first, first + count)):
        print(f"begin {seed} {what[:200]!r}", flush=True)
        print(f"end {seed} {attempt(tflite, signature)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
