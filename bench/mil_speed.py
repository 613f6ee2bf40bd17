"""The evaluator beside torch eager of the same graph, one thread, by turns: what running Core ML anywhere costs.

python bench/mil_speed.py [--calls 20] [--blocks 10] [--json FILE]
"""

from __future__ import annotations

import statistics
import tempfile
import time

import numpy as np
import torch
from side_by_side import options, save

import hearpack
from models import pretrained
from runtimes.bundle import Bundle
from runtimes.mil import MilRuntime
from runtimes.torch import TorchRuntime, load_net


def main() -> None:
    """Print the ratio evaluator / torch eager for both models and both number modes."""
    parser = options(__doc__)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--blocks", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("yamnet", "dtln"):
            bundle = Bundle.open(hearpack.export(name, folder).path)
            entry, signature = hearpack.CATALOG[name], bundle.manifest.signature
            runtimes = {
                "torch eager": TorchRuntime(entry.load_graph(load_net(entry, pretrained.load(name)), 1), signature)
            }
            for mode in ("fp32", "fp16"):
                path = bundle.artefact_path(bundle.artefact(f"coreml-{mode}"))
                runtimes[f"mil-{mode}"] = MilRuntime(path, signature, mode=mode)
            block = np.random.default_rng(0).standard_normal(signature.inputs[0].shape).astype(np.float32) * 0.1
            seconds = {engine: [] for engine in runtimes}
            for number in range(arguments.blocks + 1):
                for engine, runtime in runtimes.items():
                    state = runtime.reset()
                    began = time.perf_counter()
                    for _ in range(arguments.calls):
                        _, state = runtime.step(block, state)
                    if number > 0:
                        seconds[engine].append((time.perf_counter() - began) / arguments.calls)
            medians = {engine: statistics.median(values) for engine, values in seconds.items()}
            for engine, median in medians.items():
                ratio = median / medians["torch eager"]
                figures[f"{name} {engine}"] = {"ms": 1e3 * median, "ratio_to_eager": ratio}
                print(f"{name:8} {engine:12} {1e3 * median:8.3f} ms  {ratio:5.2f} of torch eager")
    save(arguments.json, figures, sort_keys=True)


if __name__ == "__main__":
    main()
