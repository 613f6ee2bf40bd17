"""The playout ring: what comes from the enhancer in buffers leaves in the device's blocks, at the device's clock.

Samples are at the device's rate (float32, mono). One thread writes, one reads. The same in three languages: all
control is integer arithmetic (`>>` rounds down, also below zero), audio is float64 in the order written here.

- write: what does not fit the capacity is dropped (the newest: the writer may not move the reader's end), counted.
- A read while *filling* gives silence until `prefill_samples` are held (or the stream has ended), then *playing*
  begins with this very read. A read that finds too little plays what there is, then zeros, counted as underrun;
  the ring is then filling again.
- Drift: capture and playout run on two clocks, some ppm apart. While playing, before each read:
      average += ((level << 16) - average) >> 6                   level: samples held; average starts as level << 16
  At the 256th such read of a playing stretch target = average; from the next one on
      e = average - target, brought `deadband_samples` << 16 nearer to zero, at most to zero
      adjust = (e * 8590) >> 16, within +-2147483                 2 ppm a sample, at most 500 ppm, in 2^-32 samples
  The reader steps 2^32 + adjust for each output. While step and position are whole, samples pass untouched;
  else output at fraction t = f / 2^32 between y0 and y1 is the cubic through ym1, y0, y1, y2:
      c1 = ((y1 - ym1 / 3) - y0 / 2) - y2 / 6;  c2 = (ym1 + y1) / 2 - y0;  c3 = (y2 - ym1) / 6 + (y0 - y1) / 2
      out = ((c3 t + c2) t + c1) t + y0
  and needs y2 to be there (past the end of a finished stream it is zero).
- Always: offered = written + dropped, written = consumed + held, and every output is played, silence (filling),
  underrun or tail (after the end).

tests/fixtures/playout/golden.json is for ports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError, UsageError
from runtimes.bundle import Manifest

Array = NDArray[np.float32]

ONE = 1 << 32
FILTER_SHIFT = 6
SETTLE_READS = 256
ADJUST_PER_SAMPLE = 8590  # 2 ppm of 2^32
ADJUST_LIMIT = 2_147_483  # 500 ppm of 2^32
LARGEST_CAPACITY = 1 << 22


@dataclass(frozen=True)
class PlayoutCounts:
    """Where every sample went. All in samples, but for `underruns`.

    Attributes:
        offered, written, dropped: given to `write`; taken in; not taken in for want of room.
        consumed, held: gone past the reader; still inside.
        played, silence, underrun, tail: outputs with audio; while filling; missing in mid-stream; after the end.
        underruns: reads that found too little.
    """

    offered: int
    written: int
    dropped: int
    consumed: int
    held: int
    played: int
    silence: int
    underrun: int
    tail: int
    underruns: int


class PlayoutRing:
    """The ring between a writer of buffers and a device that reads blocks.

    Args:
        capacity_samples: most samples held.
        prefill_samples: samples held before playing begins.
        deadband_samples: how far the average level may wander before the reader's speed follows; half the larger
            of the writer's and the reader's blocks keeps their beat out of it.
        drift_correction: False plays every sample as it is, whatever the level.

    Raises:
        UsageError: prefill above capacity, or a figure out of range.
    """

    def __init__(
        self, capacity_samples: int, prefill_samples: int, deadband_samples: int, drift_correction: bool = True
    ) -> None:
        if not 4 <= capacity_samples <= LARGEST_CAPACITY:
            raise UsageError(f"playout: capacity must be 4 to {LARGEST_CAPACITY} samples, got {capacity_samples}")
        if not 0 <= prefill_samples <= capacity_samples:
            raise UsageError(
                f"playout: prefill must be 0 to the capacity of {capacity_samples} samples, got {prefill_samples}"
            )
        if deadband_samples < 0:
            raise UsageError(f"playout: deadband must be at least 0 samples, got {deadband_samples}")
        self.capacity_samples, self.prefill_samples = capacity_samples, prefill_samples
        self.deadband_samples, self.drift_correction = deadband_samples, drift_correction
        self._store: Array = np.zeros(capacity_samples + 1, np.float32)  # one more: the sample before the reader
        self.reset()

    def reset(self) -> None:
        """Empty, filling, all counts zero."""
        self._written = self._index = self._fraction = 0
        self._dropped = self._played = self._silence = self._underrun = self._tail = self._underruns = 0
        self._ended = False
        self._store[:] = 0.0
        self._fill()

    def _fill(self) -> None:
        self.playing = False
        self._reads = self._average = self._target = self._adjust = self._fraction = 0

    @property
    def level(self) -> int:
        """Samples held."""
        return self._written - self._index

    @property
    def position(self) -> float:
        """Where the next output lies, in written samples; for the latency ledger."""
        return self._index + self._fraction / ONE

    @property
    def adjust_ppm(self) -> float:
        """How much faster (positive) or slower than the writer's clock the reader runs now."""
        return self._adjust / ONE * 1e6

    @property
    def counts(self) -> PlayoutCounts:
        """Where every sample went."""
        return PlayoutCounts(
            offered=self._written + self._dropped,
            written=self._written,
            dropped=self._dropped,
            consumed=self._index,
            held=self.level,
            played=self._played,
            silence=self._silence,
            underrun=self._underrun,
            tail=self._tail,
            underruns=self._underruns,
        )

    def write(self, block: Array) -> int:
        """Take in what fits.

        Args:
            block: float32 [n] at the device's rate.

        Returns:
            samples dropped.

        Raises:
            AudioError: NaN or Inf; nothing is taken in.
            UsageError: not float32 [n], or the stream was finished.
        """
        if self._ended:
            raise UsageError("playout: the stream was finished; call reset() before the next block")
        if block.ndim != 1 or block.dtype != np.float32:
            raise UsageError(f"playout: a block must be float32 [n], got {block.dtype} {list(block.shape)}")
        if not math.isfinite(float(np.dot(block, block))) and not np.isfinite(block).all():  # the cheap look first
            bad = self._written + int(np.flatnonzero(~np.isfinite(block))[0])
            raise AudioError(f"playout: sample {bad} is NaN or Inf, expected finite numbers; nothing was taken in")
        count = min(len(block), self.capacity_samples - self.level)
        start = self._written % len(self._store)
        first = min(count, len(self._store) - start)
        self._store[start : start + first] = block[:first]
        if first < count:
            self._store[: count - first] = block[first:count]
        self._written += count
        self._dropped += len(block) - count
        return len(block) - count

    def finish(self) -> None:
        """No more is written: what is held plays to its end, and what follows is tail, not underrun."""
        self._ended = True

    def read(self, frames: int) -> Array:
        """The device's next block.

        Args:
            frames: samples wanted.

        Returns:
            float32 [frames], a fresh array.
        """
        if not self.playing:
            if self.level < self.prefill_samples and not self._ended:
                self._silence += frames
                return np.zeros(frames, np.float32)
            self.playing = True
            self._average = self.level << 16
        if self.drift_correction:
            self._control()
        out = np.zeros(frames, np.float32)
        count = playable(frames, self.level, self._fraction, self._adjust, self._ended)
        if count:
            out[:count] = self._play(count)
            self._played += count
        if count < frames and self._ended:
            self._tail += frames - count
        elif count < frames:
            self._underrun += frames - count
            self._underruns += 1
            self._fill()
        return out

    def _control(self) -> None:
        state = self._average, self._target, self._reads, self._adjust
        self._average, self._target, self._reads, adjust = controlled(state, self.level, self.deadband_samples << 16)
        if not self._ended:
            self._adjust = adjust

    def _play(self, count: int) -> Array:
        step = ONE + self._adjust
        end = self._fraction + count * step
        if not (self._fraction or self._adjust):
            out = self._span(0, count)
        else:
            out = self._between(self._fraction + np.arange(count, dtype=np.int64) * step)
        self._index += min(end >> 32, self.level)
        self._fraction = end & (ONE - 1)
        return out

    def _between(self, places: NDArray[np.int64]) -> Array:
        """The cubic at places after the reader's, in units of 2^-32 samples, ascending."""
        whole, t = places >> 32, (places & (ONE - 1)) / float(ONE)
        near = np.zeros(int(whole[-1]) + 4, np.float64)  # from the sample before the reader; zero past what is held
        there = min(len(near), self.level + 1)
        near[:there] = self._span(-1, there)
        ym1, y0, y1, y2 = (near[whole + k] for k in range(4))
        c1 = ((y1 - ym1 / 3.0) - y0 / 2.0) - y2 / 6.0
        c2 = (ym1 + y1) / 2.0 - y0
        c3 = (y2 - ym1) / 6.0 + (y0 - y1) / 2.0
        out: Array = (((c3 * t + c2) * t + c1) * t + y0).astype(np.float32)
        return out

    def _span(self, offset: int, count: int) -> Array:
        """`count` samples from the reader's place + `offset` on (-1: the last one consumed); may be a view."""
        start = (self._index + offset) % len(self._store)
        span = self._store[start : start + count]
        return span if len(span) == count else np.concatenate([span, self._store[: count - len(span)]])


