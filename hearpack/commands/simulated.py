"""A simulated run as text: times of calls, parts of the delay, counts, events, faults, and what a search found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from hearpack.commands.shared import console, say, say_input, show_table
from models.common.printable import counted

if TYPE_CHECKING:
    from streaming.runs.record import HiccupRecord, RunRecord


def show(record: RunRecord, output: Path | None) -> None:
    """The record as text."""
    from streaming.runs.verdict import verdict

    say_input(None, record.audio.warnings)
    if record.audio.level:
        say(record.audio.level, err=True)
    out = console()
    out.print(
        f"{record.bundle} {record.artefact} on {record.engine}; {record.profile.name}: {record.profile.title}; "
        f"{record.clock} clock, {record.simulated_s:.1f} s, seed {record.seed}, {record.policy}"
    )
    if record.ended != "finished":
        out.print(record.message if record.ended == "interrupted" else f"error: {record.message}")
    _show_times(record)
    for line in _lines(record):
        out.print(line)
    out.print(verdict(record).sentence)
    if output is not None:
        out.print(f"wrote {output}")


def _show_times(record: RunRecord) -> None:
    """Times of a call by provenance, then the ledger's parts by kind; a part below a microsecond is left out."""

    from streaming.runs.load import delay_kind

    def row(name: str, *values: float) -> tuple[str, ...]:
        return name, *(f"{v / 1e6:.3f}" for v in values)

    for provenance in dict.fromkeys(times.provenance for times in record.compute):
        calls = [(t.label, t.quantiles) for t in record.compute if t.provenance == provenance]
        rows = [row(label, q.p50, q.p95, q.p99, q.max) for label, q in calls]
        show_table((f"time of a call, {provenance}", "p50", "p95", "p99", "max ms"), rows)
    for ledger in record.ledger:
        parts = [(name, ledger.mean_parts[name], q.p50, q.p95, q.max) for name, q in ledger.parts.items()]
        rows = [row(*part) for part in parts if any(abs(v) >= 500 for v in part[1:])]
        total, article = ledger.total, "an" if ledger.kind == "event" else "a"
        rows.append(row("total", total.mean, total.p50, total.p95, total.max))
        show_table((f"delay of {article} {ledger.kind}, {delay_kind(record)}", "mean", "p50", "p95", "max ms"), rows)


def _lines(record: RunRecord) -> Iterator[str]:
    """Check, counts, events, faults and figures of a search."""
    from streaming.runs.verdict import late_callbacks

    counts, check, playout = record.counts, record.delay_check, record.playout
    if check is not None:
        yield (
            f"self-test of the ledger with a probe ({check.method}) in a run of its own, no verdict on this one: "
            f"ledger {check.ledger_ns / 1e6:.3f} ms, found in the sound {check.measured_ns / 1e6:.3f} ms, "
            f"{abs(check.mismatch_samples):.2f} samples apart (at most {check.limit_samples:g}): "
            f"{'passed' if check.passed else 'FAILED'}"
        )
    yield (
        f"counted: {counted(counts.calls, 'call')}, {counts.misses} past their deadline, "
        f"{counts.skipped_hops} skipped, {counts.failed_calls} failed; ring: {counts.written} written = "
        f"{counts.read} read + {counts.held} held + {counts.dropped} dropped, at most "
        f"{record.ring.high_water_samples} of {record.ring.capacity_samples} held"
    )
    if counts.nan_samples or counts.limited_samples or counts.nan_outputs:
        yield (
            f"input: {counts.nan_samples} samples were no numbers and were silenced, {counts.limited_samples} "
            f"limited to 4.0; {counts.nan_outputs} calls gave no finite output and reset the model's state"
        )
    if playout is not None:
        yield (
            f"counted at playout: {counted(playout.underruns, 'underrun')} ({playout.underrun} samples), "
            f"{playout.dropped} dropped, {playout.trimmed} trimmed"
        )
    if late := late_callbacks(record):
        yield late
    for event in record.events[:20]:
        yield (
            f"{event.onset_s or 0.0:9.3f} s {event.offset_s or 0.0:9.3f} s {event.confidence:5.2f}  "
            f"{event.label}, reported at {event.emitted_at_ns / 1e9:.3f} s, a delay of {event.delay_ns / 1e6:.0f} ms"
        )
    if len(record.events) > 20:
        yield f"… and {len(record.events) - 20} more events"
    kinds = Counter(fault.kind for fault in record.faults)
    if kinds:
        kept = len(record.faults)
        beyond = record.faults_total > kept
        intro = f"{record.faults_total:,} faults, of the first {kept:,}: " if beyond else "faults: "
        yield intro + ", ".join(f"{n} x {k}" for k, n in sorted(kinds.items()))
    yield from map(_hiccup, record.hiccups, repeat(record.model_rate_hz))
    yield from _figures(record)


