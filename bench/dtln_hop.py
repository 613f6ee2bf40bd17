"""DTLN's hop in LiteRT: our graph, transforms inside, against the authors' .tflite pair without any; and hops per call.

    python bench/dtln_hop.py [--tflite FILE] [--hops 1,4,16] [--blocks 40] [--calls 40] [--json FILE]

The ratio: ai-edge-litert's Interpreter, one thread, `invoke()` alone, blocks of calls of the two by turns so that a
busy machine slows both; medians over all calls. A second ratio has the copies of all inputs and outputs in it, as a
host pays them. Cost per hop: our runtime on CompiledModel, what phones call, copies included, with and without
XNNPACK's weight cache.
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
    parse_hops,
    print_ops,
    print_ratios,
    ratio,
    save,
)

from models.nets.dtln.entry import DTLN

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "data" / "reference"
AUTHORS_PAIR = tuple(REFERENCE / f"dtln_model_{core}.tflite" for core in (1, 2))


def against_authors(file: Path, blocks: int, calls: int) -> dict[str, Any]:
    """Our hop against the authors' pair; {"skipped": why} where their files are absent."""
    absent = [path.name for path in AUTHORS_PAIR if not path.is_file()]
    if absent:
        return {"skipped": f"the authors' {' and '.join(absent)} are not in ../shared/data/reference"}
    ours, first, second = (Interpreted(path) for path in (file, *AUTHORS_PAIR))
    pairs: dict[str, dict[str, Call]] = {
        "invoke": {"ours": ours.invoke, "authors": lambda: (first.invoke(), second.invoke())},
        "whole_call": {"ours": ours.whole_call, "authors": lambda: (first.whole_call(), second.whole_call())},
    }
    medians = {name: by_turns(pair, blocks, calls) for name, pair in pairs.items()}
    return {name: ratio(us["ours"], us["authors"]) for name, us in medians.items()}


def measure(tflite: Path | None, hops: list[int], blocks: int, calls: int) -> dict[str, Any]:
    """Convert what is not given, then measure everything."""
    with tempfile.TemporaryDirectory() as name:
        files = {
            n: tflite if n == 1 and tflite else convert("dtln", n, Path(name) / f"dtln{n}.tflite")
            for n in sorted({1, *hops})
        }
        us = [
            by_turns({str(n): compiled(files[n], DTLN.signature(n), cache) for n in hops}, blocks, max(1, calls // 4))
            for cache in (None, Path(name) / "cache")
        ]
        return {
            "against_authors": against_authors(files[1], blocks, calls),
            "per_hop_us": {
                str(n): {kind: row[str(n)] / n for kind, row in zip(("plain", "weight_cache"), us, strict=True)}
                for n in hops
            },
            "ops": {str(n): Interpreted(file).ops() for n, file in files.items()},
        }


def main() -> None:
    parser = hop_options(__doc__, blocks=40, calls=40)
    parser.add_argument("--hops", default="1,4,16", help="hops a call to compare (default 1,4,16)")
    arguments = parse_hops(parser, "dtln")
    result = measure(arguments.tflite, arguments.hops, arguments.blocks, arguments.calls)
    if "skipped" in result["against_authors"]:
        print(f"against the authors' pair: skipped, {result['against_authors']['skipped']}")
    else:
        print_ratios("against the authors' pair", result["against_authors"])
    print("us per hop, CompiledModel         plain  weight cache")
    for hops, row in result["per_hop_us"].items():
        print(f"  {hops:>2s} hops per call {row['plain']:22.1f} {row['weight_cache']:13.1f}")
    for hops, ops in result["ops"].items():
        print_ops(f"{hops:>2s} hops per call: ", ops)
    save(arguments.json, result)


if __name__ == "__main__":
    main()
