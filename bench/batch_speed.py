"""`hearpack batch` beside a bare loop in one process over the same files and calls: files a second, memory.

    python bench/batch_speed.py BUNDLE [--files 1000] [--seconds 5] [--rounds 3] [--memory-files 0] [--json FILE]

The bare loop is what anybody writes: read the file with soundfile, resample nothing (the files are at the model's
rate), call the artefact hop by hop with its states, and for an enhancer write a float WAV. Both take turns; compared
are their times on the wall, starting the processes included. With --memory-files the same batch runs over so
many files, and the resident memory of its driver and of its workers is printed at every tenth.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from side_by_side import options, save

import hearpack
from hearpack.batch.job import Seen
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime


def recordings(folder: Path, bundle: Bundle, count: int, seconds: float) -> None:
    """Noise at the model's rate, each file another."""
    folder.mkdir(parents=True)
    rate = bundle.manifest.geometry.sample_rate_hz
    noise = np.random.default_rng(1).standard_normal(int(rate * seconds)).astype(np.float32) * 0.05
    for number in range(count):
        soundfile.write(folder / f"{number:06d}.wav", np.roll(noise, 37 * number), rate, "PCM_16")


def bare(bundle: Bundle, files: list[Path], output: Path) -> float:
    """Seconds of the loop."""
    output.mkdir()
    began = time.perf_counter()
    manifest = bundle.manifest
    runtime = open_runtime(bundle, choose(bundle))
    name, hop, size = runtime.signature.outputs[0].name, manifest.hop_samples, manifest.buffer.samples
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        state, results = runtime.reset(), []
        for start in range(0, len(samples) - size + 1, hop):
            outputs, state = runtime.step(samples[None, start : start + size], state)
            results.append(outputs[name])
        if manifest.gives_audio:
            soundfile.write(output / file.name, np.concatenate(results, -1)[0], rate, "FLOAT")
    runtime.close()
    return time.perf_counter() - began


def resident_mb(pid: int) -> float:
    """Of a process and its children, MB; children share little."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    pages = 0
    for one in pids:
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-files", type=int, default=0)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    figures: dict[str, object] = {"bundle": bundle.manifest.name, "files": arguments.files}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recordings(folder / "in", bundle, max(arguments.files, arguments.memory_files), arguments.seconds)
        files = sorted((folder / "in").iterdir())
        some = [str(f) for f in files[: arguments.files]]
        (folder / "some.csv").write_text("path\n" + "\n".join(some) + "\n", encoding="utf-8")
        times: dict[str, list[float]] = {"bare": [], "one": [], "all": []}
        for turn in range(arguments.rounds):
            times["bare"].append(bare(bundle, files[: arguments.files], folder / f"bare{turn}"))
            for name, workers in (("one", 1), ("all", None)):
                began = time.perf_counter()
                hearpack.batch(bundle, [folder / "some.csv"], folder / f"{name}{turn}", workers=workers)
                times[name].append(time.perf_counter() - began)
        medians = {name: statistics.median(found) for name, found in times.items()}
        overhead_ms = (medians["one"] - medians["bare"]) / arguments.files * 1e3
        figures |= {"seconds": medians, "speedup": medians["bare"] / medians["all"], "overhead_ms": overhead_ms}
        print(
            f"{bundle.manifest.name}, {arguments.files} files of {arguments.seconds:g} s: bare "
            f"{medians['bare']:.1f} s, batch with one process {medians['one']:.1f} s, with all {medians['all']:.1f} s: "
            f"{figures['speedup']:.2f} x; {overhead_ms:.2f} ms a file above bare, start included",
            flush=True,
        )
        if arguments.memory_files:
            figures["memory_mb"] = memory(bundle, folder)
    save(arguments.json, figures)


def memory(bundle: Bundle, folder: Path) -> list[float]:
    """Resident memory at every tenth of a batch."""
    found: list[float] = []

    def seen(now: Seen) -> None:
        if now.files * 10 >= (len(found) + 1) * now.total or not found:
            found.append(resident_mb(os.getpid()))
            print(f"{now.files} files: {found[-1]:.1f} MB", flush=True)

    hearpack.batch(bundle, [folder / "in"], folder / "memory", files_per_shard=100, progress=seen)
    return found


if __name__ == "__main__":
    sys.exit(main())
