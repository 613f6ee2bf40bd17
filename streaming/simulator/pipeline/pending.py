"""Ledger entries of an enhancer's blocks, pending until their first sample's turn in the playout ring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streaming.runs.record import PARTS
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.ledger import Ledger

Int64 = NDArray[np.int64]
Wide = NDArray[np.float64]

_WIDTH = 3 + len(PARTS) + 1
_HEAD = 3 + PARTS.index("output_resampler")  # what a row begins with: all that was known when its call ended


class Pending:
    """Ledger entries of blocks whose first sample has not been played yet.

    A *place* counts the samples written into the ring, fractions of one too.

    Args:
        ledger: where finished entries go.
        delay_ns, route_ns: of the output's resampler and of its way to the air.
        rate_hz: how fast the device really reads.

    Attributes:
        lost: entries whose sample never came into the ring, or was gone before it was looked for.
    """

    def __init__(self, ledger: Ledger, delay_ns: int, route_ns: int, rate_hz: float) -> None:
        self._ledger, self._delay_ns, self._route_ns, self._rate_hz = ledger, delay_ns, route_ns, rate_hz
        self._places: Wide = np.zeros(0, np.float64)
        self._ends: Int64 = np.zeros(0, np.int64)
        self._rows: Int64 = np.zeros((0, _HEAD), np.int64)
        self.lost = 0

    def add(self, places: Wide, ends_ns: Int64, rows: Int64) -> None:
        """Entries in order: their samples' places [n], when they came [n], what their rows begin with [n, 10]."""
        self._places = np.concatenate([self._places, places])
        self._ends = np.concatenate([self._ends, ends_ns])
        self._rows = np.concatenate([self._rows, rows])

    def pass_over(self, place: float) -> None:
        """The reader skips what lies before a place: entries there are lost."""
        count = int(np.searchsorted(self._places, place, "left"))
        self.lost += count
        self._keep(slice(count, None))

    def forget(self, place: int, count: int) -> None:
        """`count` outputs never come into the ring: entries there are lost, later ones move up."""
        kept = (self._places < place) | (self._places >= place + count)
        self.lost += int((~kept).sum())
        self._keep(kept)
        self._places = np.where(self._places < place, self._places, self._places - count)

    def _keep(self, which: NDArray[np.bool_] | slice) -> None:
        self._places, self._ends, self._rows = self._places[which], self._ends[which], self._rows[which]

    def finish(self, positions: Wide, adjust_ppm: Wide, times_ns: Int64) -> None:
        """Blocks were read: entries whose turn has come go into the ledger.

        Args:
            positions: the reader's place at each and after the last, [reads + 1].
            adjust_ppm: how much faster it went at each.
            times_ns: when each began.
        """
        if len(times_ns) == 0 or len(self._places) == 0 or self._places[0] >= positions[-1]:
            return
        befores, afters, steps = positions[:-1], positions[1:], 1.0 + adjust_ppm * 1e-6
        beyond = np.flatnonzero(self._places >= afters[-1])
        count = int(beyond[0]) if len(beyond) else len(self._places)
        places, ends, rows = self._places[:count], self._ends[:count], self._rows[:count]
        self._keep(slice(count, None))
        block = np.searchsorted(afters, places, "right")
        gone = places <= befores[block] - 1.0
        if gone.any():
            self.lost += int(gone.sum())
            places, ends, rows, block = places[~gone], ends[~gone], rows[~gone], block[~gone]
        later = np.rint((places - befores[block]) / steps[block] * SECOND_NS / self._rate_hz).astype(np.int64)
        whole = np.zeros((len(places), _WIDTH), np.int64)
        whole[:, :_HEAD] = rows
        whole[:, _HEAD] = self._delay_ns
        whole[:, _HEAD + 1] = times_ns[block] + later - ends - self._delay_ns
        whole[:, _HEAD + 2] = self._route_ns
        whole[:, -1] = whole[:, 3:].sum(axis=1)
        self._ledger.add_rows("block", whole)
