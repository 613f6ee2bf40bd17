"""What the virtual clock does many at a time: callbacks between two calls, and playout reads between results.

Nothing of what a run reports differs, to the byte: the resampler gives the same bits in any partition, and the reads
made here find all they want, so that none acts on another. Where that is not so the plain forms are used
(streaming/simulator/pipeline/input.py, playback.py; streaming/core/playout.py), one by one.
"""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.core.bound import bounded
from streaming.core.playout import ONE, Control, PlayoutRing, playable
from streaming.simulator.device.callbacks import Stretch
from streaming.simulator.device.timeline import SECOND_NS, samples_ns
from streaming.simulator.pipeline.input import InputStage
from streaming.simulator.pipeline.playback import Playback, Written

Array = NDArray[np.float32]
Int64 = NDArray[np.int64]
Wide = NDArray[np.float64]

_SAMPLES_AT_ONCE = 4096  # between samples, in `follow`: bounds the work arrays


class Ready(NamedTuple):
    """Callbacks whose samples are resampled and have yet to come.

    Attributes:
        times_ns: of each.
        brought: frames that they bring, up to each.
        longest_ns: how long the longest of them is, up to each.
        samples: float32 [n] at the model's rate, of all.
        entered: the entered count before the first of them.
        ends: the entered count after each, if the ring refuses none.
    """

    times_ns: list[int]
    brought: list[int]
    longest_ns: list[int]
    samples: Array
    entered: int
    ends: list[int]


