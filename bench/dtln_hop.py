"""DTLN's hop in LiteRT: our graph, transforms inside, against the authors' .tflite pair without any; and hops a call.

    python bench/dtln_hop.py [--tflite FILE] [--hops 1,4,16] [--blocks 40] [--calls 40] [--json FILE]

The ratio: ai-edge-litert's Interpreter, one thread, `invoke()` alone, blocks of calls of the two by turns so that a
busy machine slows both; medians over all calls. A second ratio has the copies of all inputs and outputs in it, as a
host pays them. Cost per hop: our runtime on CompiledModel, what phones call, copies included, with and without
XNNPACK's weight cache.
Inputs are noise at -20 dBFS: the time does not depend on them. --tflite gives the file of one hop a call.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.litert import convert as litert
from models import pretrained
from models.common.errors import UsageError
from models.geometry import GraphSignature
from models.nets.dtln import net as dtln
from models.nets.dtln.entry import DTLN
from runtimes.litert import LiteRTRuntime
from runtimes.native_output import quiet

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "data" / "reference"
AUTHORS_PAIR = tuple(REFERENCE / f"dtln_model_{core}.tflite" for core in (1, 2))

Call = Callable[[], object]


def convert(hops: int, file: Path) -> Path:
    """Write the .tflite of `hops` hops a call, as an export makes it."""
    graph = dtln.graph(dtln.build(pretrained.load("dtln")), hops).eval()
    file.write_bytes(litert.convert(graph, DTLN.signature(hops), "fp32"))
    return file


def _noise(shape: Any) -> NDArray[np.float32]:
    return np.asarray(0.1 * np.random.default_rng(0).standard_normal(shape), np.float32)


class _Interpreted:
    """A .tflite in the classic Interpreter, one thread, its inputs set."""

    def __init__(self, file: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet():
            self._interpreter = Interpreter(str(file), num_threads=1)
            self._interpreter.allocate_tensors()
        self._inputs = [(d["index"], _noise(d["shape"])) for d in self._interpreter.get_input_details()]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]
        self.invoke: Call = self._interpreter.invoke
        self.whole_call()

    def whole_call(self) -> None:
        for index, value in self._inputs:
            self._interpreter.set_tensor(index, value)
        self._interpreter.invoke()
        for index in self._outputs:
            self._interpreter.get_tensor(index)

    def ops(self) -> dict[str, int]:
        """How many of each operation; DELEGATE counts the partitions that XNNPACK took over."""
        return dict(sorted(collections.Counter(op["op_name"] for op in self._interpreter._get_ops_details()).items()))


def _compiled(file: Path, hops: int, weight_cache: Path | None, signature: GraphSignature | None = None) -> Call:
    """One step of our runtime on CompiledModel: buffers written, run, buffers read; DTLN's by default."""
    runtime = LiteRTRuntime(file, signature or DTLN.signature(hops), engine="compiled", weight_cache=weight_cache)
    block = _noise(runtime.signature.inputs[0].shape)
    state = {spec.name: _noise(spec.shape) for spec in runtime.signature.states}
    return functools.partial(runtime.step, block, state)


def by_turns(calls: Mapping[str, Call], blocks: int, calls_a_block: int) -> dict[str, float]:
    """Median microseconds of a call of each, measured in alternating blocks."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    for _ in range(blocks):
        for name, call in calls.items():
            call()  # the other one has just had the caches
            for _ in range(calls_a_block):
                start = time.perf_counter_ns()
                call()
                times[name].append(time.perf_counter_ns() - start)
    return {name: float(np.median(values)) / 1000.0 for name, values in times.items()}


def against_authors(file: Path, blocks: int, calls: int) -> dict[str, Any]:
    """Our hop against the authors' pair; {"skipped": why} where their files are absent."""
    absent = [path.name for path in AUTHORS_PAIR if not path.is_file()]
    if absent:
        return {"skipped": f"the authors' {' and '.join(absent)} are not in ../shared/data/reference"}
    ours, first, second = (_Interpreted(path) for path in (file, *AUTHORS_PAIR))
    result: dict[str, Any] = {}

    def invoke_both() -> None:
        first.invoke()
        second.invoke()

    def call_both() -> None:
        first.whole_call()
        second.whole_call()

    pairs: dict[str, dict[str, Call]] = {
        "invoke": {"ours": ours.invoke, "authors": invoke_both},
        "whole_call": {"ours": ours.whole_call, "authors": call_both},
    }
    for name, pair in pairs.items():
        medians = by_turns(pair, blocks, calls)
        result[name] = {
            "ours_us": medians["ours"],
            "authors_us": medians["authors"],
            "ratio": medians["ours"] / medians["authors"],
        }
    return result


def measure(tflite: Path | None, hops: tuple[int, ...], blocks: int, calls: int) -> dict[str, Any]:
    """Convert what is not given, then measure everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {n: tflite if n == 1 and tflite else convert(n, folder / f"dtln{n}.tflite") for n in sorted({1, *hops})}
        compiled = {n: _compiled(files[n], n, None) for n in hops}
        cached = {n: _compiled(files[n], n, folder / "cache") for n in hops}
        plain_us = by_turns({str(n): call for n, call in compiled.items()}, blocks, max(1, calls // 4))
        cached_us = by_turns({str(n): call for n, call in cached.items()}, blocks, max(1, calls // 4))
        return {
            "against_authors": against_authors(files[1], blocks, calls),
            "per_hop_us": {
                str(n): {"plain": plain_us[str(n)] / n, "weight_cache": cached_us[str(n)] / n} for n in hops
            },
            "ops": {str(n): _Interpreted(file).ops() for n, file in files.items()},
        }


def _print(result: Mapping[str, Any]) -> None:
    ratios = result["against_authors"]
    if "skipped" in ratios:
        print(f"against the authors' pair: skipped, {ratios['skipped']}")
    else:
        print("against the authors' pair     ours us  authors us   ratio")
        for name, row in ratios.items():
            print(f"  {name:26s} {row['ours_us']:9.1f} {row['authors_us']:11.1f} {row['ratio']:7.3f}")
    print("us a hop, CompiledModel         plain  weight cache")
    for hops, row in result["per_hop_us"].items():
        print(f"  {hops:>2s} hops a call {row['plain']:22.1f} {row['weight_cache']:13.1f}")
    for hops, ops in result["ops"].items():
        listed = sum(n for op, n in ops.items() if op != "DELEGATE")
        print(f"  {hops:>2s} hops a call: {listed} operations, {ops.get('DELEGATE', 0)} delegated partition(s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tflite", type=Path, help="a .tflite of one hop a call, instead of converting one")
    parser.add_argument("--hops", default="1,4,16", help="hops a call to compare (default 1,4,16)")
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--calls", type=int, default=40, help="calls a block")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    if arguments.tflite and not arguments.tflite.is_file():
        sys.exit(f"{arguments.tflite}: no such file")
    try:
        hops = tuple(int(part) for part in arguments.hops.split(","))
        for count in hops:
            DTLN.signature(count)
    except (ValueError, UsageError) as exc:
        sys.exit(f"--hops {arguments.hops}: {exc}")
    result = measure(arguments.tflite, hops, arguments.blocks, arguments.calls)
    _print(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
