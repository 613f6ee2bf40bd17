"""Enhancers on pairs of noisy and clean recordings: the original, the .tflite and the .mlpackage side by side.

    python bench/quality.py [--models gtcrn,dtln] [--json FILE]

The pairs are VCTK-DEMAND's in ../shared/data (not part of the product), and speech in the street at 0 and 5 dB, which
every machine has. SI-SDR, wideband PESQ, STOI where pystoi is installed, DNSMOS overall. The original is torch's
offline net; the artefacts are streamed, their delay taken out. The .mlpackage runs in the evaluator, which
is not Apple's hardware.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from side_by_side import options, save

import hearpack
from converters.bundle.reference import entry_of, original, stream
from converters.bundle.test_audio import noisy_speech, to_rate
from models import pretrained
from models.weights.assets import pull_asset
from runtimes.bundle import Bundle
from runtimes.engines import Choice, engines_for, open_runtime
from runtimes.torch import load_net
from streaming.files.wav import read_wav
from streaming.metrics.quality import measure

PAIRS = Path(__file__).resolve().parents[2] / "shared" / "data" / "audio" / "vctk_demand"
METRICS = ("si_sdr", "pesq_wb", "stoi", "dnsmos_ovr")
QUALITY_RATE_HZ = 16000

Array = NDArray[np.float32]


def pairs(rate: int) -> Iterator[tuple[str, Array, Array]]:
    """(name, clean, noisy) at the net's rate."""
    for noisy_file in sorted(PAIRS.glob("noisy_*.wav")):
        clean, noisy = (read_wav(noisy_file.with_name(n)) for n in (f"clean_{noisy_file.name[6:]}", noisy_file.name))
        yield noisy_file.stem[6:], *(to_rate(c.samples[0], c.sample_rate_hz, rate) for c in (clean, noisy))
    for snr_db in (0.0, 5.0):
        clean, noisy = noisy_speech(rate, 20.0, snr_db)
        yield f"street {snr_db:g} dB", clean, noisy


def figures(clean: Array, heard: Array, rate: int) -> dict[str, float | None]:
    """The metrics of one signal, at 16 kHz, where PESQ and DNSMOS are defined."""
    reference, signal = (to_rate(x, rate, QUALITY_RATE_HZ) for x in (clean, heard))
    found = {m.name: m.value for m in measure(reference, signal, QUALITY_RATE_HZ, pull_asset("dnsmos"))}
    try:
        from pystoi import stoi

        found["stoi"] = float(stoi(reference, signal, QUALITY_RATE_HZ))
    except ImportError:
        found["stoi"] = None
    return {name: found.get(name) for name in METRICS}


def of_model(name: str, output: Path) -> dict[str, Any]:
    """Every pair through every artefact of one model."""
    bundle = Bundle.open(hearpack.export(name, output).path)
    manifest, rate = bundle.manifest, bundle.manifest.geometry.sample_rate_hz
    delay = manifest.geometry.delay_samples
    net = load_net(entry_of(manifest), pretrained.load(name))
    runtimes = {a.id: open_runtime(bundle, Choice(a, engines_for(a)[0])) for a in manifest.artefacts}
    rows: dict[str, Any] = {}
    for pair, clean, noisy in pairs(rate):
        rows[pair] = {"noisy": figures(clean, noisy, rate)}
        rows[pair]["original"] = figures(clean, original(manifest, net, noisy).values[delay:], rate)
        for artefact, runtime in runtimes.items():
            rows[pair][artefact] = figures(clean, stream(manifest, runtime, noisy).values[delay:], rate)
    return rows


def spread(rows: dict[str, Any], metric: str) -> float:
    """Largest difference of a metric between the original and an artefact, over all pairs."""
    spreads = []
    for row in rows.values():
        values = [v[metric] for k, v in row.items() if k != "noisy" and v[metric] is not None]
        spreads += [max(values) - min(values)] if values else []
    return max(spreads, default=float("nan"))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--models", default="gtcrn,dtln", help="enhancers, separated by commas (default gtcrn,dtln)")
    arguments = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.models.split(","):
            rows = result[name] = of_model(name, Path(scratch))
            print(f"{name}: " + " / ".join(METRICS))
            for pair, row in rows.items():
                for who, values in row.items():
                    shown = (f"{v:.3f}" if v is not None else "absent" for v in values.values())
                    print(f"  {pair:16s} {who:14s} " + "  ".join(f"{s:>8s}" for s in shown))
            print("  largest spread between original and artefacts: ", end="")
            print(", ".join(f"{metric} {spread(rows, metric):.4f}" for metric in METRICS), flush=True)
    save(arguments.json, result)


if __name__ == "__main__":
    main()
