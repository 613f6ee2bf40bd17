"""What the simulator itself costs: virtual runs side by side with bare loops over the same interpreter.

    python bench/simulator_cost.py [--bundle FOLDER ...] [--device NAME] [--seconds 20] [--rounds 7] [--json FILE]

Three things take turns, over the same sound, and medians are compared:

- bare: the artefact's calls alone, on samples that are at the model's rate already;
- phone: those, and the work that any host has to do as well: resampling each block, and for an enhancer resampling
  back, writing into and reading from the playout ring;
- simulator: the virtual run, with capture plan, ring, ledger and counts, nothing written to disk.

Printed is the cost of a callback block above both, and the share of the whole above bare.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.bundle import Bundle
from runtimes.opening import choose, open_runtime
from runtimes.protocol import Runtime
from streaming.capture import ClipSource, device_callbacks, device_stretches
from streaming.compute import ComputeModel
from streaming.device import DeviceProfile, load_profile
from streaming.loop import make_loop
from streaming.pipeline import Pipeline
from streaming.playout import PlayoutRing
from streaming.resample import Resampler, resample
from streaming.simulate import default_prefill, default_ring
from streaming.sinks import no_sinks
from streaming.virtual import run_virtual


def bare(bundle: Bundle, runtime: Runtime, samples: Any) -> Callable[[], None]:
    """The calls alone."""
    buffer = bundle.manifest.buffer
    decisions = bundle.manifest.decisions
    hop = buffer.samples if decisions is None else decisions.window_hop_samples

    def run() -> None:
        state = runtime.reset()
        for start in range(0, len(samples) - buffer.samples + 1, hop):
            _, state = runtime.step(samples[None, start : start + buffer.samples], state)

    return run


def phone(bundle: Bundle, runtime: Runtime, profile: DeviceProfile, source: ClipSource) -> Callable[[], None]:
    """The calls, and what any host has to do around them."""
    rate = bundle.manifest.geometry.sample_rate_hz
    plan = list(device_callbacks(profile, source, 0))
    back = Resampler(rate, profile.output_rate_hz)
    prefill = default_prefill(bundle, profile)

    def run() -> None:
        resampler, loop = Resampler(profile.rate_hz, rate), make_loop(bundle.manifest, runtime)
        back.reset()
        ring = PlayoutRing(profile.output_rate_hz + prefill, prefill, profile.output_block_frames)
        owed = 0.0
        for callback in plan:
            block = source.read(callback.rate_hz, callback.first_frame, callback.frames)
            results = loop.push(resampler.process(block))
            if loop.audio_out:
                for result in results:
                    ring.write(back.process(result.values))
                owed += callback.frames * profile.output_rate_hz / callback.rate_hz
                while owed >= profile.output_block_frames:
                    owed -= profile.output_block_frames
                    ring.read(profile.output_block_frames)

    return run


def simulator(bundle: Bundle, runtime: Runtime, profile: DeviceProfile, source: ClipSource) -> Callable[[], None]:
    """The virtual run."""
    manifest = bundle.manifest
    ring, prefill = default_ring(bundle, profile, "drop_oldest"), default_prefill(bundle, profile)
    total_ns = source.frames(profile.rate_hz) * 1_000_000_000 // profile.rate_hz

    def run() -> None:
        sinks = no_sinks(total_ns, manifest.geometry.sample_rate_hz)
        pipeline = Pipeline(manifest, bundle.labels(), runtime, profile, "drop_oldest", ring, prefill, sinks)
        compute = ComputeModel([200_000, 400_000], "paced", profile, 0, "")
        run_virtual(pipeline, device_stretches(profile, source, 0), source, compute)
        sinks.close()

    return run


def share(longer: list[float], shorter: list[float]) -> float:
    """Median of the ratios of a round, less one."""
    return round(statistics.median(a / b for a, b in zip(longer, shorter, strict=True)) - 1.0, 4)


def measure(bundle: Bundle, device: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Medians of the three."""
    profile = load_profile(device)
    noise = (0.05 * np.random.default_rng(0).standard_normal(round(seconds * profile.rate_hz))).astype(np.float32)
    source = ClipSource(noise, profile.rate_hz)
    samples = resample(noise, profile.rate_hz, bundle.manifest.geometry.sample_rate_hz)
    blocks = sum(1 for _ in device_callbacks(profile, source, 0))
    runtime = open_runtime(bundle, choose(bundle))
    runs = {
        "bare": bare(bundle, runtime, samples),
        "phone": phone(bundle, runtime, profile, source),
        "simulator": simulator(bundle, runtime, profile, source),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    runtime.close()
    above_bare = [s - b for s, b in zip(times["simulator"], times["bare"], strict=True)]
    above_phone = [s - p for s, p in zip(times["simulator"], times["phone"], strict=True)]
    return {
        "bundle": bundle.path.name,
        "device": device,
        "blocks": blocks,
        "seconds": {name: round(statistics.median(values), 4) for name, values in times.items()},
        "us_a_block_above_bare": round(1e6 * statistics.median(above_bare) / blocks, 2),
        "us_a_block_above_phone": round(1e6 * statistics.median(above_phone) / blocks, 2),
        "share_above_bare": share(times["simulator"], times["bare"]),
        "share_above_phone": share(times["simulator"], times["phone"]),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", default=[])
    parser.add_argument("--device", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundles = arguments.bundle
        if not bundles:
            from hearpack.api import export

            bundles = [str(export(name, folder).path) for name in ("dtln", "yamnet")]
        found = [
            measure(Bundle.open(bundle), device, arguments.seconds, arguments.rounds)
            for bundle in bundles
            for device in arguments.device or ["android-burst-192", "iphone-sink"]
        ]
    for f in found:
        s = f["seconds"]
        print(
            f"{f['bundle']} on {f['device']}: bare {s['bare']:.3f} s, phone's work {s['phone']:.3f}, simulator "
            f"{s['simulator']:.3f}; a block costs {f['us_a_block_above_bare']} us above bare, "
            f"{f['us_a_block_above_phone']} us above the phone's work; "
            f"the whole is {f['share_above_bare']:.1%} above bare, {f['share_above_phone']:.1%} above the phone's work"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
