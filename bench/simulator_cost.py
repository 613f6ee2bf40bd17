"""What the simulator itself costs: virtual runs side by side with bare loops over the same interpreter.

    python bench/simulator_cost.py [--bundle FOLDER ...] [--device NAME] [--seconds 60] [--rounds 7] [--json FILE]

Four things take turns, over the same sound and with as many calls, and medians are compared:

- calls: the artefact's calls alone, on samples that are at the model's rate already;
- bare: the recording resampled, at once as a whole, those calls, and an enhancer's output resampled back: what anybody
  writes who has a recording at the device's rate and an interpreter;
- phone: the same block by block, and for an enhancer the playout ring: what a host on the phone has to do;
- simulator: the virtual run, with capture plan, ring, clock, ledger and counts, nothing written to disk.

Printed is the cost of a callback block above the first two, and the simulator's share of the whole above each.
The virtual clock does at once what need not be done one by one: the callbacks between two calls, results, and the
playout's reads between them. The run stays the same to the byte: tests/streaming/simulator/test_at_once.py.

docs/simulator.md has the table of --seconds 120: processor time, medians of five rounds by turns, one thread of a quiet
x86-64 machine. Over 300 s YAMNet's share above bare is between -4 and 4 %: resampling five minutes as a whole runs out
of the cache. The larger part of the cost above the calls is resampling: 73 us for each third of a second of 48 kHz,
exact in any partition. Without any (both rates 16 kHz, 4 ms blocks) DTLN costs 7 us per block above its calls, YAMNet
0.5 us, 6 to 7 % of a window that takes 0.82 ms here.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from side_by_side import options, save

import hearpack
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime
from runtimes.protocol import Runtime
from streaming.core.loop import make_loop
from streaming.core.playout import PlayoutRing
from streaming.core.resample import Resampler, resample
from streaming.simulator.device.compute import ComputeModel
from streaming.simulator.device.profile import DeviceProfile, load_profile
from streaming.simulator.pipeline.pipeline import Pipeline
from streaming.simulator.scenario import Scenario, clip_sound


def calls(bundle: Bundle, runtime: Runtime, samples: Any, count: int) -> Callable[[], list[Any]]:
    """The calls alone, over zeros at the end where the simulator flushes."""
    buffer, hop = bundle.manifest.buffer, bundle.manifest.hop_samples
    name = runtime.signature.outputs[0].name
    missing = (count - 1) * hop + buffer.samples - len(samples)
    padded = np.concatenate([samples, np.zeros(max(0, missing), np.float32)])

    def run() -> list[Any]:
        state, results = runtime.reset(), []
        for start in range(0, count * hop, hop):
            outputs, state = runtime.step(padded[None, start : start + buffer.samples], state)
            results.append(outputs[name])
        return results

    return run


def bare(bundle: Bundle, profile: DeviceProfile, noise: Any, run_calls: Callable[[], list[Any]]) -> Callable[[], None]:
    """Resampling at once, the calls, and resampling back."""
    rate = bundle.manifest.geometry.sample_rate_hz

    def run() -> None:
        resample(noise, profile.rate_hz, rate)
        results = run_calls()
        if bundle.manifest.decisions is None:
            resample(np.concatenate(results, axis=None), rate, profile.output_rate_hz)

    return run


def phone(scenario: Scenario, runtime: Runtime) -> Callable[[], None]:
    """The calls, and what any host has to do around them."""
    bundle, profile, source, rate = scenario.bundle, scenario.profile, scenario.sound.source, scenario.rate_hz
    plan = list(scenario.callbacks())
    back = Resampler(rate, profile.output_rate_hz)
    prefill = scenario.prefill_samples

    def run() -> None:
        resampler, loop = Resampler(profile.rate_hz, rate), make_loop(bundle.manifest, runtime)
        back.reset()
        rate_hz = profile.output_rate_hz
        ring = PlayoutRing(rate_hz + prefill, prefill, prefill // 4, prefill, rate_hz)
        owed = 0.0
        for callback in plan:
            block = source.read(callback.rate_hz, callback.first_frame, callback.frames)
            results = loop.push(resampler.process(block))
            if loop.audio_out:
                for result in results:
                    ring.write(back.process(result.values), callback.time_ns)
                owed += callback.frames * profile.output_rate_hz / callback.rate_hz
                while owed >= profile.output_block_frames:
                    owed -= profile.output_block_frames
                    ring.read(profile.output_block_frames, callback.time_ns)

    return run


def simulator(scenario: Scenario, runtime: Runtime) -> Callable[[], Pipeline]:
    """The virtual run."""

    def run() -> Pipeline:
        recorders = scenario.recorders()
        pipeline = scenario.pipeline(runtime, recorders)
        scenario.run_virtual(pipeline, compute=ComputeModel([200_000, 400_000], "paced", scenario.profile, 0, ""))
        recorders.close()
        return pipeline

    return run


def share(longer: list[float], shorter: list[float]) -> float:
    """Median of the ratios of a round, less one."""
    return round(statistics.median(a / b for a, b in zip(longer, shorter, strict=True)) - 1.0, 4)


def measure(bundle: Bundle, device: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Medians of the three."""
    profile = load_profile(device)
    noise = (0.05 * np.random.default_rng(0).standard_normal(round(seconds * profile.rate_hz))).astype(np.float32)
    scenario = Scenario(bundle, clip_sound(noise, profile.rate_hz, "noise"), profile)
    samples = resample(noise, profile.rate_hz, bundle.manifest.geometry.sample_rate_hz)
    blocks = sum(1 for _ in scenario.callbacks())
    runtime = open_runtime(bundle, choose(bundle))
    simulate = simulator(scenario, runtime)
    run_calls = calls(bundle, runtime, samples, simulate().calls)
    runs: dict[str, Callable[[], Any]] = {
        "calls": run_calls,
        "bare": bare(bundle, profile, noise, run_calls),
        "phone": phone(scenario, runtime),
        "simulator": simulate,
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
    found: dict[str, Any] = {
        "bundle": bundle.path.name,
        "device": profile.name,
        "blocks": blocks,
        "seconds": {name: round(statistics.median(values), 4) for name, values in times.items()},
    }
    for other in ("calls", "bare", "phone"):
        above = [s - o for s, o in zip(times["simulator"], times[other], strict=True)]
        found[f"us_a_block_above_{other}"] = round(1e6 * statistics.median(above) / blocks, 2)
        found[f"share_above_{other}"] = share(times["simulator"], times[other])
    return found


def main() -> int:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--bundle", action="append", default=[])
    parser.add_argument("--device", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundles = arguments.bundle or [str(hearpack.export(name, folder).path) for name in ("dtln", "yamnet")]
        found = [
            measure(Bundle.open(bundle), device, arguments.seconds, arguments.rounds)
            for bundle in bundles
            for device in arguments.device or ["android-burst-192", "iphone-sink"]
        ]
    for f in found:
        s = f["seconds"]
        above = ", ".join(
            f"{f[f'us_a_block_above_{o}']} us ({f[f'share_above_{o}']:.1%}) above {o}"
            for o in ("calls", "bare", "phone")
        )
        print(
            f"{f['bundle']} on {f['device']}: calls {s['calls']:.3f} s, bare {s['bare']:.3f}, phone {s['phone']:.3f}, "
            f"simulator {s['simulator']:.3f}; a block costs {above}"
        )
    save(arguments.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
