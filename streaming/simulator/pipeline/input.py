"""The capture side of the loop: callbacks -> resampler -> DSP -> ring, and when each sample's content was captured.

*Entered* counts samples that came into the ring, in order; those that "newest" refused are not among them.
"""

from __future__ import annotations

import threading
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from streaming.core.bound import INPUT_LIMIT, Bounded, bounded
from streaming.core.dsp import InputChain
from streaming.core.resample import Resampler
from streaming.core.ring import RingBuffer
from streaming.simulator.device.callbacks import Callback
from streaming.simulator.device.faults import FaultLog
from streaming.simulator.device.timeline import SECOND_NS, ContentClock
from streaming.simulator.pipeline.config import PipelineConfig
from streaming.simulator.pipeline.recorders import Recorders

Array = NDArray[np.float32]

_NAN_SAMPLES = 8
_KEPT_ARRIVALS = 8192


class _Arrivals:
    """Which callback brought a sample: entered counts, and when each was reached."""

    def __init__(self) -> None:
        self._entered: list[int] = []
        self._times: list[int] = []

    def add(self, entered: int, time_ns: int) -> None:
        """So many had entered after the callback of this time."""
        self._entered.append(entered)
        self._times.append(time_ns)

    def extend(self, entered: list[int], times_ns: list[int]) -> None:
        """The same of many callbacks."""
        self._entered += entered
        self._times += times_ns

    def between(self, first: int, last: int) -> tuple[int, int]:
        """When two samples came; what lies before the first is forgotten now and then."""
        begin = bisect_right(self._entered, first)
        end = bisect_right(self._entered, last, begin)
        times = self._times[begin], self._times[end]
        if begin > _KEPT_ARRIVALS:
            del self._entered[:begin], self._times[:begin]
        return times


