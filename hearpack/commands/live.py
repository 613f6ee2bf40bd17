"""The one line that wall mode shows while it runs: level, what is heard, how late."""

from __future__ import annotations

import numpy as np

from streaming.simulator.pipeline.pipeline import Pipeline

_BAR = 20
_FLOOR_DBFS = -60.0


def live_line(pipeline: Pipeline, now_ns: int, total_ns: int) -> str:
    """For instance "  3.2 s |######      | -21 dBFS  ring 128  late 86 ms  misses 0  Speech 0.93"."""
    level = pipeline.input_stage.meter.read()
    share = max(0.0, min(1.0, 1.0 - level.rms_dbfs / _FLOOR_DBFS)) if np.isfinite(level.rms_dbfs) else 0.0
    bar = "#" * round(_BAR * share)
    loudness = f"{level.rms_dbfs:4.0f} dBFS" if np.isfinite(level.rms_dbfs) else "silence  "
    total = f"/{total_ns / 1e9:.1f}" if total_ns else ""
    line = (
        f"{now_ns / 1e9:7.1f}{total} s |{bar:<{_BAR}}| {loudness}  ring {pipeline.ring.held:6d}  "
        f"late {pipeline.output_stage.last_delay_ns / 1e6:6.1f} ms  misses {pipeline.output_stage.misses}"
    )
    if pipeline.event_stage is not None and pipeline.event_stage.last_scores is not None:
        scores = pipeline.event_stage.last_scores
        best = int(np.argmax(scores))
        line += f"  {pipeline.event_stage.tracker.labels[best]} {float(scores[best]):.2f}"
    if pipeline.playback is not None:
        line += f"  underruns {pipeline.playback.ring.counts.underruns}"
    return line
