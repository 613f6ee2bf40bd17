"""The ring between the audio callback and inference: one writes, one reads, nothing is allocated a block.

Samples are at the model's rate (float32, mono) and are counted from the stream's start: `written`, and `position`,
the index of the next sample to be read. Always: written = read + held + dropped.

When a block does not fit, either the oldest samples make room ("oldest": the stream stays fresh) or what does not
fit is dropped ("newest": what is held is kept). A block longer than the whole ring is cut accordingly. Both count
one overrun, and samples. Two threads may use one ring: positions change under a lock that is held for a copy.
"""

from __future__ import annotations

import threading
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError

Array = NDArray[np.float32]
Overflow = Literal["oldest", "newest"]

LARGEST_CAPACITY = 1 << 24


class RingBuffer:
    """The ring between one writer and one reader.

    Args:
        capacity: most samples held.
        overflow: what gives way when a block does not fit.

    Attributes:
        written: samples offered since the stream's start, dropped ones included.
        read: samples that went out.
        dropped: samples that never will; `aged` of them had been held before.
        overruns: blocks that did not fit.
        underruns, underrun_samples: reads that found too little, and what they lacked.
        high_water: most samples ever held.

    Raises:
        UsageError: capacity out of range.
    """

    def __init__(self, capacity: int, overflow: Overflow = "oldest") -> None:
        if not 1 <= capacity <= LARGEST_CAPACITY:
            raise UsageError(f"ring: capacity must be 1 to {LARGEST_CAPACITY} samples, got {capacity}")
        if overflow not in ("oldest", "newest"):
            raise UsageError(f"ring: overflow must be oldest or newest, got {overflow!r}")
        self.capacity, self.overflow = capacity, overflow
        self._store: Array = np.zeros(capacity, np.float32)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Empty, all counts zero."""
        self.written = self.read = self.dropped = self.aged = self.overruns = self.high_water = 0
        self.underruns = self.underrun_samples = 0
        self._head = 0  # place in the store of the next sample to be read
        self.held = 0

    @property
    def position(self) -> int:
        """Index of the next sample to be read, among those that were taken in (or passed by as too old)."""
        return self.read + self.aged

    @property
    def entered(self) -> int:
        """Samples that were taken in, or passed by as too old: all but those that "newest" refused."""
        return self.read + self.aged + self.held

    def write(self, block: Array) -> int:
        """Take in a block.

        Args:
            block: float32 [n].

        Returns:
            samples dropped: old ones or new ones.
        """
        count = len(block)
        with self._lock:
            self.written += count
            surplus = self.held + count - self.capacity
            if surplus > 0:
                self.overruns += 1
                self.dropped += surplus
                if self.overflow == "oldest":
                    self.aged += surplus
                    aged = min(surplus, self.held)
                    self._head = (self._head + aged) % self.capacity
                    self.held -= aged
                    block = block[surplus - aged :]
                else:
                    block = block[: count - surplus]
                count = len(block)
            else:
                surplus = 0
            start = (self._head + self.held) % self.capacity
            first = min(count, self.capacity - start)
            self._store[start : start + first] = block[:first]
            if first < count:
                self._store[: count - first] = block[first:]
            self.held += count
            if self.held > self.high_water:
                self.high_water = self.held
        return surplus

    def read_into(self, out: Array) -> bool:
        """Fill `out` with the oldest samples, or leave it and count an underrun.

        Args:
            out: float32 [n], filled from the ring.

        Returns:
            whether there were n samples; if not, none was taken.
        """
        count = len(out)
        with self._lock:
            if self.held < count:
                self.underruns += 1
                self.underrun_samples += count - self.held
                return False
            head = self._head
            first = min(count, self.capacity - head)
            out[:first] = self._store[head : head + first]
            if first < count:
                out[first:] = self._store[: count - first]
            self._head = (head + count) % self.capacity
            self.held -= count
            self.read += count
        return True
