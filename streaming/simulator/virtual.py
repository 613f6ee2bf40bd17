"""The virtual clock: a deterministic discrete-event run. Same arguments, same bytes.

What happens next is a callback, a call's begin or its end, whichever comes first, in this order at equal times. The net
really computes, at once; that its result is there `compute` later is the simulation. Two things make it cheap, and
change nothing of what a run reports: callbacks between two calls come all at once, and results, which act back on
nothing before them, are acted on many at a time, with the playout's reads between them
(streaming/simulator/pipeline/at_once.py).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from streaming.simulator.device.callbacks import AudioSource, Callback, Stretch
from streaming.simulator.device.compute import GATED_NS, ComputeModel
from streaming.simulator.device.faults import Fault, stalled_until
from streaming.simulator.pipeline.at_once import BatchPlayback, Ready
from streaming.simulator.pipeline.pipeline import Pipeline

NEVER = 1 << 62
_FRAMES_AT_ONCE = 131_072


def run_virtual(
    pipeline: Pipeline,
    plan: Iterable[Stretch],
    source: AudioSource,
    compute: ComputeModel,
    faults: Sequence[Fault] = (),
    tick: Callable[[int], None] | None = None,
) -> int:
    """Run to the end of the audio, and until all of it has come out.

    Args:
        pipeline: a fresh one, made for the virtual clock.
        plan: callbacks, see streaming.simulator.device.callbacks.device_stretches and stretches.
        source: the sound.
        compute: times of the calls.
        faults: stalls are for here.
        tick: called with the time after callbacks, for progress.

    Returns:
        when the run ended, ns.

    Raises:
        ArtefactError: the model failed too often in a row; KeyboardInterrupt passes through.
    """
    capture = _Capture(pipeline, plan, source, [f for f in faults if f.kind == "stall"])
    free_ns = 0  # when the net is free for another call
    while True:
        capture.late_ns = compute.late_ns()
        start_ns = capture.until_a_call(free_ns)
        if tick is not None:
            tick(capture.now)
        if start_ns is None:
            break
        call = pipeline.take(start_ns)
        if call is not None:
            free_ns = start_ns + (GATED_NS if call.skipped or call.gated else compute.next_ns(start_ns))
            pipeline.deliver(call, free_ns)
    return _wind_up(pipeline, compute, max(free_ns, capture.now))


def _wind_up(pipeline: Pipeline, compute: ComputeModel, now: int) -> int:
    """Flush the loop, then play what is left."""
    for call in pipeline.drain(now):
        call.start_ns = now
        now += compute.next_ns(now)
        pipeline.deliver(call, now)
    pipeline.finish(now)
    return pipeline.playback.play_out(now) if isinstance(pipeline.playback, BatchPlayback) else now


class _Capture:
    """The callbacks of a run as their times come.

    Attributes:
        now: time of the last one that came.
        late_ns: how much later than it could the next call begins.
    """

    def __init__(
        self, pipeline: Pipeline, plan: Iterable[Stretch], source: AudioSource, stalls: Sequence[Fault]
    ) -> None:
        self._pipeline, self._input = pipeline, pipeline.input
        self._plan, self._source, self._stalls = iter(plan), source, stalls
        self._wakeup_ns = round(pipeline.profile.wakeup_us * 1e3)
        self._ready: Ready | None = None
        self._begin = 0  # in `_ready`: the next to come
        self._singly: list[Callback] = []  # those to come one by one, the next one last
        self._over = False
        self.now = self.late_ns = 0
        self._next_stretch()

    def until_a_call(self, free_ns: int) -> int | None:
        """When the next call begins, and every callback until then; None where too little comes for one.

        Args:
            free_ns: when the net is free. A call that can begin then does; else the callback that brings enough
                wakes it.
        """
        if self._ready is not None:
            start_ns = self._at_once(self._ready, free_ns)
            if start_ns is not None:
                return start_ns
        self._come(free_ns)
        start_ns = free_ns
        if self._pipeline.lacking > 0:
            self._come(NEVER)
            if self._pipeline.lacking > 0:
                return None
            start_ns = self.now + self._wakeup_ns
        start_ns = self._awake(start_ns)
        self._come(start_ns)
        return start_ns

    def _awake(self, time_ns: int) -> int:
        time_ns += self.late_ns
        return stalled_until(self._stalls, "stall", time_ns) if self._stalls else time_ns

    def _at_once(self, ready: Ready, free_ns: int) -> int | None:
        """`until_a_call` where no more than `ready` is needed to tell."""
        begin, times, ends = self._begin, ready.times_ns, ready.ends
        wanted = self._pipeline.lacking + (ends[begin - 1] if begin else ready.entered)
        end = bisect_right(times, free_ns, begin)
        if (ends[end - 1] if end else ready.entered) >= wanted:
            start_ns = free_ns
        else:
            end = bisect_left(ends, wanted, end)
            if end == len(ends):
                return None
            start_ns = times[end] + self._wakeup_ns
        start_ns = self._awake(start_ns)
        end = bisect_right(times, start_ns, end)
        if end == len(ends):
            return None
        if end > begin:
            self._input.admit(ready, begin, end)
            self._begin, self.now = end, times[end - 1]
        return start_ns

    def _come(self, time_ns: int) -> None:
        """Every callback of `time_ns` or before comes; NEVER: until there is enough for a call, or to the end."""
        while not self._over:
            lacking = self._pipeline.lacking
            if time_ns == NEVER and lacking <= 0:
                return
            if not (self._one(time_ns) if self._ready is None else self._some(self._ready, time_ns, lacking)):
                return

    def _some(self, ready: Ready, time_ns: int, lacking: int) -> bool:
        begin, ends = self._begin, ready.ends
        if time_ns == NEVER:
            wanted = lacking + (ends[begin - 1] if begin else ready.entered)
            end = min(bisect_left(ends, wanted, begin) + 1, len(ends))
        else:
            end = bisect_right(ready.times_ns, time_ns, begin)
            if end == begin:
                return False
        self._input.admit(ready, begin, end)
        self._begin, self.now = end, ready.times_ns[end - 1]
        if end == len(ends):
            self._ready = None
            self._prepare()
        return True

    def _one(self, time_ns: int) -> bool:
        callback = self._singly[-1]
        if callback.time_ns > time_ns:
            return False
        self._singly.pop()
        self._input.capture(callback, self._source.read(callback.rate_hz, callback.first_frame, callback.frames))
        self.now = callback.time_ns
        if not self._singly:
            self._prepare()
        return True

    def _next_stretch(self) -> None:
        """The first of the next stretch comes by itself: something was lost before it, or the rate changes."""
        stretch = next(self._plan, None)
        if stretch is None:
            self._over = True
            self._input.end_capture(self.now)
            return
        self._stretch, self._place = stretch, 1
        self._upto = np.cumsum(stretch.frames)
        self._singly = list(stretch.callbacks(0, 1))

    def _prepare(self) -> None:
        """Get the next ones ready."""
        stretch, begin, upto = self._stretch, self._place, self._upto
        if begin == len(upto):
            self._next_stretch()
            return
        before = int(upto[begin - 1])
        end = max(begin + 1, int(np.searchsorted(upto, before + _FRAMES_AT_ONCE, "right")))
        block = self._source.read(stretch.rate_hz, stretch.first_frame + before, int(upto[end - 1]) - before)
        self._place, self._begin = end, 0
        self._ready = self._input.prepare(stretch, begin, end, block)
        if self._ready is None:
            self._singly = list(stretch.callbacks(begin, end))[::-1]
