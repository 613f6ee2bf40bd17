"""An enhancer's output on its way to the speaker: resampled, into the playout ring, read by the device's clock.

Every output block's ledger entry waits here until the sample it follows has its turn in the ring. With the policy
"grow_delay" a delay that grew is shrunk again: when the ring's lowest level over half a second lies more than a hop
above the prefill, every block written is halved by a linear cross-fade until the surplus is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.core.playout import LARGEST_CAPACITY, PlayoutRing
from streaming.core.resample import Resampler
from streaming.runs.record import OccupancyPoint, PlayoutRecord
from streaming.simulator.device.faults import FaultLog
from streaming.simulator.device.profile import DeviceProfile
from streaming.simulator.pipeline.ledger import Ledger
from streaming.simulator.pipeline.pending import Waiting
from streaming.simulator.pipeline.perfetto import TraceWriter
from streaming.simulator.pipeline.writers import Occupancy, WavWriter
from streaming.simulator.timeline import SECOND_NS

Array = NDArray[np.float32]
Int64 = NDArray[np.int64]
Wide = NDArray[np.float64]

_WATCH_S = 0.5


class Written(NamedTuple):
    """Results one after the other.

    Attributes:
        lengths: samples of each, at the model's rate.
        ends_ns: when each came.
        rows: int64 [results, n], of each what the ledger's entry begins with, up to compute.
    """

    lengths: list[int]
    ends_ns: list[int]
    rows: NDArray[np.int64]


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
        spool: WavWriter | None,
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
        self._waiting = Waiting(ledger, self.delay_ns, self.route_ns, self.true_rate_hz)
        self._in = 0  # samples given to the resampler
        self._shift = 0  # of its outputs, how many never came into the ring
        self._reads = 0
        self.finished = False
        self.trimmed = self._to_trim = self.high_water = 0
        self._watch_reads = max(1, round(_WATCH_S * self.rate_hz / self.block))
        self._watched, self._lowest = 0, capacity
        self._occupancy = Occupancy(total_ns)
        self.on_read: Callable[[int, Array], None] | None = None

    def next_read_ns(self) -> int:
        """When the device wants its next block."""
        return round(self._reads * self.block * SECOND_NS / self.true_rate_hz)

    def _reads_before(self, time_ns: int) -> Int64:
        """When the reads are that come before `time_ns`."""
        most = max(0, 2 + int((time_ns - self.next_read_ns()) * self.true_rate_hz / (SECOND_NS * self.block)))
        blocks = np.arange(self._reads, self._reads + most, dtype=np.int64)
        times = np.rint((blocks * self.block).astype(np.float64) * SECOND_NS / self.true_rate_hz).astype(np.int64)
        return times[times < time_ns]

    def write(self, values: Array, written: Written, reading: bool = False) -> None:
        """Take in results; each ledger's entry follows its result's first sample.

        Args:
            values: float32 [n] at the model's rate, all of them.
            written: what they are.
            reading: whether the device's reads are made here, each as its time comes between the results.
        """
        begins = self._in + np.cumsum([0, *written.lengths], dtype=np.int64)
        edges = -(-begins * self.resampler.up // self.resampler.down) - self.resampler.out_samples
        block = self.resampler.process(values)
        places: Wide = begins[:-1].astype(np.float64) * self._ratio + self.resampler.delay_out_samples
        ends, rows, count, first = np.array(written.ends_ns, np.int64), written.rows, len(written.lengths), 0
        with self._lock:
            self._in = int(begins[-1])
            while first < count:
                last = first
                if reading:
                    begin = edges[first]
                    last += self._at_once(
                        block[begin:], edges[first:] - begin, places[first:], ends[first:], rows[first:]
                    )
                if last == first:
                    last += 1
                    if reading:
                        self._read_until(int(ends[first]))
                    self._waiting.add(places[first:last] - self._shift, ends[first:last], rows[first:last])
                    self._put(block[edges[first] : edges[last]], int(ends[first]))
                first = last

    def _at_once(self, block: Array, edges: Int64, entries: Wide, ends: Int64, rows: Int64) -> int:
        """Results with the reads between them, as far as each read finds all it wants and nothing overflows.

        Args:
            block: float32 [n], the results' outputs.
            edges: where each begins and the last ends, int64 [results + 1].
            entries, ends, rows: place of each one's entry, when it came, its row.

        Returns:
            how many were taken in, all reads before the last of them made.
        """
        ring = self.ring
        if not ring.playing or self._to_trim or self._shrink:
            return 0
        times = self._reads_before(int(ends[-1]))
        turns = ring.plan(self.block, edges[np.searchsorted(ends, times, "right")].tolist())
        reads = len(turns.adjusts)
        results = len(ends) if reads == len(times) else int(np.searchsorted(ends, times[reads], "right"))
        consumed = turns.consumed
        levels = ring.level + edges[1 : results + 1] - consumed[np.searchsorted(times[:reads], ends[:results])]
        if results == 0 or levels.max() > ring.capacity_samples or ring.level + edges[results] > ring.capacity_samples:
            return 0
        held = ring.level + edges[np.searchsorted(ends, times[:reads], "right")] - consumed[1:]
        ring.write(block[: edges[results]])
        self.high_water = max(self.high_water, int(levels.max()))
        out = ring.follow(turns, self.block)
        self._reads += reads
        self._waiting.add(entries[:results] - self._shift, ends[:results], rows[:results])
        self._waiting.finish(turns.positions, turns.adjust_ppm, times[:reads])
        self._note(times[:reads].tolist(), held.tolist(), out)
        return results

    def finish(self, now_ns: int, reading: bool = False) -> None:
        """The stream is over: what is inside plays to its end."""
        with self._lock:
            if reading:
                self._read_until(now_ns)
            self._put(self.resampler.flush(), 0)
            self.ring.finish()
            self.finished = True

    def play_out(self, now_ns: int) -> int:
        """Make the device's reads until all is played; when the last one was, or `now_ns` where there was none."""
        with self._lock:
            while not self.drained:
                now_ns = self.next_read_ns()
                self._read(now_ns)
        return now_ns

    def _put(self, block: Array, now_ns: int) -> None:
        if self._to_trim and len(block) > 1:
            cut = min(self._to_trim, len(block) // 2)
            self._waiting.shorten(self.ring.counts.written, len(block), cut)
            self._shift += cut
            fade = np.arange(1, len(block) - cut + 1, dtype=np.float64) / (len(block) - cut + 1)
            block = (block[: len(block) - cut] * (1.0 - fade) + block[cut:] * fade).astype(np.float32)
            self._to_trim -= cut
            self.trimmed += cut
        dropped = self.ring.write(block)
        if dropped:
            self._waiting.forget(self.ring.counts.written, dropped)
            self._shift += dropped
            self._log.add(now_ns, "playout_overflow", dropped, self.rate_hz)
        level = self.ring.level
        if level > self.high_water:
            self.high_water = level

    def read(self, now_ns: int) -> Array:
        """The device's next block, float32 [block]; entries whose turn it is are finished."""
        with self._lock:
            return self._read(now_ns)

    def _read_until(self, time_ns: int) -> None:
        """The reads whose time comes before `time_ns`."""
        while (now_ns := self.next_read_ns()) < time_ns:
            self._read(now_ns)

    def _read(self, now_ns: int) -> Array:
        ring = self.ring
        before, was_playing = ring.position, ring.playing
        out = ring.read(self.block)
        self._reads += 1
        after, level = ring.position, ring.level
        self._waiting.finish(np.array([before, after]), np.array([ring.adjust_ppm]), np.array([now_ns], np.int64))
        if was_playing and not ring.playing:
            self._log.add(now_ns, "playout_underrun", self.block - int(after - before), self.rate_hz)
            self._trace.instant("faults", "playout underrun", now_ns)
        if self._shrink:
            self._watch(level)
        self._note([now_ns], [level], out)
        return out

    def _note(self, times: list[int], held: list[int], out: Array) -> None:
        """Blocks were read: when, what was left in the ring then, and their samples."""
        for time_ns, level in zip(times, held, strict=True):
            self._occupancy.add(time_ns, level)
        if not self._trace.full:
            for time_ns, level in zip(times, held, strict=True):
                self._trace.counter("playout", time_ns, level)
        if self._spool is not None:
            self._spool.add(out)
        if self.on_read is not None:
            for k, time_ns in enumerate(times):
                self.on_read(time_ns, out[k * self.block : (k + 1) * self.block])

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
