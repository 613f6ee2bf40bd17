"""What the factored DFT of a front end costs, beside one matrix of the bins that mel reads: log-mel of a second.

python bench/front_end_dft.py [--json FILE]. Size is that of the .tflite; time is CPU time a window of one thread, the
least of alternating turns; dB is the agreement with numpy in float64, mel energies before the logarithm.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import options, save
from torch import nn

from converters.coreml.convert import CoreMLMetadata
from converters.coreml.convert import convert as to_coreml
from converters.litert.convert import convert as to_litert
from models.geometry import GraphSignature, StreamGeometry, TensorSpec
from models.layers import front_end
from models.layers.front_end import Features
from models.layers.front_end_spec import FrontEndSpec
from models.layers.mel import mel_matrix
from runtimes.litert import LiteRTRuntime
from runtimes.mil import MilRuntime

RATE, BANDS, TURNS, CALLS = 16000, 64, 15, 4
FORMS = ("one matrix", "factored")


class Graph(nn.Module):
    """One window to its features."""

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__()
        self.features = Features(spec, spec.frames(RATE))

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor]:
        """[1, samples] to ([1, frames, bands],)."""
        return (self.features(audio),)


def runtimes(spec: FrontEndSpec, form: str, folder: Path) -> tuple[int, dict[str, Any], np.ndarray]:
    """Bytes of the .tflite, both runtimes, and what torch says of `audio()`."""
    kept = front_end.constants
    if form == "one matrix":
        front_end.constants = lambda *_: 10**12
    try:
        graph = Graph(spec).eval()
    finally:
        front_end.constants = kept
    signature = GraphSignature(
        (TensorSpec("audio", (1, RATE), (-1.0, 1.0), ""),),
        (TensorSpec("features", (1, spec.frames(RATE), BANDS), (0.0, 1.0), ""),),
    )
    tflite = to_litert(graph, signature, "fp32")
    package = folder / f"{spec.n_fft}-{form.replace(' ', '-')}.mlpackage"
    metadata = CoreMLMetadata("a front end", "nobody", "MIT", "1", StreamGeometry(RATE, 1, RATE, RATE, 0), ())
    to_coreml(graph, signature, "fp32", (), package, metadata)
    with torch.no_grad():
        out = graph(torch.from_numpy(audio()))[0].numpy()
    return (
        len(tflite),
        {"litert": LiteRTRuntime(tflite, signature, "compiled"), "mil": MilRuntime(package, signature)},
        out,
    )


def audio() -> np.ndarray:
    """[1, samples], the same each time."""
    return (0.1 * np.random.default_rng(0).standard_normal((1, RATE))).astype(np.float32)


def truth(spec: FrontEndSpec) -> np.ndarray:
    """Mel energies in float64."""
    frames = np.lib.stride_tricks.sliding_window_view(audio()[0].astype(np.float64), spec.n_fft)[:: spec.hop_samples]
    turn = 2 * np.pi * np.arange(spec.n_fft) / spec.n_fft
    power = np.abs(np.fft.rfft(frames * (0.5 - 0.5 * np.cos(turn)))) ** 2
    return np.asarray(power @ mel_matrix(spec))


def decibels(came: np.ndarray, expected: np.ndarray) -> float:
    """Signal over error."""
    return float(10 * np.log10((expected**2).sum() / ((came - expected) ** 2).sum()))


def main() -> int:
    """Print a row for each size and form."""
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    figures = []
    print("n_fft  form         .tflite (MB)  LiteRT (ms)  evaluator (ms)  LiteRT (dB)  evaluator (dB)")
    with tempfile.TemporaryDirectory() as scratch:
        for n_fft in (400, 512, 1024, 2048):
            spec = FrontEndSpec("log_mel", RATE, n_fft, n_fft, n_fft // 4, bands=BANDS, log="none", offset=0.0)
            made = {form: runtimes(spec, form, Path(scratch)) for form in FORMS}
            best = {(form, engine): float("inf") for form in FORMS for engine in ("litert", "mil")}
            for _ in range(TURNS):
                for form, engine in best:
                    best[form, engine] = min(best[form, engine], cpu_ms(made[form][1][engine]))
            for form in FORMS:
                size, engines, _ = made[form]
                came = {
                    name: engine.step(audio(), engine.reset())[0]["features"][0] for name, engine in engines.items()
                }
                row = {
                    "n_fft": n_fft,
                    "form": form,
                    "tflite_mb": size / 1e6,
                    **{f"{name}_cpu_ms": best[form, name] for name in engines},
                    **{f"{name}_db": decibels(came[name], truth(spec)) for name in engines},
                }
                figures.append(row)
                print(
                    f"{n_fft:5}  {form:11} {row['tflite_mb']:>13.2f} {row['litert_cpu_ms']:>12.2f} "
                    f"{row['mil_cpu_ms']:>15.2f} {row['litert_db']:>12.1f} {row['mil_db']:>15.1f}"
                )
    save(arguments.json, figures)
    return 0


def cpu_ms(runtime: Any, clock: Callable[[], float] = time.process_time) -> float:
    """CPU time a call."""
    state, block = runtime.reset(), audio()
    begin = clock()
    for _ in range(CALLS):
        runtime.step(block, state)
    return (clock() - begin) / CALLS * 1e3


if __name__ == "__main__":
    sys.exit(main())