def controlled(state: tuple[int, int, int, int], level: int, free: int) -> tuple[int, int, int, int]:
    """Average, target, reads and adjust before one more read; `free` is the dead band in 2^-16 samples."""
    average, target, reads, adjust = state
    average += ((level << 16) - average) >> FILTER_SHIFT
    reads += 1
    if reads == SETTLE_READS:
        target = average
    if reads > SETTLE_READS:
        error = average - target
        error = max(error - free, 0) if error > 0 else min(error + free, 0)
        adjust = max(-ADJUST_LIMIT, min(ADJUST_LIMIT, (error * ADJUST_PER_SAMPLE) >> 16))
    return average, target, reads, adjust


def playable(frames: int, level: int, fraction: int, adjust: int, ended: bool) -> int:
    """How many of the next `frames` outputs the samples held allow."""
    ahead = 2 if (fraction or adjust) and not ended else 0
    room = level - 1 - ahead
    if room < 0:
        return 0
    return min(frames, ((room << 32) + ONE - 1 - fraction) // (ONE + adjust) + 1)


def prefill_at_device(manifest: Manifest, device_rate_hz: int, device_block: int) -> int:
    """Samples at the device's rate to hold before playing.

    Args:
        manifest: its `playout.prefill_samples` are at the model's rate; where it has none, one buffer of the model
            and one block of the device.
        device_rate_hz: the device's rate.
        device_block: frames of its playout callback.
    """
    rate = manifest.geometry.sample_rate_hz
    if manifest.playout is not None:
        return -(-manifest.playout.prefill_samples * device_rate_hz // rate)
    return -(-manifest.buffer.samples * device_rate_hz // rate) + device_block
