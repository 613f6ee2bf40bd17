"""An enhancer's output on its way to the speaker: resampled, into the playout ring, read by the device's clock.

Every output block's ledger entry is pending here until the sample it follows has its turn in the ring.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.core.playout import LARGEST_CAPACITY, PlayoutRing, deadband_at_device
from streaming.core.resample import Resampler
from streaming.runs.record import OccupancyPoint, PlayoutRecord
from streaming.simulator.device.faults import FaultLog
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.config import PipelineConfig
from streaming.simulator.pipeline.pending import Pending
from streaming.simulator.pipeline.recorders import Recorders
from streaming.simulator.pipeline.writers import Occupancy

Array = NDArray[np.float32]
Int64 = NDArray[np.int64]
Wide = NDArray[np.float64]


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


def playout_sizes(config: PipelineConfig, hop_samples: int) -> tuple[int, int, int, int, int]:
    """Capacity, prefill, dead band, tolerance and rate of the playout ring."""
    profile, prefill = config.profile, config.prefill_samples
    rate_hz, hop = profile.output_rate_hz, _at_output(config, hop_samples)
    burst = max(profile.output_block_frames, hop, round(profile.block_frames[1] * rate_hz / profile.rate_hz))
    capacity = min(LARGEST_CAPACITY, max(4 * prefill + 4 * burst, 2 * rate_hz))
    return capacity, prefill, deadband_at_device(hop, burst, rate_hz), hop, rate_hz


def _at_output(config: PipelineConfig, samples: int) -> int:
    """So many of the model's samples at the device's rate."""
    return max(1, round(samples * (config.profile.output_rate_hz / config.rate_hz)))


class Playback:
    """Resamples an enhancer's output into the playout ring, which the device reads by its own clock.

    Args:
        config: output rate, block, clock, route and prefill.
        hop_samples: samples a write usually has, at the model's rate.
        recorders, log: where entries, reads and faults go.
        on_read: called with the time and the samples of each read.

    Attributes:
        ring: what is held. resampler: to the device's rate.
        rate_hz, block, true_rate_hz: of the device, nominal; frames of a read; what its clock really does.
        finished: whether nothing more comes.
        high_water: most held.
    """

    _make_ring: Callable[[int, int, int, int, int], PlayoutRing] = PlayoutRing

    def __init__(
        self,
        config: PipelineConfig,
        hop_samples: int,
        recorders: Recorders,
        log: FaultLog,
        on_read: Callable[[int, Array], None] | None = None,
    ) -> None:
        profile = config.profile
        self._trace, self._writer, self._log, self._on_read = recorders.trace, recorders.output, log, on_read
        self.rate_hz, self.block = profile.output_rate_hz, profile.output_block_frames
        self.resampler = Resampler(config.rate_hz, self.rate_hz)
        self._ratio = self.rate_hz / config.rate_hz
        self.ring = self._make_ring(*playout_sizes(config, hop_samples))
        self.true_rate_hz = self.rate_hz * (1.0 + profile.output_clock_ppm * 1e-6)
        self.route_ns = round(profile.output_latency_ms * 1e6)
        delay_ns = self.resampler.delay_out_samples * SECOND_NS // self.rate_hz
        self._lock = threading.Lock()  # in real time one thread writes and another reads
        self._pending = Pending(recorders.ledger, delay_ns, self.route_ns, self.true_rate_hz)
        self._in = 0  # samples given to the resampler
        self._shift = 0  # of its outputs, how many never came into the ring
        self._reads = 0
        self.finished = False
        self.high_water = 0
        self._adjust_ppm = 0.0
        self._occupancy = Occupancy(recorders.total_ns)

    def next_read_ns(self) -> int:
        """When the device wants its next block."""
        return round(self._reads * self.block * SECOND_NS / self.true_rate_hz)

    def _resampled(self, values: Array, lengths: list[int]) -> tuple[Array, Int64, Wide]:
        """Results at the device's rate [n], where each begins there and the last ends, places of their entries."""
        begins = self._in + np.cumsum([0, *lengths], dtype=np.int64)
        edges = -(-begins * self.resampler.up // self.resampler.down) - self.resampler.out_samples
        self._in = int(begins[-1])
        places: Wide = begins[:-1].astype(np.float64) * self._ratio + self.resampler.delay_out_samples
        return self.resampler.process(values), edges, places

    def write(self, values: Array, written: Written) -> None:
        """Take in results; each ledger's entry follows its result's first sample.

        Args:
            values: float32 [n] at the model's rate, all of them.
            written: what they are.
        """
        block, edges, places = self._resampled(values, written.lengths)
        ends = np.array(written.ends_ns, np.int64)
        with self._lock:
            for k in range(len(ends)):
                one = slice(k, k + 1)
                self._put_result(block[edges[k] : edges[k + 1]], places[one], ends[one], written.rows[one])

    def _put_result(self, block: Array, places: Wide, ends_ns: Int64, rows: Int64) -> None:
        """One result into the ring, with its entry [1]."""
        self._pending.add(places - self._shift, ends_ns, rows)
        self._put(block, int(ends_ns[0]))

    def finish(self, now_ns: int) -> None:
        """The stream is over: what is inside plays to its end."""
        with self._lock:
            self._put(self.resampler.flush(), now_ns)
            self.ring.finish()
            self.finished = True

    def _put(self, block: Array, now_ns: int) -> None:
        dropped = self.ring.write(block, now_ns)
        if dropped:
            self._pending.forget(self.ring.counts.written, dropped)
            self._shift += dropped
            self._log.add(now_ns, "playout_overflow", dropped, self.rate_hz)
        level = self.ring.level
        if level > self.high_water:
            self.high_water = level

    def read(self, now_ns: int) -> Array:
        """The device's next block, float32 [block]; entries whose turn it is are finished."""
        with self._lock:
            return self._read(now_ns)

    def _read(self, now_ns: int) -> Array:
        ring = self.ring
        before, was_playing, trimmed = ring.position, ring.playing, ring.counts.trimmed
        out = ring.read(self.block, now_ns)
        self._reads += 1
        after, level, cut = ring.position, ring.level, ring.counts.trimmed - trimmed
        if cut:
            self._cut(before, after, cut, now_ns)
        else:
            self._finish(before, after, now_ns)
        if was_playing and not ring.playing:
            self._log.add(now_ns, "playout_underrun", self.block - int(after - before), self.rate_hz)
            self._trace.instant("faults", "playout underrun", now_ns)
        self._note([now_ns], [level], out)
        return out

    def _finish(self, before: float, after: float, now_ns: int) -> None:
        """The reader went from here to there."""
        self._pending.finish(np.array([before, after]), np.array([self.ring.adjust_ppm]), np.array([now_ns], np.int64))

    def _cut(self, before: float, after: float, cut: int, now_ns: int) -> None:
        """A cut was made in a read: a sample is where it is louder, in the half before or the half after."""
        half = (after - cut - before) / 2.0
        self._finish(before, before + half, now_ns)
        self._pending.pass_over(after - half)
        self._finish(after - half, after, now_ns + round(self.block * SECOND_NS / self.true_rate_hz / 2.0))
        self._log.add(now_ns, "playout_trim", cut, self.rate_hz)
        self._trace.instant("faults", "playout trim", now_ns, samples=cut)

    def _note(self, times: list[int], held: list[int], out: Array) -> None:
        """Blocks were read: when, what was left in the ring then, and their samples."""
        for time_ns, level in zip(times, held, strict=True):
            self._occupancy.add(time_ns, level)
        if not self._trace.full:
            for time_ns, level in zip(times, held, strict=True):
                self._trace.counter("playout", time_ns, level)
        if self._writer is not None:
            self._writer.add(out)
        if self._on_read is not None:
            for k, time_ns in enumerate(times):
                self._on_read(time_ns, out[k * self.block : (k + 1) * self.block])

    def end_of_input(self) -> None:
        """What comes from now on is a flush: it comes at once, which says nothing of the clocks."""
        self._adjust_ppm = self.ring.adjust_ppm

    @property
    def drained(self) -> bool:
        """Whether a finished stream has been played to its end."""
        return self.ring.level == 0

    def record(self) -> PlayoutRecord:
        """What happened, for the run's record."""
        return PlayoutRecord(
            rate_hz=self.rate_hz,
            block_frames=self.block,
            capacity_samples=self.ring.capacity_samples,
            prefill_samples=self.ring.prefill_samples,
            high_water_samples=self.high_water,
            **dataclasses.asdict(self.ring.counts),
            adjust_ppm=round(self._adjust_ppm, 6),
            occupancy=[OccupancyPoint(*p) for p in self._occupancy.points],
        )
