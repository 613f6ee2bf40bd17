"""The capture side of the loop: callbacks -> resampler -> DSP -> ring, and when each sample's content was captured.

*Entered* counts samples that came into the ring, in order; those that "newest" refused are not among them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import AudioError
from runtimes.dsp import Stage
from streaming.capture import Callback
from streaming.device import DeviceProfile
from streaming.dsp import InputChain
from streaming.faults import Fault, FaultLog
from streaming.record import Policy
from streaming.resample import Resampler
from streaming.ring import RingBuffer
from streaming.sinks import Sinks
from streaming.timeline import SECOND_NS, ContentClock

Array = NDArray[np.float32]

_NAN_SAMPLES = 8


class Intake:
    """See the module's text. `capture` and `end_capture` are for one thread, `pull` and `captured_at` for another.

    Args:
        rate_hz: the model's.
        profile: the device.
        policy: "grow_delay" refuses new samples when the ring is full, the others drop old ones.
        ring_samples: its capacity.
        longest_read: most samples pulled at once.
        stages: the manifest's `dsp`.
        sinks, log: where occupancy, trace and faults go.
        faults: nan is for here.

    Attributes:
        ring: the ring.
        meter: level of what came in, while `metered`.
        callbacks, captured, lost, nan_samples, rate_changes: counts, frames at the device's rate.
        block_ns: the longest block so far: what it brings at once is no backlog.
        resampler_ns: group delay of the resampler in use.
    """

    def __init__(
        self,
        rate_hz: int,
        profile: DeviceProfile,
        policy: Policy,
        ring_samples: int,
        longest_read: int,
        stages: Sequence[Stage] | None,
        sinks: Sinks,
        log: FaultLog,
        faults: Sequence[Fault],
    ) -> None:
        self.rate_hz, self._policy = rate_hz, policy
        self.ring = RingBuffer(ring_samples, "newest" if policy == "grow_delay" else "oldest")
        self._resampler = Resampler(profile.rate_hz, rate_hz)
        self._before = InputChain(stages, rate_hz)
        self._filters = any(stage.kind in ("highpass", "gain") for stage in stages or ())
        self.metered, self.meter = False, self._before.meter
        self._clock = ContentClock(rate_hz)
        self._arrivals: deque[tuple[int, int]] = deque()  # samples entered after a callback, and when it came
        self._lock = threading.Lock()
        self._scratch: Array = np.zeros(longest_read, np.float32)
        self._occupancy, self._trace, self._log = sinks.occupancy, sinks.trace, log
        self._nan = sorted(f.begin_ns for f in faults if f.kind == "nan")
        self.block_ns = profile.block_ns
        self.callbacks = self.captured = self.lost = self.nan_samples = self.rate_changes = 0
        self._lead_in = 0
        self._begin_segment(0)

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
        if callback.frames * SECOND_NS > self.block_ns * callback.rate_hz:
            self.block_ns = callback.frames * SECOND_NS // callback.rate_hz
        if self._nan and callback.captured_ns >= self._nan[0]:
            self._nan.pop(0)
            block = block.copy()
            block[:_NAN_SAMPLES] = np.nan
        try:
            samples = self._resampler.process(block)
        except AudioError:  # NaN or Inf: the resampler has taken nothing of it
            samples = self._resampler.process(self._without_nan(block, callback))
        if self._lead_in:
            cut = min(self._lead_in, len(samples))
            self._lead_in -= cut
            samples = samples[cut:]
        self._store(samples, callback.time_ns)

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

    def _without_nan(self, block: Array, callback: Callback) -> Array:
        finite = np.isfinite(block)
        bad = int((~finite).sum())
        self.nan_samples += bad
        self._log.add(callback.time_ns, "nan", bad, callback.rate_hz, "silenced")
        self._trace.instant("faults", "NaN from the microphone", callback.time_ns, samples=bad)
        return np.where(finite, block, np.float32(0.0))

    def _store(self, samples: Array, time_ns: int) -> None:
        if self._filters or self.metered:
            samples = self._before.process(samples)
        with self._lock:
            ring = self.ring
            dropped = ring.write(samples)
            entered = ring.entered
            self._arrivals.append((entered, time_ns))
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

    def captured_at(self, entered: int) -> int:
        """When the content of a sample was captured, ns."""
        with self._lock:
            return self._clock.at(entered)

    def pull(self, count: int) -> tuple[Array, int, int, int] | None:
        """The oldest `count` samples of the ring, or None where there are fewer.

        Returns:
            a view that the next pull overwrites, the first one's entered index, and when the callbacks came that
            brought the first and the last of them.
        """
        view = self._scratch[:count]
        with self._lock:
            position = self.ring.position
            if not self.ring.read_into(view):
                return None
            arrivals = self._arrivals
            while arrivals[0][0] <= position:
                arrivals.popleft()
            arrival = arrivals[0][1]
            while arrivals[0][0] < position + count:
                arrivals.popleft()
            return view, position, arrival, arrivals[0][1]
