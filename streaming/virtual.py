"""The virtual clock: a deterministic discrete-event run. Same arguments, same bytes.

Four things can happen next: a callback, a call's begin, its end, a playout read; the earliest does, in this order at
equal times. The net really computes, at once; that its result is there `compute` later is the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from streaming.call import Call
from streaming.capture import Callback, Source
from streaming.compute import GATED_NS, ComputeModel
from streaming.faults import Fault, stalled_until
from streaming.pipeline import Pipeline

NEVER = 1 << 62


def run_virtual(
    pipeline: Pipeline,
    callbacks: Iterator[Callback],
    source: Source,
    compute: ComputeModel,
    faults: Sequence[Fault] = (),
    tick: Callable[[int], None] | None = None,
) -> int:
    """Run to the end of the audio, and until all of it has come out.

    Args:
        pipeline: a fresh one.
        callbacks: see streaming.capture.device_callbacks.
        source: the sound.
        compute: times of the calls.
        faults: stalls are for here.
        tick: called with the time after each callback, for progress.

    Returns:
        when the run ended, ns.

    Raises:
        ArtefactError: the model failed too often in a row; KeyboardInterrupt passes through.
    """
    stalls = [f for f in faults if f.kind == "stall"]
    wakeup_ns = round(pipeline.profile.wakeup_us * 1e3)
    playback = pipeline.playback
    callback = next(callbacks, None)
    t_callback = NEVER if callback is None else callback.time_ns
    t_start = t_end = NEVER
    t_read = NEVER if playback is None else playback.next_read_ns()
    running: Call | None = None
    now = 0
    ring, capture, read = pipeline.ring, pipeline.capture, source.read
    while callback is not None or running is not None or t_start != NEVER:
        if t_callback <= t_end and t_callback <= t_start and t_callback <= t_read and callback is not None:
            now = t_callback
            capture(callback, read(callback.rate_hz, callback.first_frame, callback.frames))
            callback = next(callbacks, None)
            t_callback = NEVER if callback is None else callback.time_ns
            if callback is None:
                pipeline.end_capture(now)
            if running is None and t_start == NEVER and ring.held >= pipeline.needed:
                t_start = _awake(stalls, now + wakeup_ns)
            if tick is not None:
                tick(now)
        elif t_end <= t_start and t_end <= t_read and running is not None:
            now = t_end
            pipeline.deliver(running, now)
            running, t_end = None, NEVER
            if ring.held >= pipeline.needed:
                t_start = _awake(stalls, now)
        elif t_start <= t_read:
            now, t_start = t_start, NEVER
            running = pipeline.take(now)
            if running is not None:
                t_end = now + (GATED_NS if running.skipped or running.gated else compute.next_ns(now))
        elif playback is not None:
            now = t_read
            playback.read(now)
            t_read = playback.next_read_ns()
    return _wind_up(pipeline, compute, now)


def _awake(stalls: Sequence[Fault], time_ns: int) -> int:
    return stalled_until(stalls, "stall", time_ns) if stalls else time_ns


def _wind_up(pipeline: Pipeline, compute: ComputeModel, now: int) -> int:
    """Flush the loop, then play what is left."""
    playback = pipeline.playback
    for call in pipeline.drain(now):
        call.start_ns = now
        now += compute.next_ns(now)
        while playback is not None and playback.next_read_ns() < now:
            playback.read(playback.next_read_ns())
        pipeline.deliver(call, now)
    pipeline.finish(now)
    while playback is not None and not playback.drained:
        now = playback.next_read_ns()
        playback.read(now)
    return now
