"""What benches share: options and figures, a net's .tflite, and calls that are timed by turns."""

from __future__ import annotations

import argparse
import collections
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import pretrained
from models.catalog import CATALOG
from models.common.errors import UsageError
from models.geometry import GraphSignature
from runtimes.native_output import quiet

Call = Callable[[], object]


def options(doc: str | None) -> argparse.ArgumentParser:
    """A parser with --json, which every bench has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser


def save(file: Path | None, figures: Any, sort_keys: bool = False) -> None:
    """Write the figures where --json says so."""
    if file:
        file.write_text(json.dumps(figures, indent=2, sort_keys=sort_keys) + "\n", encoding="utf-8")


def hop_options(doc: str | None, blocks: int, calls: int) -> argparse.ArgumentParser:
    """The options of a bench of one hop."""
    parser = options(doc)
    parser.add_argument("--tflite", type=Path, help="a .tflite of one hop per call, instead of converting one")
    parser.add_argument("--blocks", type=int, default=blocks)
    parser.add_argument("--calls", type=int, default=calls, help="calls per block")
    return parser


def parse_hops(parser: argparse.ArgumentParser, net: str) -> argparse.Namespace:
    """The parsed options, --hops as numbers; exits where there is no such .tflite, or the net does not take them."""
    arguments = parser.parse_args()
    if arguments.tflite and not arguments.tflite.is_file():
        sys.exit(f"{arguments.tflite}: no such file")
    try:
        hops = [int(part) for part in arguments.hops.split(",")]
        for count in hops:
            CATALOG[net].signature(count)
    except (ValueError, UsageError) as exc:
        sys.exit(f"--hops {arguments.hops}: {exc}")
    arguments.hops = hops
    return arguments


def convert(net: str, hops: int, file: Path) -> Path:
    """Write the .tflite of `hops` hops per call, as an export makes it."""
    from converters.litert.convert import convert as to_tflite

    entry = CATALOG[net]
    graph = entry.load_graph(entry.load_net(pretrained.load(net)), hops)
    file.write_bytes(to_tflite(graph, entry.signature(hops), "fp32"))
    return file


def noise(shape: Any) -> NDArray[np.float32]:
    """Noise at -20 dBFS, the same each time."""
    return np.asarray(0.1 * np.random.default_rng(0).standard_normal(shape), np.float32)


class Interpreted:
    """A .tflite in the classic Interpreter, one thread, its inputs set."""

    def __init__(self, file: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet():
            self._interpreter = Interpreter(str(file), num_threads=1)
            self._interpreter.allocate_tensors()
        self._inputs = [(d["index"], noise(d["shape"])) for d in self._interpreter.get_input_details()]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]
        self.invoke: Call = self._interpreter.invoke
        self.whole_call()

    def whole_call(self, *inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Inputs written, `invoke()`, outputs read; noise where no inputs are given."""
        for place, (index, value) in enumerate(self._inputs):
            self._interpreter.set_tensor(index, inputs[place] if inputs else value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def ops(self) -> dict[str, int]:
        """How many of each operation; DELEGATE counts the partitions that XNNPACK took over."""
        return dict(sorted(collections.Counter(op["op_name"] for op in self._interpreter._get_ops_details()).items()))


def compiled(file: Path, signature: GraphSignature, weight_cache: Path | None = None) -> Call:
    """One step of our runtime on CompiledModel, what phones call: buffers written, run, buffers read."""
    from runtimes.litert import LiteRTRuntime

    runtime = LiteRTRuntime(file, signature, engine="compiled", weight_cache=weight_cache)
    block = noise(runtime.signature.inputs[0].shape)
    state = {spec.name: noise(spec.shape) for spec in runtime.signature.states}
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


def ratio(ours_us: float, authors_us: float) -> dict[str, float]:
    """A row of `print_ratios`."""
    return {"ours_us": ours_us, "authors_us": authors_us, "ratio": ours_us / authors_us}


def print_ratios(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """A table of ours against the authors'."""
    print(f"{title:30s}ours us  authors us   ratio")
    for name, row in rows.items():
        print(f"  {name:26s} {row['ours_us']:9.1f} {row['authors_us']:11.1f} {row['ratio']:7.3f}")


def print_ops(title: str, ops: Mapping[str, int]) -> None:
    """A line of what `Interpreted.ops` counts."""
    listed = sum(n for op, n in ops.items() if op != "DELEGATE")
    print(f"  {title}{listed} operations, {ops.get('DELEGATE', 0)} delegated partition(s)")
