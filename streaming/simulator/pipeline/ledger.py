"""The latency ledger: for every block, window and event, where its delay came from; parts that sum to the total.

An entry follows one sample from the air to its effect. Let n be the oldest new sample of a call (model's rate), c the
sample whose content comes out at n (c = n - delay_samples), T(.) when a sample's content was captured:

    input_route        in the air, the microphone and the driver; the profile's figure
    capture_block      from then to the callback that brought the sample
    resampler          group delay to the model's rate, exact
    ring_wait          from the buffer being complete to the call's begin: inference was busy, or not awake yet
    framing            from the callback that brought n to the one that completed the buffer
    model_delay        T(n) - T(c): the net's algorithmic delay, and any audio that was lost in between
    compute            the call
    output_resampler   group delay back to the device's rate, exact
    playout_prefill    from the call's end to the sample's turn in the playout ring
    output_route       from there to the air
    smoothing          event: from the window whose own score passed on_threshold to the one whose smoothed score did
    hysteresis         event: from there to the window that had lasted min_on_ms

For a "window" or an "event" the effect is the end of the call. Differences of time stamps: the sum is exact.
Entries are written to a CSV file as they come; only quantile sketches stay in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streaming.metrics.quantiles import QuantileSketch, sketches
from streaming.runs.record import LEDGER_COLUMNS, PARTS, HiccupRecord, LedgerSummary
from streaming.simulator.device.faults import FaultLog
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.writers import RawWriter

Kind = Literal["block", "window", "event"]
KINDS: tuple[Kind, ...] = ("block", "window", "event")
PARTS_OF: Mapping[Kind, tuple[str, ...]] = {
    "block": PARTS[:10],
    "window": PARTS[:7],
    "event": (*PARTS[:7], "smoothing", "hysteresis"),
}
_BATCH = 1024
_WIDTH = 3 + len(PARTS) + 1  # index, content_sample, captured_ns, parts, total_ns


class Hiccups:
    """What each fault that was put in did to the delay.

    Args:
        log: knows the faults, and what was lost.
        buffer_ns: how far from the usual a delay may be.
    """

    def __init__(self, log: FaultLog, buffer_ns: int) -> None:
        self._log, self._buffer_ns = log, buffer_ns
        self._begins = np.array([f.begin_ns for f in log.put_in], np.int64)
        self._before: NDArray[np.int64] = np.zeros((2, 0), np.int64)  # when the last second's came, and their delays
        self._found = [[0, 0, 0, 0] for _ in log.put_in]  # usual, worst, last time that it was off, last

    def add(self, rows: NDArray[np.int64]) -> None:
        """Entries of blocks or windows, int64 [n, columns], in order."""
        times, totals = rows[:, 2] + rows[:, -1], rows[:, -1]
        places = np.searchsorted(self._begins, times, "right") - 1
        for place in np.unique(places).tolist():
            at, delays = times[places == place], totals[places == place]
            if place >= 0:
                found = self._found[place]
                if found[0] == 0:
                    found[0] = int(np.median(self._before[1])) if self._before.size else int(delays[0])
                found[1] = max(found[1], int(delays.max()))
                off = at[delays - found[0] > self._buffer_ns]
                found[2] = int(off[-1]) if len(off) else found[2]
            before = np.concatenate([self._before, np.stack([at, delays])], axis=1)
            self._before = before[:, before[0] > before[0, -1] - SECOND_NS]
            if place >= 0:
                self._found[place][3] = int(np.median(self._before[1]))

    def records(self) -> list[HiccupRecord]:
        """One a fault after which anything came out."""
        return [
            HiccupRecord(
                kind=fault.kind,
                time_ns=fault.begin_ns,
                usual_ns=usual,
                worst_ns=worst,
                late_ns=max(0, off - fault.begin_ns) if off else 0,
                last_ns=last,
                lost_ns=lost_ns,
                back=last - usual <= self._buffer_ns,
            )
            for fault, (usual, worst, off, last), lost_ns in zip(
                self._log.put_in, self._found, self._log.lost_ns, strict=True
            )
            if usual
        ]


class Ledger:
    """Takes entries, writes them, keeps quantile sketches.

    Args:
        file: CSV file to write, or None to keep only the sketches.

    Raises:
        OutputError: the file cannot be written (also from `add` and `close`).
    """

    def __init__(self, file: Path | None) -> None:
        # np.full touches its pages now: memory is to stay as it is from the first minute on.
        self._rows: dict[Kind, NDArray[np.int64]] = {k: np.full((_BATCH, _WIDTH), 0, np.int64) for k in KINDS}
        self._filled: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._sketches: dict[Kind, list[QuantileSketch]] = {}
        self._format = ",".join(["%d"] * _WIDTH)
        self._writer = None if file is None else RawWriter(file)
        self.hiccups: Hiccups | None = None
        if self._writer is not None:
            self._writer.write((",".join(LEDGER_COLUMNS) + "\n").encode())

    def add(self, kind: Kind, index: int, content_sample: int, captured_ns: int, parts: tuple[int, ...]) -> int:
        """An entry; `parts` are ns in the order of PARTS. Returns their total."""
        total = sum(parts)
        self.add_rows(kind, np.array([(index, content_sample, captured_ns, *parts, total)], np.int64))
        return total

    def add_rows(self, kind: Kind, rows: NDArray[np.int64]) -> None:
        """Entries, int64 [n, 3 + parts + 1]: index, content sample, captured, parts in the order of PARTS, total."""
        if self.hiccups is not None and kind != "event":
            self.hiccups.add(rows)
        if kind not in self._sketches:
            self._sketches[kind] = sketches(len(PARTS) + 1)
        while len(rows):
            place = self._filled[kind]
            count = min(len(rows), _BATCH - place)
            self._rows[kind][place : place + count] = rows[:count]
            self._filled[kind] = place + count
            if place + count == _BATCH:
                self._write_batch(kind)
            rows = rows[count:]

    def _write_batch(self, kind: Kind) -> None:
        rows = self._rows[kind][: self._filled[kind]]
        self._filled[kind] = 0
        if len(rows) == 0:
            return
        for column, sketch in enumerate(self._sketches[kind]):
            sketch.add(rows[:, 3 + column])
        if self._writer is not None:
            line = f"{kind},{self._format}\n"
            self._writer.write("".join(line % tuple(row) for row in rows.tolist()).encode())

    def close(self) -> None:
        """Write what is left."""
        for kind in KINDS:
            self._write_batch(kind)
        if self._writer is not None:
            self._writer.close()

    def summaries(self) -> list[LedgerSummary]:
        """Quantiles of every part, a summary a kind; after `close`."""
        found = []
        for kind in KINDS:
            if kind not in self._sketches:
                continue
            *parts, total = self._sketches[kind]
            by_name = {n: s for n, s in zip(PARTS, parts, strict=True) if n in PARTS_OF[kind]}
            found.append(
                LedgerSummary(
                    kind,
                    {name: sketch.summary() for name, sketch in by_name.items()},
                    {name: sketch.total / sketch.count for name, sketch in by_name.items()},
                    total.summary(),
                )
            )
        return found