class BatchInput(InputStage):
    """An input stage that also takes callbacks known beforehand: `prepare` resamples many, `admit` lets them come."""

    def prepare(self, stretch: Stretch, begin: int, end: int, block: Array) -> Ready | None:
        """Resample callbacks begin..end-1 of a stretch, which come next; not its first one, for that takes `capture`.

        Args:
            stretch, begin, end: which.
            block: float32 [n], all of their frames.

        Returns:
            what `admit` takes, or None where they have to come one by one: a sample is in it that no net may be
            given, or is about to be put in, or a change of rate is not over.
        """
        if self._lead_in or (self._nan and stretch.captured_before_ns(end) >= self._nan[0]):
            return None
        resampler, entered = self._resampler, self.ring.entered
        before, there = resampler.in_samples, resampler.out_samples
        if bounded(block).samples is not block:
            return None
        samples = self._filtered(resampler.process(block))
        frames = stretch.frames[begin:end]
        brought, longest = np.cumsum(frames), samples_ns(np.maximum.accumulate(frames), stretch.rate_hz)
        ends = -(-(before + brought) * resampler.up // resampler.down) + (entered - there)
        times = stretch.times_ns[begin:end].tolist()
        return Ready(times, brought.tolist(), longest.tolist(), samples, entered, ends.tolist())

    def admit(self, ready: Ready, begin: int, end: int) -> None:
        """Callbacks begin..end-1 of `ready` come."""
        ends, times = ready.ends, ready.times_ns[begin:end]
        self.callbacks += end - begin
        self.captured += ready.brought[end - 1] - (ready.brought[begin - 1] if begin else 0)
        if ready.longest_ns[end - 1] > self.block_ns:
            self.block_ns = ready.longest_ns[end - 1]
        ring, origin = self.ring, ready.entered
        first, last = ends[begin - 1] if begin else origin, ends[end - 1]
        if last - first > ring.capacity - ring.held or not self._trace.full:
            for place in range(begin, end):
                self._put(ready.samples[first - origin : ends[place] - origin], times[place - begin])
                first = ends[place]
            return
        reached = ends[begin:end]
        with self._lock:
            held, refused = ring.held, first - ring.entered
            ring.write(ready.samples[first - origin : last - origin])
            self._arrivals.extend([e - refused for e in reached] if refused else reached, times)
        self._occupancy.rise(times, held - first, reached)


class Schedule(NamedTuple):
    """Reads to come that find all they want, and the writes among them.

    Attributes:
        origin: samples gone past the reader before the first.
        places: the reader's place at each read, in units of 2^-32 samples from there, and after the last.
        adjusts: what drift correction adds to each step.
        writes: how many writes come before the first read that is not planned.
        control: its state after the last.
    """

    origin: int
    places: list[int]
    adjusts: list[int]
    writes: int
    control: Control

    @property
    def positions(self) -> Wide:
        """`PlayoutRing.position` at each, and after the last."""
        places = np.array(self.places, np.int64)
        positions: Wide = self.origin + (places >> 32) + (places & (ONE - 1)) / float(ONE)
        return positions

    @property
    def consumed(self) -> Int64:
        """Samples gone past the reader by then, from the first on."""
        return np.array(self.places, np.int64) >> 32

    @property
    def adjust_ppm(self) -> Wide:
        """`PlayoutRing.adjust_ppm` at each."""
        return np.array(self.adjusts, np.int64) / float(ONE) * 1e6


class BatchRing(PlayoutRing):
    """A playout ring that also makes many reads at a time: `plan` them, write what is to come, `follow`."""

    def plan(self, frames: int, times: list[int], edges: list[int], ends: list[int]) -> Schedule:
        """What the next reads and writes do, as far as the reads find all they want; nothing changes yet.

        Args:
            frames: samples of a read.
            times: when the reads are, before the last of `ends`.
            edges: samples written before each write, from now on, and after the last.
            ends: when the writes are. One that is at the time of a read comes before it.

        Returns:
            one place a read, up to the first that would find too little, or that is to make a cut.
        """
        place, held, control = self._fraction, self.level, copy(self._control)
        places, count, read, write = [place], len(times), 0, 0
        adjusts: list[int] = []
        last_ns, last_frames, rate_hz = self._read_ns, self._read_frames, self.rate_hz
        come = held + edges[0]
        while write < len(ends) and not control.cut:
            end_ns, adjust = ends[write], control.adjust
            step, plenty = frames * (ONE + adjust), (come - 3) << 32
            while read < count and times[read] < end_ns:
                after = place + step
                if after > plenty and playable(frames, come - (place >> 32), place & (ONE - 1), adjust, False) < frames:
                    return Schedule(self._index, places, adjusts, write, control)
                last_ns, last_frames, place = times[read], frames, after
                read += 1
                places.append(place)
                adjusts.append(adjust)
            write += 1
            before, come = come, held + edges[write]
            if come > before:
                used = (end_ns - last_ns) * rate_hz // SECOND_NS
                left = 0 if used > last_frames else last_frames - used if used > 0 else last_frames
                control.write(come - before, come - (place >> 32) + left, last_frames)
        return Schedule(self._index, places, adjusts, write, control)

    def follow(self, schedule: Schedule, block: Array, frames: int, last_ns: int) -> Array:
        """Make what was planned: as many calls of `read` and `write`.

        Args:
            schedule: what `plan` gave.
            block: float32 [n], what its writes bring; there is room for all of it.
            frames: as given to it.
            last_ns: when the last of its reads is.

        Returns:
            float32 [reads * frames].
        """
        self._check(block)
        self._take(block)
        begin, count = 0, len(schedule.adjusts)
        out = np.empty(count * frames, np.float32)
        touched = [bool(a or p & (ONE - 1)) for a, p in zip(schedule.adjusts, schedule.places, strict=False)]
        most = max(1, _SAMPLES_AT_ONCE // frames)
        while begin < count:
            kind = touched[begin]
            end = begin + 1
            while end < count and touched[end] == kind and (end - begin < most or not kind):
                end += 1
            first, last = schedule.places[begin], schedule.places[end]
            if kind:
                starts = np.array(schedule.places[begin:end], np.int64) - (first >> 32 << 32)
                steps = ONE + np.array(schedule.adjusts[begin:end], np.int64)
                places = starts[:, None] + np.arange(frames, dtype=np.int64) * steps[:, None]
                out[begin * frames : end * frames] = self._between(places.reshape(-1))
            else:
                out[begin * frames : end * frames] = self._span(0, (end - begin) * frames)
            self._index, self._fraction = schedule.origin + (last >> 32), last & (ONE - 1)
            begin = end
        self._control = schedule.control
        if count:
            self._read_ns, self._read_frames = last_ns, frames
        self._played += count * frames
        return out


class BatchPlayback(Playback):
    """A playback whose `write` and `finish` also make the device's reads, each as its time comes."""

    ring: BatchRing
    _make_ring = BatchRing

    def write(self, values: Array, written: Written) -> None:
        """Take in results, and read until the last of them came."""
        block, edges, places = self._resampled(values, written.lengths)
        ends, rows, count, first = np.array(written.ends_ns, np.int64), written.rows, len(written.lengths), 0
        with self._lock:
            while first < count:
                begin = edges[first]
                taken = self._write_at_once(
                    block[begin:], edges[first:] - begin, places[first:], ends[first:], rows[first:]
                )
                if taken == 0:
                    taken, one = 1, slice(first, first + 1)
                    self._read_until(int(ends[first]))
                    self._put_result(block[begin : edges[first + 1]], places[one], ends[one], rows[one])
                first += taken

    def _write_at_once(self, block: Array, edges: Int64, entries: Wide, ends: Int64, rows: Int64) -> int:
        """Results with the reads between them, as far as each read finds all it wants and nothing overflows.

        Args:
            block: float32 [n], the results' outputs.
            edges: where each begins and the last ends, int64 [results + 1].
            entries, ends, rows: place of each one's entry, when it came, its row.

        Returns:
            how many were taken in, all reads before the last of them made.
        """
        ring = self.ring
        if not ring.playing or ring.cutting:
            return 0
        times = self._reads_before(int(ends[-1]))
        schedule = ring.plan(self.block, times.tolist(), edges.tolist(), ends.tolist())
        reads, results = len(schedule.adjusts), schedule.writes
        consumed = schedule.consumed
        levels = ring.level + edges[1 : results + 1] - consumed[np.searchsorted(times[:reads], ends[:results])]
        if results == 0 or levels.max() > ring.capacity_samples or ring.level + edges[results] > ring.capacity_samples:
            return 0
        held = ring.level + edges[np.searchsorted(ends, times[:reads], "right")] - consumed[1:]
        self.high_water = max(self.high_water, int(levels.max()))
        out = ring.follow(schedule, block[: edges[results]], self.block, int(times[reads - 1]) if reads else 0)
        self._reads += reads
        self._pending.add(entries[:results] - self._shift, ends[:results], rows[:results])
        self._pending.finish(schedule.positions, schedule.adjust_ppm, times[:reads])
        self._note(times[:reads].tolist(), held.tolist(), out)
        return results

    def _reads_before(self, time_ns: int) -> Int64:
        """When the reads are that come before `time_ns`."""
        most = max(0, 2 + int((time_ns - self.next_read_ns()) * self.true_rate_hz / (SECOND_NS * self.block)))
        blocks = np.arange(self._reads, self._reads + most, dtype=np.int64)
        times = np.rint((blocks * self.block).astype(np.float64) * SECOND_NS / self.true_rate_hz).astype(np.int64)
        return times[times < time_ns]

    def _read_until(self, time_ns: int) -> None:
        """The reads whose time comes before `time_ns`."""
        while (now_ns := self.next_read_ns()) < time_ns:
            self._read(now_ns)

    def finish(self, now_ns: int) -> None:
        """The stream is over: what is inside plays to its end."""
        with self._lock:
            self._read_until(now_ns)
        super().finish(now_ns)

    def play_out(self, now_ns: int) -> int:
        """Make the device's reads until all is played; when the last one was, or `now_ns` where there was none."""
        with self._lock:
            while not self.drained:
                now_ns = self.next_read_ns()
                self._read(now_ns)
        return now_ns
