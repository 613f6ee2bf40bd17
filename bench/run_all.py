"""Every bench, one after the other; figures as JSON into build/bench/. Run it with: make bench."""

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
    "cli_start",
    "export_time",
    "mil_speed",
    "mil_compressed",
    "android_loop",
    "simulator_cost",
)


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
    print(f"figures: {out}")
    if failed:
        print(f"could not run: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
