"""An enhancer's output on its way to the speaker: resampled, into the playout ring, read by the device's clock.

Every output block's ledger entry waits here until the sample it follows has its turn in the ring. With the policy
"grow_delay" a delay that grew is shrunk again: when the ring's lowest level over half a second lies more than a hop
above the prefill, every block written is halved by a linear cross-fade until the surplus is gone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.device import DeviceProfile
from streaming.faults import FaultLog
from streaming.ledger import Ledger
from streaming.playout import LARGEST_CAPACITY, PlayoutRing
from streaming.record import OccupancyPoint, PlayoutRecord
from streaming.resample import Resampler
from streaming.spool import Occupancy, WavSpool
from streaming.timeline import SECOND_NS
from streaming.trace import TraceWriter

Array = NDArray[np.float32]

_WATCH_S = 0.5


class HalfEntry(NamedTuple):
    """A block's ledger entry up to the end of its call; parts in the order of PARTS, compute the last."""

    number: int
    content_sample: int
    captured_ns: int
    parts: tuple[int, ...]
    end_ns: int


class Playback:
    """See the module's text.

    Args:
        profile: output rate, block, clock and route.
        model_rate_hz: rate of what is written.
        hop_samples: samples a write usually has.
        prefill_samples: at the device's rate.
        ledger, trace, log: where entries, reads and faults go.
        spool: what was played, or None.
        total_ns: length of the run expected.
        shrink: whether a delay that grew is shrunk.
    """

    def __init__(
        self,
        profile: DeviceProfile,
        model_rate_hz: int,
        hop_samples: int,
        prefill_samples: int,
        ledger: Ledger,
        trace: TraceWriter,
        log: FaultLog,
        spool: WavSpool | None,
        total_ns: int,
        shrink: bool,
    ) -> None:
        self._ledger, self._trace, self._log, self._spool, self._shrink = ledger, trace, log, spool, shrink
        self.rate_hz, self.block = profile.output_rate_hz, profile.output_block_frames
        self.resampler = Resampler(model_rate_hz, self.rate_hz)
        self._ratio = self.rate_hz / model_rate_hz
        self.hop_out = max(1, round(hop_samples * self._ratio))
        burst = max(self.block, self.hop_out, round(profile.block_frames[1] * self.rate_hz / profile.rate_hz))
        capacity = min(LARGEST_CAPACITY, max(4 * prefill_samples + 4 * burst, 2 * self.rate_hz))
        self.ring = PlayoutRing(capacity, prefill_samples, burst // 2)
        self.true_rate_hz = self.rate_hz * (1.0 + profile.output_clock_ppm * 1e-6)
        self.route_ns = round(profile.output_latency_ms * 1e6)
        self.delay_ns = self.resampler.delay_out_samples * SECOND_NS // self.rate_hz
        self._lock = threading.Lock()  # in wall mode one thread writes and another reads
        self._pending: deque[tuple[float, HalfEntry]] = deque()
        self._in = 0  # samples given to the resampler
        self._shift = 0  # of its outputs, how many never came into the ring
        self._reads = 0
        self.finished = False
        self.trimmed = self._to_trim = self.high_water = self.lost_entries = 0
        self._watch_reads = max(1, round(_WATCH_S * self.rate_hz / self.block))
        self._watched, self._lowest = 0, capacity
        self._occupancy = Occupancy(total_ns)
        self.on_read: Callable[[int, Array], None] | None = None

    def next_read_ns(self) -> int:
        """When the device wants its next block."""
        return round(self._reads * self.block * SECOND_NS / self.true_rate_hz)

    def write(self, values: Array, entry: HalfEntry | None) -> None:
        """Take in float32 [n] at the model's rate; `entry` follows its first sample."""
        block = self.resampler.process(values)
        with self._lock:
            if entry is not None:
                place = self._in * self._ratio + self.resampler.delay_out_samples - self._shift
                self._pending.append((place, entry))
            self._in += len(values)
            self._put(block, 0 if entry is None else entry.end_ns)

    def finish(self) -> None:
        """The stream is over: what is inside plays to its end."""
        with self._lock:
            self._put(self.resampler.flush(), 0)
            self.ring.finish()
            self.finished = True

    def _put(self, block: Array, now_ns: int) -> None:
        if self._to_trim and len(block) > 1:
            cut = min(self._to_trim, len(block) // 2)
            self._shorten(self.ring.counts.written, len(block), cut)
            fade = np.arange(1, len(block) - cut + 1, dtype=np.float64) / (len(block) - cut + 1)
            block = (block[: len(block) - cut] * (1.0 - fade) + block[cut:] * fade).astype(np.float32)
            self._to_trim -= cut
            self.trimmed += cut
        dropped = self.ring.write(block)
        if dropped:
            self._forget(self.ring.counts.written, dropped)
            self._log.add(now_ns, "playout_overflow", dropped, self.rate_hz)
        level = self.ring.level
        if level > self.high_water:
            self.high_water = level

    def _shorten(self, begin: int, length: int, cut: int) -> None:
        """A block that would begin at `begin` loses `cut` samples in a cross-fade: a sample is where it is louder."""
        left = length - cut

        def moved(place: float) -> float:
            offset = place - begin
            if offset < 0.0 or (offset < left and left - offset >= offset - cut):
                return place
            return place - cut

        self._pending = deque((moved(place), entry) for place, entry in self._pending)
        self._shift += cut

    def _forget(self, place: int, count: int) -> None:
        """`count` outputs never come into the ring: entries there are lost, later ones move up."""
        kept = [p if p[0] < place else (p[0] - count, p[1]) for p in self._pending if not place <= p[0] < place + count]
        self.lost_entries += len(self._pending) - len(kept)
        self._pending = deque(kept)
        self._shift += count

    def read(self, now_ns: int) -> Array:
        """The device's next block, float32 [block]; entries whose turn it is are finished."""
        with self._lock:
            block = self._read(now_ns)
        if self._spool is not None:
            self._spool.add(block)
        if self.on_read is not None:
            self.on_read(now_ns, block)
        return block

    def _read(self, now_ns: int) -> Array:
        ring = self.ring
        before, was_playing = ring.position, ring.playing
        block = ring.read(self.block)
        self._reads += 1
        after = ring.position
        pending = self._pending
        if pending and pending[0][0] < after:
            step = 1.0 + ring.adjust_ppm * 1e-6
            while pending and pending[0][0] < after:
                place, entry = pending.popleft()
                if place <= before - 1.0:
                    self.lost_entries += 1
                    continue
                played_ns = now_ns + round((place - before) / step * SECOND_NS / self.true_rate_hz)
                waited = played_ns - entry.end_ns - self.delay_ns
                parts = (*entry.parts, self.delay_ns, waited, self.route_ns, 0, 0)
                self._ledger.add("block", entry.number, entry.content_sample, entry.captured_ns, parts)
        if was_playing and not ring.playing:
            self._log.add(now_ns, "playout_underrun", self.block - int(after - before), self.rate_hz)
            self._trace.instant("faults", "playout underrun", now_ns)
        level = ring.level
        self._occupancy.add(now_ns, level)
        if self._shrink:
            self._watch(level)
        if not self._trace.full:
            self._trace.slice("playout", "read", now_ns, now_ns, held=level)
        return block

    def _watch(self, level: int) -> None:
        self._lowest = min(self._lowest, level)
        self._watched += 1
        if self._watched < self._watch_reads:
            return
        surplus = self._lowest - self.ring.prefill_samples
        if self.ring.playing and surplus > self.hop_out:
            self._to_trim = surplus
        self._watched, self._lowest = 0, self.ring.capacity_samples

    @property
    def drained(self) -> bool:
        """Whether a finished stream has been played to its end."""
        return self.ring.level == 0

    def record(self) -> PlayoutRecord:
        """What happened, for the run's record."""
        counts = self.ring.counts
        return PlayoutRecord(
            rate_hz=self.rate_hz,
            block_frames=self.block,
            capacity_samples=self.ring.capacity_samples,
            prefill_samples=self.ring.prefill_samples,
            high_water_samples=self.high_water,
            offered=counts.offered,
            written=counts.written,
            dropped=counts.dropped,
            consumed=counts.consumed,
            held=counts.held,
            played=counts.played,
            silence=counts.silence,
            underrun=counts.underrun,
            tail=counts.tail,
            underruns=counts.underruns,
            trimmed=self.trimmed,
            adjust_ppm=round(self.ring.adjust_ppm, 6),
            occupancy=[OccupancyPoint(*p) for p in self._occupancy.points],
        )

    def close(self) -> None:
        """End the file."""
        if self._spool is not None:
            self._spool.close()