def _hiccup(hiccup: HiccupRecord, rate_hz: int) -> str:
    """For instance "stall at 3.0 s: +173 ms for 1.2 s, 1,280 samples lost, back at 92 ms at 4.2 s"."""
    lost = f", {hiccup.lost_ns * rate_hz // 1_000_000_000:,} samples lost" if hiccup.lost_ns else ", nothing lost"
    text = f"{hiccup.kind} at {hiccup.time_ns / 1e9:.1f} s: +{(hiccup.worst_ns - hiccup.usual_ns) / 1e6:.0f} ms"
    if not hiccup.late_ns:
        return f"{text}{lost}, never a buffer from the {hiccup.usual_ns / 1e6:.0f} ms before it"
    if not hiccup.back:
        above = (hiccup.last_ns - hiccup.usual_ns) / 1e6
        return f"{text}{lost}, not back: still {above:+.0f} ms at the end, or when the next fault came"
    return (
        f"{text} for {hiccup.late_ns / 1e9:.1f} s{lost}, back at {hiccup.last_ns / 1e6:.0f} ms at "
        f"{(hiccup.time_ns + hiccup.late_ns) / 1e9:.1f} s"
    )


def _figures(record: RunRecord) -> Iterator[str]:
    """What a search found or a replay compared, with units; how it is known; what to mind."""
    found = record.search
    for name, value in found.items():
        words = name.replace("_", " ")
        if name.endswith("_ns"):
            how = "measured on the device" if name.startswith("recorded") else "modelled, of measured times"
            yield f"{words.removesuffix(' ns')}: {value / 1e6:.3f} ms ({how})"
        elif name.endswith("_samples"):
            rate_hz = record.model_rate_hz
            if "prefill" in name and record.playout is not None:
                rate_hz = record.playout.rate_hz
            length = f"{value:,.0f} samples at {rate_hz:,} Hz, {1000 * value / rate_hz:.1f} ms"
            yield f"{words.removesuffix(' samples')}: {length}"
        elif "slowdown" in name or name == "first_miss_at":
            yield f"{words}: {value:.3f} times {_time_of_a_call(record, value)}"
        else:
            yield f"{words}: {value:,.0f}"
    if any(name.startswith(("largest", "smallest")) for name in found):
        yield _caution(record)


def _time_of_a_call(record: RunRecord, slowdown: float) -> str:
    """What a slowdown is a multiple of."""
    fixed_ms = re.fullmatch(r"fixed ([\d.e+-]+) ms", record.calibration)
    if fixed_ms is None:
        return "this machine's time"
    return f"the {fixed_ms[1]} ms of --compute-ms: {slowdown * float(fixed_ms[1]):.3f} ms per call"


def _caution(record: RunRecord) -> str:
    """A limit holds for what was searched."""
    text = (
        f"modelled, in a run of {record.audio.duration_s:g} s with seed {record.seed}, with no margin: a longer run "
        f"finds worse; search again with --seconds 3600 and other seeds"
    )
    if "smallest_prefill_samples" in record.search:
        text += ", and add 5 ms: two clocks that are 500 ppm apart take that until drift correction follows"
    elif "largest_slowdown" in record.search:
        text += ", and keep a third of it in reserve for a warm phone"
    elif "smallest_ring_samples" in record.search:
        text += ", and take twice as much: what it must hold is the longest stall, and none longer came"
    return text
