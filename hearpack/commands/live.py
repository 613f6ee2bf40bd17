"""The one line that a run in real time shows while it goes: level, best label, how late."""

from __future__ import annotations

import math

from streaming.simulator.pipeline.pipeline import Status

_BAR = 20
_FLOOR_DBFS = -60.0


def live_line(status: Status, now_ns: int, total_ns: int) -> str:
    """For instance "  3.2 s |######      | -21 dBFS  ring 128  late 86 ms  misses 0  Speech 0.93"."""
    dbfs = status.level.rms_dbfs
    share = max(0.0, min(1.0, 1.0 - dbfs / _FLOOR_DBFS)) if math.isfinite(dbfs) else 0.0
    bar = "#" * round(_BAR * share)
    loudness = f"{dbfs:4.0f} dBFS" if math.isfinite(dbfs) else "silence  "
    total = f"/{total_ns / 1e9:.1f}" if total_ns else ""
    line = (
        f"{now_ns / 1e9:7.1f}{total} s |{bar:<{_BAR}}| {loudness}  ring {status.held:6d}  "
        f"late {status.delay_ns / 1e6:6.1f} ms  misses {status.misses}"
    )
    if status.best is not None:
        label, score = status.best
        line += f"  {label} {score:.2f}"
    return line if status.underruns is None else f"{line}  underruns {status.underruns}"
