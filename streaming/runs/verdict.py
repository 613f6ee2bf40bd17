"""Does it keep up? One sentence about a run, of whatever task, and what gave way first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streaming.core.playout import JITTERS, LEAST_JITTER_US
from streaming.runs.record import RunRecord

SHARE_ALLOWED = 0.01  # of calls late, of samples lost: more is no hiccup
_GIVES_WAY = {
    "ring_overrun": "the ring before the net overran",
    "skipped_hop": "a hop was skipped",
    "playout_underrun": "playout ran dry",
    "playout_overflow": "playout overflowed",
    "model_failed": "a call failed",
    "nan_output": "a call gave no finite output",
}


@dataclass(frozen=True)
class Verdict:
    """What came of a run.

    Attributes:
        keeps_up: whether no more than a hundredth of its calls was late and of its audio lost.
        clean: whether nothing at all was.
        sentence: for people.
    """

    keeps_up: bool
    clean: bool
    sentence: str


def verdict(record: RunRecord) -> Verdict:
    """Judge a run by its counts.

    Args:
        record: any run.

    Returns:
        the verdict; audio that the device lost before our code had it counts as nobody's fault here.
    """
    counts, playout = record.counts, record.playout
    counted = [
        (counts.misses, counts.calls, "calls late"),
        (counts.dropped, counts.written, "samples dropped before the net"),
        (counts.skipped_hops, counts.calls + counts.skipped_hops, "hops skipped"),
        (counts.failed_calls, counts.calls, "calls failed"),
        (counts.nan_outputs, counts.calls, "calls without finite output"),
    ]
    if playout is not None:
        played = round(record.simulated_s * playout.rate_hz)
        counted += [
            (playout.underrun, played, f"samples missing in {_times(playout.underruns, 'underrun')} of playout"),
            (playout.dropped, played, "samples dropped before playout"),
        ]
    wrong = [(number, of, what) for number, of, what in counted if number]
    keeps_up = counts.calls > 0 and all(number <= SHARE_ALLOWED * of for number, of, _ in wrong)
    said = "; ".join(
        f"{number:,} of {of:,} {what}" if of >= number else f"{number:,} {what}" for number, of, what in wrong
    )
    if not counts.calls:
        return Verdict(False, False, "cannot be told: no call was made")
    if not wrong:
        return Verdict(True, True, "keeps up: no call late, nothing lost after capture")
    first = _first(record)
    said += f"; first, {first}" if first else ""
    return Verdict(keeps_up, False, f"keeps up but for hiccups: {said}" if keeps_up else f"does not keep up: {said}")


def late_callbacks(record: RunRecord) -> str:
    """What prefill would hold the late callbacks of the device's own; "" where playout did not run dry, there are none,
    or the prefill holds them already."""
    playout = record.playout
    figures = {name: figure.value for name, figure in record.profile.figures.items()}
    if playout is None or playout.underruns == 0 or figures["late_per_minute"] == 0:
        return ""
    late_ms, rate = figures["late_ms"], figures["late_per_minute"]
    blocks_ms = 1e3 * (playout.block_frames / playout.rate_hz + figures["block_frames"][1] / figures["rate_hz"])
    jitter_ms = JITTERS * max(figures["jitter_us"], LEAST_JITTER_US) / 1e3
    wanted_ms = math.ceil(1e3 * record.buffer_samples / record.model_rate_hz + blocks_ms + jitter_ms + late_ms)
    held_ms = 1e3 * playout.prefill_samples / playout.rate_hz
    if held_ms >= wanted_ms - 1:
        return ""
    return (
        f"this device's callbacks come {late_ms:g} ms late {rate:g} times per minute, and the prefill of "
        f"{held_ms:.1f} ms does not hold that: --prefill-ms {wanted_ms} does, or playout.prefill_samples = "
        f"{math.ceil(wanted_ms * record.model_rate_hz / 1e3)} in the manifest, which the apps follow, too"
    )


def _first(record: RunRecord) -> str:
    """What gave way first, and when."""
    found = [(f.time_ns, _GIVES_WAY[f.kind]) for f in record.faults if f.kind in _GIVES_WAY]
    if record.first_late_ns is not None:
        found.append((record.first_late_ns, "a call ended too late"))
    if not found:
        return ""
    time_ns, what = min(found)
    return f"{what} at {time_ns / 1e9:.3f} s"


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
