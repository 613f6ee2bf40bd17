"""Which sample was captured when: indices to times, through every loss and change of rate."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

SECOND_NS = 1_000_000_000
_KEPT = 4096


def samples_ns(counts: Int64, rate_hz: int) -> Int64:
    """How long so many samples last, int64 [n] both, rounded down; counts * SECOND_NS would overflow within a day."""
    seconds, samples = np.divmod(counts, rate_hz)
    lengths: Int64 = seconds * SECOND_NS + samples * SECOND_NS // rate_hz
    return lengths


class ContentClock:
    """When the content of each sample at the model's rate was captured. Piecewise linear; time in ns.

    Args:
        rate_hz: the model's rate.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._starts: list[int] = []
        self._bases: list[int] = []

    def begin(self, index: int, captured_ns: int) -> None:
        """From sample `index` on, time runs anew from captured_ns. What was said of later samples is forgotten."""
        while self._starts and self._starts[-1] >= index:
            self._starts.pop()
            self._bases.pop()
        self._starts.append(index)
        self._bases.append(captured_ns)
        if len(self._starts) > _KEPT:
            del self._starts[: _KEPT // 2]
            del self._bases[: _KEPT // 2]

    def at(self, index: int) -> int:
        """When the content of sample `index` was captured."""
        starts = self._starts
        place = len(starts) - 1
        if index < starts[place]:
            place = max(0, bisect_right(starts, index) - 1)
        return self._bases[place] + (index - starts[place]) * SECOND_NS // self.rate_hz

    def at_each(self, indices: Int64) -> Int64:
        """`at` for int64 [n]."""
        starts, bases = _pieces(self._starts, self._bases, indices)
        return bases + samples_ns(indices - starts, self.rate_hz)


class IndexMap:
    """Indices of one stream as indices of another that it skips parts of. Starts as the identity."""

    def __init__(self) -> None:
        self._starts = [0]
        self._targets = [0]

    def begin(self, index: int, target: int) -> None:
        """From `index` on, indices run from `target`; nothing happens where they already do."""
        if self._targets[-1] + index - self._starts[-1] == target:
            return
        self._starts.append(index)
        self._targets.append(target)
        if len(self._starts) > _KEPT:
            del self._starts[: _KEPT // 2]
            del self._targets[: _KEPT // 2]

    def at(self, index: int) -> int:
        """The other stream's index."""
        starts = self._starts
        place = len(starts) - 1
        if index < starts[place]:
            place = max(0, bisect_right(starts, index) - 1)
        return self._targets[place] + index - starts[place]

    def at_each(self, indices: Int64) -> Int64:
        """`at` for int64 [n]."""
        starts, targets = _pieces(self._starts, self._targets, indices)
        return targets + indices - starts


def _pieces(starts: list[int], values: list[int], indices: Int64) -> tuple[Int64, Int64]:
    """The start and the value of the piece that each index lies in; before the first one that is the first."""
    low = max(0, bisect_right(starts, int(indices.min())) - 1)
    begins, of_each = np.array(starts[low:], np.int64), np.array(values[low:], np.int64)
    places = np.maximum(np.searchsorted(begins, indices, "right") - 1, 0)
    return begins[places], of_each[places]
