"""Export and verification of both models to both formats, converted for real, then again unchanged.

    python bench/export_time.py [--json FILE]

Weights are in the cache beforehand. Each row is a process of its own, imports included, as a user pays it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import options, save

from models import pretrained
from models.weights.assets import ASSETS, pull_asset

ROOT = Path(__file__).resolve().parents[1]
FORCED = """
import sys, hearpack
for name in ("yamnet", "dtln"):
    result = hearpack.export(name, sys.argv[1], force=True)
    report = hearpack.verify(result.path)
    assert report.passed, report
"""
AGAIN = """
import sys, hearpack
for name in ("yamnet", "dtln"):
    assert hearpack.export(name, sys.argv[1]).cached
"""


def run(code: str, folder: str) -> float:
    """Seconds that a process takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, folder], check=True, cwd=ROOT)
    return time.perf_counter() - began


def main() -> None:
    """Print both figures."""
    parser = options(__doc__)
    arguments = parser.parse_args()
    for name in ("yamnet", "dtln"):
        pretrained.pull(name)
    for asset in ASSETS:
        pull_asset(asset)
    with tempfile.TemporaryDirectory() as folder:
        figures = {"export_and_verify_s": run(FORCED, folder), "again_unchanged_s": run(AGAIN, folder)}
    print(f"both models, both formats, fp32 and fp16, verified over 60 s: {figures['export_and_verify_s']:.1f} s")
    print(f"again, unchanged: {figures['again_unchanged_s']:.2f} s")
    save(arguments.json, figures, sort_keys=True)


if __name__ == "__main__":
    main()
