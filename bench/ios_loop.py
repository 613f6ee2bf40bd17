"""What the Swift core adds to a call, side by side with the call itself: kit-probe steady, five runs by turns, medians.

python bench/ios_loop.py BUNDLE [BUNDLE…]; needs the kit built by tests/ios (make test-ios). Linux, release build.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import ai_edge_litert

ROOT = Path(__file__).resolve().parents[1]
PROBE = ROOT / "build" / "ios" / "release" / "kit-probe"
LIBRARY = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
FIGURES = ("overhead_p50_us", "overhead_p95_us", "inference_p50_us", "allocations_kit", "allocations_engine")


def steady(bundle: Path, rate_hz: int) -> dict[str, float]:
    fields = [f"bundle={bundle}", "artefact=litert-fp32", f"library={LIBRARY}", f"rate={rate_hz}"]
    hops = 3_000 if "dtln" in bundle.name else 40
    command = [ROOT / "tools" / "swift_run.sh", ROOT, LIBRARY.parent, bundle.parent, "--", PROBE, "steady", *fields]
    done = subprocess.run([*map(str, command), f"hops={hops}"], capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return {k: answer[k] / (answer["hops"] if k.startswith("alloc") else 1) for k in FIGURES}


def main() -> None:
    if not PROBE.is_file():
        sys.exit("build the kit first: make test-ios")
    bundles = [Path(a).resolve() for a in sys.argv[1:]] or sys.exit(
        "name a bundle: make demo leaves some in build/demo"
    )
    cases = [(b, r) for b in bundles for r in (16_000, 48_000)]
    runs: dict[tuple[Path, int], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(5):
        for case in cases:
            runs[case].append(steady(*case))
    print(f"{'bundle':24} {'rate':>6}  {'above, p50':>10} {'p95':>8} {'the call':>9}  allocations a call: kit, LiteRT")
    for (bundle, rate), measured in runs.items():
        m = {k: statistics.median(run[k] for run in measured) for k in FIGURES}
        print(
            f"{bundle.name:24} {rate:6}  {m['overhead_p50_us']:7.1f} us {m['overhead_p95_us']:5.1f} us "
            f"{m['inference_p50_us']:6.1f} us  {m['allocations_kit']:.0f}, {m['allocations_engine']:.0f}"
        )


if __name__ == "__main__":
    main()
