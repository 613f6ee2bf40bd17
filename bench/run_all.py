"""Every bench, one after the other; figures as JSON into build/bench/. Run it with: make bench.

Some are left out, each for a reason that is printed: run them by hand.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCHES = (
    "dtln_hop",
    "gtcrn_hop",
    "deepfilternet3_hop",
    "yamnet_window",
    "front_end_dft",
    "cli_start",
    "export_time",
    "mil_speed",
    "mil_busy",
    "mil_compressed",
    "android_loop",
    "simulator_cost",
)
LEFT_OUT = {
    "one_hour": "an hour of virtual audio twice, with and without the simulator",
    "published_nets": "needs nets whose sources are not part of the product",
    "quality": "needs pairs of noisy and clean recordings that are not part of the product",
    "ios_loop": "needs a Swift toolchain and the kit that `make test-ios` builds",
}


def main() -> int:
    """Run all benches; the exit code is 1 if one of them could not run."""
    out = ROOT / "build" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in BENCHES:
        print(f"== {name}", flush=True)
        command = [sys.executable, str(ROOT / "bench" / f"{name}.py"), "--json", str(out / f"{name}.json")]
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            failed.append(name)
    for name, reason in LEFT_OUT.items():
        print(f"left out: {name} ({reason})")
    print(f"figures: {out}")
    if failed:
        print(f"could not run: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
