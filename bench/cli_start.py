"""How long `hearpack --help` takes as a whole process, beside a Python that does nothing.

python bench/cli_start.py [--runs 11] [--json FILE]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from side_by_side import options, save

COMMANDS = {
    "hearpack --help": [sys.executable, "-c", "from hearpack.cli import main; main()", "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def main() -> None:
    """Print the median, minimum and maximum of both, run by turns."""
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=11)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(arguments.runs + 1):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[1])
            if run > 0:  # the first one fills the page cache
                seconds[name].append(time.perf_counter() - began)
    figures = {
        name: {"median_s": statistics.median(values), "min_s": min(values), "max_s": max(values)}
        for name, values in seconds.items()
    }
    for name, figure in figures.items():
        print(f"{name:18} median {figure['median_s']:.3f} s  ({figure['min_s']:.3f} to {figure['max_s']:.3f})")
    save(arguments.json, figures, sort_keys=True)


if __name__ == "__main__":
    main()
