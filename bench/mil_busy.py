"""The evaluator on a busy machine: YAMNet beside 0 and 2 busy processes, with one torch thread and torch's own number.

python bench/mil_busy.py [--windows 40] [--neighbours 0,2] [--json FILE]

Each line is a process of its own; neighbours are processes that count. LiteRT runs beside, for comparison. The first
figures are the start: from the process's start to the first prediction, and its memory then.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from side_by_side import options, save

ROOT = Path(__file__).resolve().parents[1]
# engine, mode, threads; None is torch's own number.
RUNS: tuple[tuple[str, str, int | None], ...] = (
    ("mil", "fp32", 1),
    ("mil", "fp32", None),
    ("mil", "fp16", 1),
    ("mil", "fp16", None),
    ("litert", "fp32", 1),
)


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that keep a core busy each."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _peak_mb() -> float:
    """Peak memory of this process; Linux hands ru_maxrss down from the parent, so its own figure there."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def child(path: str, engine: str, mode: str, threads: int | None, windows: int, began: float) -> None:
    """One engine in this process; the figures as a line of JSON."""
    import numpy as np

    if engine == "mil":
        from runtimes.mil import Program

        program = Program.load(path, "fp16" if mode == "fp16" else "fp32", threads=threads)
        inputs = {p.name: np.zeros([n or 1 for n in p.shape], np.float32) for p in program.inputs}

        def call() -> None:
            program.run(inputs)
    else:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(path, num_threads=threads)
        interpreter.allocate_tensors()

        def call() -> None:
            interpreter.invoke()

    call()
    figures = {"start_s": time.time() - began, "rss_mb": _peak_mb()}
    milliseconds = []
    for _ in range(windows):
        start = time.perf_counter()
        call()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    print(
        json.dumps(figures | {"median_ms": statistics.median(milliseconds), "mean_ms": statistics.fmean(milliseconds)})
    )


def main() -> None:
    """Print start, memory, and milliseconds a window for each engine and number of neighbours."""
    parser = options(__doc__)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--neighbours", default="0,2")
    arguments = parser.parse_args()
    import hearpack
    from runtimes.bundle import Bundle

    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = Bundle.open(hearpack.export("yamnet", folder).path)
        for count in map(int, arguments.neighbours.split(",")):
            for engine, mode, threads in RUNS:
                kind = f"coreml-{mode}" if engine == "mil" else f"litert-{mode}"
                path = str(bundle.artefact_path(bundle.artefact(kind)))
                code = (
                    f"import mil_busy; mil_busy.child({path!r}, {engine!r}, {mode!r}, {threads}, {arguments.windows}, "
                )
                with neighbours(count):
                    command = [sys.executable, "-c", f"{code}{time.time()})"]
                    done = subprocess.run(
                        command, cwd=ROOT / "bench", env=_environment(), capture_output=True, text=True, check=True
                    )
                found = json.loads(done.stdout.splitlines()[-1])
                name = f"{engine}-{mode}, {threads or 'own'} threads, {count} neighbours"
                figures[name] = found
                print(
                    f"{name:42} start {found['start_s']:5.2f} s {found['rss_mb']:5.0f} MB, a window "
                    f"{found['median_ms']:7.1f} ms (median) {found['mean_ms']:7.1f} ms (mean)",
                    flush=True,
                )
    save(arguments.json, figures, sort_keys=True)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'bench'}"}


if __name__ == "__main__":
    main()
