"""The playout ring: what comes from the enhancer in buffers leaves in the device's blocks, at the device's clock.

Samples are at the device's rate (float32, mono), times in ns of one clock. One thread writes, one reads. The same in
three languages: all control is integer arithmetic (`>>` rounds down, also below zero; `/` cuts towards zero), audio is
float64 in the order written here.

- write: what does not fit the capacity is dropped (the newest: the writer may not move the reader's end), counted.
- A read while *filling* gives silence until `prefill_samples` are held (or the stream has ended), then *playing*
  begins with this very read. A read that finds too little plays what there is, then zeros, counted as underrun;
  the ring is then filling again.
- After each write of n samples while playing, the writer looks at
      level = samples held + frames of the last read - samples that the device has used since,
              (now - read) rate / 10^9, 0 to frames: so it does not matter how writes and reads lie to each other
  All that follows begins anew when playing begins and when a cut was made, but for what is usual and the integral.
  Writes are taken by seconds (the first write with which they reach rate_hz samples ends one). Of a second, mean =
  (sum of level n) / sum of n, and lowest = the least level.
- Recovery: what a hiccup left too much is cut out. The second of the seconds says what is usual: mean - lowest +
  (lowest brought within prefill - tolerance and prefill + tolerance + frames of the last read). After each one, once
  that is known, if mean - usual exceeds half the tolerance (from the fifth on twice the tolerance), then cut = mean -
  usual, unless one is to be made yet. The next read that finds frames + (frames >> 9) + 4 samples beyond the cut makes
  it: output k is a (1 - f) + b f, f = (k + 1) / (frames + 1), of what the reader would give here (a) and `cut` samples
  later (b), both float32; the reader goes on from there.
  When playing begins again twice in a row before 4 rate_hz samples were written, the usual was too low: it is said
  anew.
- Drift: capture and playout run on two clocks, some ppm apart. After the first second target = average = mean << 16. At
  each write after that
      average += (d * min(n, 2^s)) >> s           d = (level << 16) - average, within +-(rate >> 2) << 16;
                                                  s = bits of rate_hz - 1
  and e = average - target. When e first exceeds deadband_samples << 16 either way, the clocks are unlike, from then on
  and for good:
      integral = ((|e| << 16) / samples written since the target, at most 500 ppm) << 16, as negative as e
  and at this write and each one with a target after it, e brought within +-(rate >> 2) << 16:
      integral += (e n) >> (2 s - 21), within +-1000 ppm, in 2^-48 samples
      adjust = (integral >> 16) + ((e (2^32 / 4 / rate)) >> 16), within +-1000 ppm, in 2^-32 samples
  As all begins anew, adjust = integral >> 16.
  The reader steps 2^32 + adjust for each output. While step and position are whole, samples pass untouched;
  else output at fraction t = f / 2^32 between y0 and y1 is the cubic through ym1, y0, y1, y2:
      c1 = ((y1 - ym1 / 3) - y0 / 2) - y2 / 6;  c2 = (ym1 + y1) / 2 - y0;  c3 = (y2 - ym1) / 6 + (y0 - y1) / 2
      out = ((c3 t + c2) t + c1) t + y0
  and needs y2 to be there (past the end of a finished stream it is zero).
- Always: offered = written + dropped, written = consumed + held, `trimmed` of the consumed were cut, and every output
  is played, silence (filling), underrun or tail (after the end).

tests/fixtures/playout/golden.json is for ports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError, UsageError
from runtimes.bundle import Manifest
from streaming.core.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ

Array = NDArray[np.float32]

ONE = 1 << 32
ADJUST_LIMIT = 4_294_967  # 1000 ppm of 2^32: twice what is followed, to make up for what was lost until then
FIRST_LIMIT = 2_147_483  # 500 ppm
RECOVERY_S = 4  # after a hiccup; underruns so soon say that the usual level is too low
LARGEST_CAPACITY = 1 << 22
JITTERS = 6  # root mean squares of the lateness of callbacks that a default prefill holds
LEAST_JITTER_US = 250.0  # our own threads' wake-ups, where the device has less
SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class PlayoutCounts:
    """Where every sample went. All in samples, but for `underruns`.

    Attributes:
        offered, written, dropped: given to `write`; taken in; not taken in for want of room.
        consumed, held: gone past the reader; still inside.
        trimmed: of the consumed, cut out to get back to the floor.
        played, silence, underrun, tail: outputs with audio; while filling; missing in mid-stream; after the end.
        underruns: reads that found too little.
    """

    offered: int
    written: int
    dropped: int
    consumed: int
    held: int
    trimmed: int
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
        deadband_samples: how far the average level may wander before the reader's speed follows.
        tolerance_samples: how far the lowest level may lie above its floor before it is cut back to it.
        rate_hz: the device's rate.
        drift_correction: False plays every sample as it is, whatever the level.

    Raises:
        UsageError: prefill above capacity, or a figure out of range.
    """

    def __init__(
        self,
        capacity_samples: int,
        prefill_samples: int,
        deadband_samples: int,
        tolerance_samples: int,
        rate_hz: int,
        drift_correction: bool = True,
    ) -> None:
        if not 4 <= capacity_samples <= LARGEST_CAPACITY:
            raise UsageError(f"playout: capacity must be 4 to {LARGEST_CAPACITY} samples, got {capacity_samples}")
        if not 0 <= prefill_samples <= capacity_samples:
            raise UsageError(
                f"playout: prefill must be 0 to the capacity of {capacity_samples} samples, got {prefill_samples}"
            )
        if deadband_samples < 0 or tolerance_samples < 0:
            raise UsageError(
                f"playout: deadband and tolerance must be at least 0 samples, got {deadband_samples} and "
                f"{tolerance_samples}"
            )
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise UsageError(f"playout: rate must be {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz, got {rate_hz}")
        self.capacity_samples, self.prefill_samples, self.rate_hz = capacity_samples, prefill_samples, rate_hz
        self._control = Control(rate_hz, prefill_samples, deadband_samples, tolerance_samples, drift_correction)
        self._store: Array = np.zeros(capacity_samples + 1, np.float32)  # one more: the sample before the reader
        self.reset()

    def reset(self) -> None:
        """Empty, filling, all counts zero."""
        self._written = self._index = self._fraction = 0
        self._dropped = self._trimmed = self._played = self._silence = self._underrun = self._tail = 0
        self._underruns = 0
        self._ended = self.playing = False
        self._store[:] = 0.0
        self._control.reset()
        self._read_ns = self._read_frames = 0

    @property
    def level(self) -> int:
        """Samples held."""
        return self._written - self._index

    @property
    def cutting(self) -> bool:
        """Whether one of the next reads makes a cut."""
        return self._control.cut > 0

    @property
    def position(self) -> float:
        """Where the next output lies, in written samples; for the latency ledger."""
        return self._index + self._fraction / ONE

    @property
    def adjust_ppm(self) -> float:
        """How much faster (positive) or slower than the writer's clock the reader runs now."""
        return self._control.adjust / ONE * 1e6

    @property
    def counts(self) -> PlayoutCounts:
        """Where every sample went."""
        return PlayoutCounts(
            offered=self._written + self._dropped,
            written=self._written,
            dropped=self._dropped,
            consumed=self._index,
            held=self.level,
            trimmed=self._trimmed,
            played=self._played,
            silence=self._silence,
            underrun=self._underrun,
            tail=self._tail,
            underruns=self._underruns,
        )

    def write(self, block: Array, time_ns: int) -> int:
        """Take in what fits.

        Args:
            block: float32 [n] at the device's rate.
            time_ns: now.

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
        self._check(block)
        count = min(len(block), self.capacity_samples - self.level)
        self._take(block[:count])
        self._dropped += len(block) - count
        if self.playing and count:
            frames = self._read_frames
            used = (time_ns - self._read_ns) * self.rate_hz // SECOND_NS
            self._control.write(count, self.level + frames - min(max(used, 0), frames), frames)
        return len(block) - count

    def _check(self, block: Array) -> None:
        if not math.isfinite(float(np.dot(block, block))) and not np.isfinite(block).all():  # the cheap look first
            bad = self._written + int(np.flatnonzero(~np.isfinite(block))[0])
            raise AudioError(f"playout: sample {bad} is NaN or Inf, expected finite numbers; nothing was taken in")

    def _take(self, block: Array) -> None:
        """There is room for it."""
        count, start = len(block), self._written % len(self._store)
        first = min(count, len(self._store) - start)
        self._store[start : start + first] = block[:first]
        if first < count:
            self._store[: count - first] = block[first:]
        self._written += count

    def finish(self) -> None:
        """No more is written: what is held plays to its end, and what follows is tail, not underrun."""
        self._ended = True

    def read(self, frames: int, time_ns: int) -> Array:
        """The device's next block.

        Args:
            frames: samples wanted.
            time_ns: now.

        Returns:
            float32 [frames], a fresh array.
        """
        level, adjust = self.level, self._control.adjust
        if not self.playing:
            if level < self.prefill_samples and not self._ended:
                self._silence += frames
                return np.zeros(frames, np.float32)
            self.playing = True
            self._control.begin()
        self._read_ns, self._read_frames = time_ns, frames
        cut = self._control.cut
        if cut and not self._ended and level - cut >= frames + (frames >> 9) + 4:
            return self._make_cut(frames, cut)
        out = np.zeros(frames, np.float32)
        count = playable(frames, level, self._fraction, adjust, self._ended)
        if count:
            out[:count] = self._play(count)
            self._played += count
        if count < frames and self._ended:
            self._tail += frames - count
        elif count < frames:
            self._underrun += frames - count
            self._underruns += 1
            self.playing = False
            self._fraction = 0
        return out

    def _make_cut(self, frames: int, cut: int) -> Array:
        """A read across the cut."""
        index, fraction = self._index, self._fraction
        here = self._play(frames).astype(np.float64)
        self._index, self._fraction = index + cut, fraction
        later = self._play(frames).astype(np.float64)
        fade = np.arange(1, frames + 1, dtype=np.float64) / float(frames + 1)
        self._played += frames
        self._trimmed += cut
        self._control.restart()
        out: Array = (here * (1.0 - fade) + later * fade).astype(np.float32)
        return out

    def _play(self, count: int) -> Array:
        adjust = self._control.adjust
        step = ONE + adjust
        end = self._fraction + count * step
        if not (self._fraction or adjust):
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


class Control:
    """How fast the reader runs and what it cuts out, by the levels that writes find; see the module's docstring.

    Attributes:
        adjust: what a step is more than 1, in 2^-32 samples.
        cut: samples to be cut out.
    """

    def __init__(self, rate_hz: int, prefill: int, deadband: int, tolerance: int, drift_correction: bool) -> None:
        self._rate_hz, self._drift_correction = rate_hz, drift_correction
        self._prefill, self._free, self._tolerance = prefill, deadband << 16, tolerance
        self._shift = rate_hz.bit_length() - 1
        self._gain, self._most = ONE // 4 // rate_hz, (rate_hz >> 2) << 16
        self.reset()

    def reset(self) -> None:
        """Nothing is known."""
        self._integral = self._played = self._seen = 0
        self._short = -1  # the first begin is none too soon
        self._unlike = False
        self._usual: int | None = None
        self.restart()

    def begin(self) -> None:
        """Playing begins."""
        self._short = self._short + 1 if self._played + self._seen < RECOVERY_S * self._rate_hz else 0
        if self._short == 2:
            self._short, self._usual = 0, None
        self.restart()
        self._played = 0

    def restart(self) -> None:
        """The level is another."""
        self._played += self._seen
        self._target: int | None = None
        self._sum = self._average = self._seen = self._seconds = self._lowest = self._since = self.cut = 0
        self.adjust = self._integral >> 16

    def write(self, count: int, level: int, frames: int) -> None:
        """`count` samples were written, and this is the level; a read takes `frames`."""
        if self._seen == 0 or level < self._lowest:
            self._lowest = level
        self._sum += level * count
        self._seen += count
        if self._target is not None and self._drift_correction:
            error, most, shift = (level << 16) - self._average, self._most, self._shift
            if not -most <= error <= most:
                error = most if error > 0 else -most
            self._average += (error * (count if count >> shift == 0 else 1 << shift)) >> shift
            error = self._average - self._target
            if self._unlike or not -self._free <= error <= self._free:
                self._follow(count, error)
        if self._seen >= self._rate_hz:
            self._look(frames)

    def _look(self, frames: int) -> None:
        """A second is over."""
        mean = self._sum // self._seen
        self._seconds += 1
        self._played += self._seen
        self._since += self._seen
        if self._target is None:
            self._target = self._average = mean << 16
            self._since = 0
        if self._usual is None and self._seconds == 2:
            low, high = self._prefill - self._tolerance, self._prefill + self._tolerance + frames
            self._usual = mean - self._lowest + max(low, min(high, self._lowest))
        elif self._usual is not None and self.cut == 0:
            most = self._tolerance // 2 if self._seconds <= RECOVERY_S else 2 * self._tolerance
            if mean - self._usual > most:
                self.cut = mean - self._usual
        self._sum = self._seen = 0

    def _follow(self, count: int, error: int) -> None:
        """The other clock: the average level is so far from its target."""
        if not self._unlike:
            self._unlike = True
            first = min((abs(error) << 16) // (self._since + self._seen), FIRST_LIMIT) << 16
            self._integral = first if error > 0 else -first
        error = max(-self._most, min(self._most, error))
        limit = ADJUST_LIMIT << 16
        self._integral = max(-limit, min(limit, self._integral + ((error * count) >> (2 * self._shift - 21))))
        self.adjust = max(-ADJUST_LIMIT, min(ADJUST_LIMIT, (self._integral >> 16) + ((error * self._gain) >> 16)))


def playable(frames: int, level: int, fraction: int, adjust: int, ended: bool) -> int:
    """How many of the next `frames` outputs the samples held allow."""
    ahead = 2 if (fraction or adjust) and not ended else 0
    room = level - 1 - ahead
    if room < 0:
        return 0
    return min(frames, ((room << 32) + ONE - 1 - fraction) // (ONE + adjust) + 1)


def prefill_at_device(manifest: Manifest, device_rate_hz: int, device_samples: int) -> int:
    """Samples at the device's rate to hold before playing.

    Args:
        manifest: its `playout.prefill_samples` are at the model's rate; where it has none, one buffer of the model
            and `device_samples`.
        device_rate_hz: the device's rate.
        device_samples: what its rhythms need (docs/dsp.md): a block of its speaker, what of its microphone comes at
            once, and JITTERS times its jitter.
    """
    rate = manifest.geometry.sample_rate_hz
    if manifest.playout is not None:
        return -(-manifest.playout.prefill_samples * device_rate_hz // rate)
    return -(-manifest.buffer.samples * device_rate_hz // rate) + device_samples


def deadband_at_device(hop: int, block: int, device_rate_hz: int) -> int:
    """How far the level may wander: what a buffer's and a block's beat makes of it, at most 5 ms.

    Args:
        hop: samples at the device's rate that one buffer of the model gives.
        block: frames of the device's longest callback, as far as it is known.
        device_rate_hz: that rate.
    """
    return min(max(hop // 4, block // 16), device_rate_hz // 200)
