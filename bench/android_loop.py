"""What the Kotlin loop costs above LiteRT's call, a hop, on the JVM: processor time, both measured in the same run.

python bench/android_loop.py [--json FILE]; needs `make android-toolchain`. `loop` is the buffer loop alone; `pipeline`
has the resampler, the input meter and the decisions besides. A hop of YAMNet is 60 hops of DTLN.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import options, save

from hearpack import export
from tools.android import build, jvm, reference, toolchain


def main() -> int:
    """Print a row for each bundle and device rate."""
    parser = options(__doc__)
    arguments = parser.parse_args()
    if reason := toolchain.missing():
        print(reason)
        return 1
    tools = toolchain.find()
    with tempfile.TemporaryDirectory() as scratch:
        bundles = {name: export(name, Path(scratch) / "bundles").path for name in ("dtln", "yamnet")}
        reference.write(bundles, Path(scratch) / "given")
        command = build.java_command(tools, "hearpack.tests.Bench", jvm.properties(Path(scratch) / "given"))
        printed = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True).stdout
    figures = []
    print("model   device rate  hop (ms)  LiteRT's call (us)  loop above it (us)  pipeline above it (us)")
    for line in printed.splitlines():
        if not line.startswith("bench "):
            continue
        _, name, rate, hop, call, loop, pipeline = line.split()
        row = {"call_us": float(call), "loop_us": float(loop), "pipeline_us": float(pipeline)}
        figures.append({"model": name, "device_rate_hz": int(rate), "hop_samples": int(hop), **row})
        ms = int(hop) / 16
        shown = f"{row['call_us']:>19.1f} {row['loop_us']:>19.2f} {row['pipeline_us']:>23.2f}"
        print(f"{name:7} {rate:>11} {ms:>9.0f} {shown}")
    save(arguments.json, figures, sort_keys=True)
    return 0 if figures else 1


if __name__ == "__main__":
    sys.exit(main())
