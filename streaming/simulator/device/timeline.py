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


class _Pieces:
    """Where pieces of a line start, and the value there; only the latest are kept."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._values: list[int] = []

    def _add(self, start: int, value: int) -> None:
        self._starts.append(start)
        self._values.append(value)
        if len(self._starts) > _KEPT:
            del self._starts[: _KEPT // 2]
            del self._values[: _KEPT // 2]

    def _place(self, index: int) -> int:
        """The piece that an index lies in; before the first one that is the first."""
        place = len(self._starts) - 1
        return place if index >= self._starts[place] else max(0, bisect_right(self._starts, index) - 1)

    def _of_each(self, indices: Int64) -> tuple[Int64, Int64]:
        """Start and value of the piece of each index."""
        low = max(0, bisect_right(self._starts, int(indices.min())) - 1)
        starts, values = np.array(self._starts[low:], np.int64), np.array(self._values[low:], np.int64)
        places = np.maximum(np.searchsorted(starts, indices, "right") - 1, 0)
        return starts[places], values[places]


class ContentClock(_Pieces):
    """When the content of each sample at the model's rate was captured. Piecewise linear; time in ns.

    Args:
        rate_hz: the model's rate.
    """

    def __init__(self, rate_hz: int) -> None:
        super().__init__()
        self.rate_hz = rate_hz

    def begin(self, index: int, captured_ns: int) -> None:
        """From sample `index` on, time runs anew from captured_ns. What was said of later samples is forgotten."""
        while self._starts and self._starts[-1] >= index:
            self._starts.pop()
            self._values.pop()
        self._add(index, captured_ns)

    def at(self, index: int) -> int:
        """When the content of sample `index` was captured."""
        place = self._place(index)
        return self._values[place] + (index - self._starts[place]) * SECOND_NS // self.rate_hz

    def at_each(self, indices: Int64) -> Int64:
        """`at` for int64 [n]."""
        starts, bases = self._of_each(indices)
        return bases + samples_ns(indices - starts, self.rate_hz)


class IndexMap(_Pieces):
    """Indices of one stream as indices of another that it skips parts of. Starts as the identity."""

    def __init__(self) -> None:
        super().__init__()
        self._add(0, 0)

    def begin(self, index: int, target: int) -> None:
        """From `index` on, indices run from `target`; nothing happens where they already do."""
        if self._values[-1] + index - self._starts[-1] != target:
            self._add(index, target)

    def at(self, index: int) -> int:
        """The other stream's index."""
        place = self._place(index)
        return self._values[place] + index - self._starts[place]

    def at_each(self, indices: Int64) -> Int64:
        """`at` for int64 [n]."""
        starts, targets = self._of_each(indices)
        return targets + indices - starts
