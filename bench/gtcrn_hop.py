"""GTCRN's hop in LiteRT, waveform to waveform, against the authors' ONNX in ONNX Runtime, spectrum to spectrum.

    python bench/gtcrn_hop.py [--tflite FILE] [--hops 1,4] [--blocks 40] [--calls 40] [--json FILE]

The ratio: ai-edge-litert's Interpreter, `invoke()` alone, against `session.run`, one thread each, blocks of calls of
the two by turns so that a busy machine slows both; medians over all calls. ONNX Runtime's figure has the copies of its
four inputs and outputs in it, so a second ratio has ours too. Our graph has both transforms inside, theirs neither.
Cost per hop of several hops per call: our runtime on CompiledModel, what phones call, copies included.
Inputs are noise at -20 dBFS: the time does not depend on them. --tflite gives the file of one hop per call.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from side_by_side import (
    Call,
    Interpreted,
    by_turns,
    compiled,
    convert,
    hop_options,
    noise,
    parse_hops,
    print_ops,
    print_ratios,
    ratio,
    save,
)

from models import pretrained
from models.nets.gtcrn.entry import GTCRN


def authors() -> Call:
    """One hop of the authors' graph, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    file = pretrained.pull("gtcrn").path.parent / "gtcrn_simple.onnx"
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    inputs = {i.name: noise(i.shape) for i in session.get_inputs()}
    return lambda: session.run(None, inputs)


def measure(tflite: Path | None, hops: list[int], blocks: int, calls: int) -> dict[str, Any]:
    """Everything this bench measures; times in microseconds."""
    with tempfile.TemporaryDirectory() as scratch:
        files = {n: tflite if n == 1 and tflite else convert("gtcrn", n, Path(scratch) / f"{n}.tflite") for n in hops}
        ours = Interpreted(files[1])
        us = by_turns({"invoke": ours.invoke, "with copies": ours.whole_call, "authors": authors()}, blocks, calls)
        steps = {str(n): compiled(files[n], GTCRN.signature(n)) for n in hops}
        per_hop = {name: value / int(name) for name, value in by_turns(steps, blocks, max(1, calls // 4)).items()}
        return {
            "against_authors": {name: ratio(us[name], us["authors"]) for name in ("invoke", "with copies")},
            "per_hop_us": per_hop,
            "ops": ours.ops(),
        }


def main() -> None:
    parser = hop_options(__doc__, blocks=40, calls=40)
    parser.add_argument("--hops", default="1,4", help="hops a call to compare (default 1,4)")
    arguments = parse_hops(parser, "gtcrn")
    hops = sorted({1, *arguments.hops})
    result = measure(arguments.tflite, hops, arguments.blocks, arguments.calls)
    print_ratios("against the authors' ONNX", result["against_authors"])
    print("us per hop, CompiledModel, copies included")
    for count, us in result["per_hop_us"].items():
        print(f"  {count:>2s} hops per call {us:22.1f}")
    print_ops("1 hop per call: ", result["ops"])
    save(arguments.json, result)


if __name__ == "__main__":
    main()
