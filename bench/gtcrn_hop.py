"""GTCRN's hop in LiteRT, waveform to waveform, against the authors' ONNX in ONNX Runtime, spectrum to spectrum.

    python bench/gtcrn_hop.py [--tflite FILE] [--hops 1,4] [--blocks 40] [--calls 40] [--json FILE]

The ratio: ai-edge-litert's Interpreter, `invoke()` alone, against `session.run`, one thread each, blocks of calls of
the two by turns so that a busy machine slows both; medians over all calls. ONNX Runtime's figure has the copies of its
four inputs and outputs in it, so a second ratio has ours too. Our graph has both transforms inside, theirs neither.
Cost per hop of several hops a call: our runtime on CompiledModel, what phones call, copies included.
Inputs are noise at -20 dBFS: the time does not depend on them. --tflite gives the file of one hop a call.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dtln_hop import Call, _compiled, _Interpreted, by_turns

from converters.litert import convert as litert
from models import pretrained
from models.common.errors import UsageError
from models.nets.gtcrn import net as gtcrn
from models.nets.gtcrn.entry import GTCRN


def convert(hops: int, file: Path) -> Path:
    """Write the .tflite of `hops` hops a call, as an export makes it."""
    graph = gtcrn.graph(gtcrn.build(pretrained.load("gtcrn")), hops).eval()
    file.write_bytes(litert.convert(graph, GTCRN.signature(hops), "fp32"))
    return file


def authors() -> Call:
    """One hop of the authors' graph, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    file = pretrained.pull("gtcrn").path.parent / "gtcrn_simple.onnx"
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    inputs = {i.name: (0.1 * generator.standard_normal(i.shape)).astype(np.float32) for i in session.get_inputs()}
    return lambda: session.run(None, inputs)


def measure(tflite: Path | None, hops: tuple[int, ...], blocks: int, calls: int) -> dict[str, Any]:
    """Everything this bench measures; times in microseconds."""
    with tempfile.TemporaryDirectory() as scratch:
        files = {n: convert(n, Path(scratch) / f"{n}.tflite") for n in hops if n != 1 or tflite is None}
        if tflite is not None:
            files[1] = tflite
        ours = _Interpreted(files[1])
        us = by_turns({"invoke": ours.invoke, "with copies": ours.whole_call, "authors": authors()}, blocks, calls)
        ratios = {
            name: {"ours_us": us[name], "authors_us": us["authors"], "ratio": us[name] / us["authors"]}
            for name in ("invoke", "with copies")
        }
        signatures = {n: GTCRN.signature(n) for n in hops}
        compiled = {str(n): _compiled(files[n], n, None, signatures[n]) for n in hops}
        per_hop = {name: value / int(name) for name, value in by_turns(compiled, blocks, max(1, calls // 4)).items()}
        return {"against_authors": ratios, "per_hop_us": per_hop, "ops": ours.ops()}


def _print(result: Mapping[str, Any]) -> None:
    print("against the authors' ONNX     ours us  authors us   ratio")
    for name, row in result["against_authors"].items():
        print(f"  {name:26s} {row['ours_us']:9.1f} {row['authors_us']:11.1f} {row['ratio']:7.3f}")
    print("us a hop, CompiledModel, copies included")
    for hops, us in result["per_hop_us"].items():
        print(f"  {hops:>2s} hops a call {us:22.1f}")
    ops = result["ops"]
    listed = sum(n for op, n in ops.items() if op != "DELEGATE")
    print(f"  1 hop a call: {listed} operations, {ops.get('DELEGATE', 0)} delegated partition(s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tflite", type=Path, help="a .tflite of one hop a call, instead of converting one")
    parser.add_argument("--hops", default="1,4", help="hops a call to compare (default 1,4)")
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--calls", type=int, default=40, help="calls a block")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    if arguments.tflite and not arguments.tflite.is_file():
        sys.exit(f"{arguments.tflite}: no such file")
    try:
        hops = tuple(sorted({1, *(int(part) for part in arguments.hops.split(","))}))
        for count in hops:
            GTCRN.signature(count)
    except (ValueError, UsageError) as exc:
        sys.exit(f"--hops {arguments.hops}: {exc}")
    result = measure(arguments.tflite, hops, arguments.blocks, arguments.calls)
    _print(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