class InputStage:
    """Callbacks in, samples at the net's rate in the ring.

    `capture` and `end_capture` are for one thread, `pull` and `captured_at` for another.

    Args:
        config: device, ring and `dsp` stages; with "grow_delay" a full ring refuses new samples, else it drops old
            ones. Of the faults nan is for here.
        recorders, log: where occupancy, trace and faults go.
        metered: whether the level of what comes in is measured.

    Attributes:
        ring: the ring.
        meter: level of what came in, if metered.
        callbacks, captured, lost, nan_samples, rate_changes: counts, frames at the device's rate.
        limited_samples: beyond what a net may be given (streaming/core/bound.py), from the device or after `dsp`.
        block_ns: the longest block so far: what it brings at once is no backlog.
        resampler_ns: group delay of the resampler in use.
    """

    def __init__(self, config: PipelineConfig, recorders: Recorders, log: FaultLog, metered: bool = False) -> None:
        self.rate_hz = rate_hz = config.rate_hz
        self._policy, profile, stages = config.policy, config.profile, config.manifest.dsp
        self.ring = RingBuffer(config.ring_samples, "newest" if self._policy == "grow_delay" else "oldest")
        self._resampler = Resampler(profile.rate_hz, rate_hz)
        self._before = InputChain(stages, rate_hz)
        self._processed = metered or any(stage.kind in ("highpass", "gain") for stage in stages or ())
        self.meter = self._before.meter
        self._clock = ContentClock(rate_hz)
        self._arrivals = _Arrivals()
        self._lock = threading.Lock()
        self._occupancy, self._trace, self._log = recorders.occupancy, recorders.trace, log
        self._nan = sorted(f.begin_ns for f in config.faults if f.kind == "nan")
        self.block_ns = profile.block_ns
        self.callbacks = self.captured = self.lost = self.nan_samples = self.rate_changes = 0
        self._limited = self._lead_in = 0
        self._begin_segment(0)

    @property
    def limited_samples(self) -> int:
        return self._limited + self._before.limited

    def _begin_segment(self, captured: int) -> None:
        """The resampler's next input was captured at this time, ns."""
        resampler = self._resampler
        self.resampler_ns = resampler.delay_out_samples * SECOND_NS // self.rate_hz
        consumed = resampler.in_samples
        output = -(-consumed * resampler.up // resampler.down) + resampler.delay_out_samples
        ahead = (output - resampler.delay_out_samples) * resampler.down - consumed * resampler.up
        captured += ahead * SECOND_NS // (resampler.up * resampler.in_rate_hz)
        entered = self.ring.entered + output - resampler.out_samples
        self._clock.begin(entered, captured)

    def _change_rate(self, callback: Callback) -> None:
        """The old rate's tail comes out; the new resampler's lead-in, silence before its first sample, is cut."""
        self._store(self._resampler.flush(), callback.time_ns)
        self._resampler = Resampler(callback.rate_hz, self.rate_hz)
        self.resampler_ns = self._resampler.delay_out_samples * SECOND_NS // self.rate_hz
        self._lead_in = self._resampler.delay_out_samples
        with self._lock:
            self._clock.begin(self.ring.entered, callback.captured_ns)
        self.rate_changes += 1
        self._log.add(callback.time_ns, "rate_change", callback.lost, callback.rate_hz)
        self._trace.instant("faults", f"rate change to {callback.rate_hz} Hz", callback.time_ns)

    def capture(self, callback: Callback, block: Array) -> None:
        """A callback: its block into the ring.

        Args:
            callback: when it came and what it brings.
            block: float32 [frames].
        """
        self.callbacks += 1
        self.captured += len(block)
        if callback.lost or self.callbacks == 1 or callback.rate_hz != self._resampler.in_rate_hz:
            self._discontinuity(callback)
        self._brought(callback.frames)
        if self._nan and callback.captured_ns >= self._nan[0]:
            self._nan.pop(0)
            block = block.copy()
            block[:_NAN_SAMPLES] = np.nan
        given = bounded(block)
        if given.nan or given.limited:
            self._note(given, callback)
        samples = self._resampler.process(given.samples)
        if self._lead_in:
            cut = min(self._lead_in, len(samples))
            self._lead_in -= cut
            samples = samples[cut:]
        self._store(samples, callback.time_ns)

    def _brought(self, frames: int) -> None:
        """A block so long came."""
        self.block_ns = max(self.block_ns, frames * SECOND_NS // self._resampler.in_rate_hz)

    def _discontinuity(self, callback: Callback) -> None:
        self.lost += callback.lost
        if callback.rate_hz != self._resampler.in_rate_hz:
            self._change_rate(callback)
            return
        with self._lock:
            self._begin_segment(callback.captured_ns)
        if callback.lost:
            self._log.add(callback.time_ns, callback.reason or "dropout", callback.lost, callback.rate_hz)
            self._trace.instant("faults", callback.reason or "dropout", callback.time_ns, frames=callback.lost)

    def _note(self, given: Bounded, callback: Callback) -> None:
        """Samples that the device gave and no net may be given."""
        self.nan_samples += given.nan
        self._limited += given.limited
        if given.nan:
            self._log.add(callback.time_ns, "nan", given.nan, callback.rate_hz, "silenced")
            self._trace.instant("faults", "NaN from the microphone", callback.time_ns, samples=given.nan)
        if given.limited:
            self._log.add(
                callback.time_ns, "over_limit", given.limited, callback.rate_hz, f"limited to {INPUT_LIMIT:g}"
            )
            self._trace.instant("faults", "far over full scale", callback.time_ns, samples=given.limited)

    def _store(self, samples: Array, time_ns: int) -> None:
        self._put(self._filtered(samples), time_ns)

    def _filtered(self, samples: Array) -> Array:
        return self._before.process(samples) if self._processed else self._before.bound(samples)

    def _put(self, samples: Array, time_ns: int) -> None:
        with self._lock:
            ring = self.ring
            dropped = ring.write(samples)
            entered = ring.entered
            self._arrivals.add(entered, time_ns)
            if dropped and self._policy == "grow_delay":
                self._clock.begin(entered, self._clock.at(entered) + dropped * SECOND_NS // self.rate_hz)
            held = ring.held
        if dropped:
            self._log.add(time_ns, "ring_overrun", dropped, self.rate_hz, self._policy)
            self._trace.instant("faults", "ring overrun", time_ns, samples=dropped)
        self._occupancy.add(time_ns, held)
        if not self._trace.full:
            self._trace.slice("capture", "callback", time_ns, time_ns, samples=len(samples))
            self._trace.counter("ring", time_ns, held)

    def end_capture(self, time_ns: int) -> None:
        """No more audio comes: the resampler gives its tail."""
        self._store(self._resampler.flush(), time_ns)

    def frames_until(self, entered: int) -> int:
        """Frames given to the resampler in use with which `entered` samples have come; those it lost are none."""
        resampler = self._resampler
        outputs = resampler.out_samples + entered - self.ring.entered
        return (outputs - 1) * resampler.down // resampler.up + 1

    def captured_at(self, entered: int) -> int:
        """When the content of a sample was captured, ns."""
        with self._lock:
            return self._clock.at(entered)

    def captured_at_each(self, entered: NDArray[np.int64]) -> NDArray[np.int64]:
        """`captured_at` for int64 [n]."""
        with self._lock:
            return self._clock.at_each(entered)

    def pull(self, count: int) -> tuple[Array, int, int, int] | None:
        """The oldest `count` samples of the ring, or None where there are fewer.

        Returns:
            a fresh array, the first one's entered index, and when the callbacks came that brought the first and the
            last of them.
        """
        samples: Array = np.empty(count, np.float32)
        with self._lock:
            position = self.ring.position
            if not self.ring.read_into(samples):
                return None
            return samples, position, *self._arrivals.between(position, position + count - 1)
