"""What compressing the exported Core ML packages costs: size, and error against torch, in the evaluator (mode fp32).

    python bench/mil_compressed.py [--models yamnet,dtln] [--schemes int8,palette-4,...] [--json FILE]

The fp32 packages come out of the export cache; coremltools.optimize.coreml compresses them (k-means at 8 bits takes
one to two minutes for YAMNet: that is most of this bench's time). YAMNet hears the street, DTLN five seconds of speech
in it. Figures do not depend on the machine's speed; the seconds of compressing do.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import options, save

import hearpack
from converters.bundle.reference import compare, original, stream
from converters.bundle.test_audio import programme
from converters.coreml.precision import quiet_coremltools
from models import pretrained
from runtimes.bundle import Bundle
from runtimes.mil import MilRuntime
from runtimes.torch import load_net

YAMNET_WINDOWS = 20
DTLN_SECONDS = 5.0

Compress = Callable[[Any], Any]


def schemes() -> dict[str, Compress]:
    """Functions from a coremltools model to its compressed copy, by name; coremltools' defaults but for what is said.

    The defaults: weights of 2,048 elements or fewer stay as they are; int8 is symmetric, a scale for each output
    channel; a palette is one for each weight tensor.
    """
    import coremltools.optimize.coreml as cto

    def config(op_config: Any) -> Any:
        return cto.OptimizationConfig(global_config=op_config)

    def palette(bits: int) -> Compress:
        return lambda m: cto.palettize_weights(m, config(cto.OpPalettizerConfig(mode="kmeans", nbits=bits)))

    int8 = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype=np.int8)
    return {
        "none": lambda m: m,
        "int8": lambda m: cto.linear_quantize_weights(m, config(int8)),
        "palette-8": palette(8),
        "palette-6": palette(6),
        "palette-4": palette(4),
        "pruned-50": lambda m: cto.prune_weights(m, config(cto.OpMagnitudePrunerConfig(target_sparsity=0.5))),
    }


def size_mb(package: Path) -> float:
    """All of a package's files, in units of 1,000,000 bytes."""
    return sum(f.stat().st_size for f in package.rglob("*") if f.is_file()) / 1e6


def top5_kept(reference: Any, candidate: Any) -> float:
    """Fraction of the reference's five best labels, over all windows, that are among the candidate's five best."""
    best = [np.argsort(-scores, axis=1, kind="stable")[:, :5] for scores in (reference, candidate)]
    return float(np.mean([len(set(a) & set(b)) / 5 for a, b in zip(*best, strict=True)]))


def material(manifest: Any) -> Any:
    """The signal for a model: as many seconds as give the windows, or DTLN_SECONDS of noisy speech."""
    rate = manifest.geometry.sample_rate_hz
    if manifest.gives_audio:
        return programme("speech", rate, DTLN_SECONDS)
    hop = manifest.decisions.window_hop_samples
    return programme("street", rate, 60.0)[: manifest.buffer.samples + (YAMNET_WINDOWS - 1) * hop]


def measure(name: str, wanted: list[str], folder: Path) -> dict[str, dict[str, float]]:
    """A row of figures for each scheme of one model."""
    bundle = Bundle.open(hearpack.export(name, folder).path)
    manifest, samples = bundle.manifest, material(bundle.manifest)
    source = bundle.artefact_path(bundle.artefact("coreml-fp32"))
    reference = original(manifest, load_net(hearpack.CATALOG[name], pretrained.load(name)), samples)
    rows = {}
    for scheme in wanted:
        package = folder / f"{name}.{scheme}.mlpackage"
        with quiet_coremltools() as ct:
            model = ct.models.MLModel(str(source), skip_model_load=True)
            began = time.perf_counter()
            compressed = schemes()[scheme](model)
            seconds = time.perf_counter() - began
            compressed.save(str(package))
        result = stream(manifest, MilRuntime(package, manifest.signature), samples)
        parity = compare(manifest, reference, result).metrics()
        row = {"size_mb": size_mb(package), "compress_s": seconds}
        if not manifest.gives_audio:
            row |= {"windows": len(reference.values), "top5_labels_kept": top5_kept(reference.values, result.values)}
        rows[scheme] = row | parity
        print(_line(name, scheme, rows[scheme]), flush=True)
    return rows


def _line(name: str, scheme: str, row: Mapping[str, float]) -> str:
    if "windows" in row:
        error = (
            f"largest score error {row['score_max_abs_error']:.6f}, top-5 labels kept {row['top5_labels_kept']:.0%}, "
            f"top-1 changed in {row['top1_flips']:.0f} of {row['windows']:.0f}"
        )
    else:
        error = f"SNR {row['snr_db']:.1f} dB, worst 100 ms {row['worst_frame_snr_db']:.1f} dB"
    return f"{name:8} {scheme:10} {row['size_mb']:6.2f} MB  {error}  ({row['compress_s']:.1f} s to compress)"


def main() -> None:
    """Print a line for each model and scheme."""
    names = ("none", "int8", "palette-8", "palette-6", "palette-4", "pruned-50")
    parser = options(__doc__)
    parser.add_argument("--models", default="yamnet,dtln")
    parser.add_argument("--schemes", default=",".join(names), help=f"any of {', '.join(names)}")
    arguments = parser.parse_args()
    models, wanted = arguments.models.split(","), arguments.schemes.split(",")
    unknown = [s for s in wanted if s not in names] + [m for m in models if m not in ("yamnet", "dtln")]
    if unknown:
        sys.exit(f"unknown model or scheme: {', '.join(unknown)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = {name: measure(name, wanted, Path(folder)) for name in models}
    save(arguments.json, figures, sort_keys=True)


if __name__ == "__main__":
    main()
