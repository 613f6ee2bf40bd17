"""Real time: real threads, paced by the clock. Capture is never blocked by inference.

A capture thread brings each block when the profile says, an inference thread calls the net, a playout thread reads when
the device would. They share the rings only, each under a lock that is held for a copy. A profile slower than this
machine is imitated by a pause after each call, so that it takes slowdown times as long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streaming.simulator.device.callbacks import AudioSource, Callback
from streaming.simulator.device.faults import Fault, stalled_until
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.pipeline import Pipeline

_TICK_S = 0.1
_SPIN_NS = 200_000


class Feeder(Protocol):
    """What feeds a live run sees of it."""

    def now_ns(self) -> int: ...

    def feed(self, callback: Callback, block: NDArray[np.float32]) -> None: ...

    def note(self, kind: str, detail: str) -> None: ...


class RealtimeRun:
    """One run in real time.

    Args:
        pipeline: a fresh one.
        faults: stalls are for here.
        slowdown: how many times longer a call is to take than it does here; below 1 it is taken as 1.
    """

    def __init__(self, pipeline: Pipeline, faults: Sequence[Fault] = (), slowdown: float = 1.0) -> None:
        self.pipeline = pipeline
        self._stalls = [f for f in faults if f.kind == "stall"]
        self._slowdown = max(1.0, slowdown)
        self._stop, self._captured, self._done = threading.Event(), threading.Event(), threading.Event()
        self._wake = threading.Condition()
        self._feeding = threading.Lock()
        self._origin = 0
        self.errors: list[BaseException] = []

    def now_ns(self) -> int:
        """Time since the run began."""
        return time.perf_counter_ns() - self._origin

    def run(self, callbacks: Iterable[Callback], source: AudioSource, tick: Callable[[int], None] | None = None) -> int:
        """Run to the end of the callbacks.

        Args:
            callbacks: see streaming.simulator.device.callbacks.device_callbacks.
            source: the sound.
            tick: called ten times a second with the time, in the caller's thread.

        Returns:
            when the run ended, ns.

        Raises:
            BaseException: what a thread raised first, of whatever kind.
            KeyboardInterrupt: after the threads have ended; the pipeline is whole then.
        """
        return self._run([lambda: self._capture(callbacks, source)], tick, None)

    def run_live(self, live: Callable[[Feeder], Any], seconds: float, tick: Callable[[int], None] | None = None) -> int:
        """Run on blocks that something else feeds, for `seconds` or until interrupted.

        Args:
            live: makes the context in which the blocks come.
            seconds: length.
            tick: as in `run`.
        """
        with live(self):
            return self._run([], tick, seconds)

    def feed(self, callback: Callback, block: NDArray[np.float32]) -> None:
        """A block from outside, such as a sound card's callback."""
        try:
            with self._feeding:
                if self._captured.is_set() or not self._origin:
                    return
                self.pipeline.input.capture(callback, block)
            with self._wake:
                self._wake.notify()
        except BaseException as exc:  # in the sound card's own thread, where nobody would see it
            self._fail(exc)

    def note(self, kind: str, detail: str) -> None:
        """Something that whoever feeds noticed."""
        self.pipeline.log.add(self.now_ns(), kind, 0, self.pipeline.profile.rate_hz, detail)

    def _run(self, extra: list[Callable[[], None]], tick: Callable[[int], None] | None, seconds: float | None) -> int:
        self._origin = time.perf_counter_ns()
        jobs = [*extra, self._infer]
        if self.pipeline.playback is not None:
            jobs.append(self._play)
        threads = [threading.Thread(target=self._guarded, args=(job,), daemon=True) for job in jobs]
        started: list[threading.Thread] = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            while not self._done.wait(_TICK_S):
                if tick is not None:
                    tick(self.now_ns())
                if seconds is not None and self.now_ns() > seconds * SECOND_NS:
                    self._end_capture()
        finally:
            self._stop.set()
            with self._wake:
                self._wake.notify_all()
            for thread in started:
                thread.join()
        if self.errors:
            raise self.errors[0]
        return self.now_ns()

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as exc:
            self._fail(exc)

    def _fail(self, exc: BaseException) -> None:
        """End the run because a thread cannot go on."""
        try:
            self.errors.append(exc)
        finally:  # whatever else fails, such as for want of memory: a run without its threads would never end
            self._stop.set()
            self._done.set()

    def _sleep_until(self, time_ns: int) -> bool:
        """Wait; whether the run goes on."""
        while not self._stop.is_set():
            left = time_ns - self.now_ns()
            if left <= 0:
                return True
            if left > _SPIN_NS:
                self._stop.wait((left - _SPIN_NS) / SECOND_NS)
        return False

    def _end_capture(self) -> None:
        with self._feeding:
            if not self._captured.is_set():
                self.pipeline.input.end_capture(self.now_ns())
                self._captured.set()
        with self._wake:
            self._wake.notify()

    def _capture(self, callbacks: Iterable[Callback], source: AudioSource) -> None:
        pipeline = self.pipeline
        for callback in callbacks:
            block = source.read(callback.rate_hz, callback.first_frame, callback.frames)
            if not self._sleep_until(callback.time_ns):
                return
            began = self.now_ns()
            if began > callback.time_ns + pipeline.profile.block_ns:
                pipeline.log.add(began, "capture_late", 0, callback.rate_hz, "this machine was busy")
            pipeline.input.capture(callback._replace(time_ns=began), block)
            with self._wake:
                self._wake.notify()
        self._end_capture()

    def _infer(self) -> None:
        pipeline = self.pipeline
        while not self._stop.is_set():
            with self._wake:
                if pipeline.lacking > 0 and not self._captured.is_set():
                    self._wake.wait(_TICK_S)
            if pipeline.lacking > 0:
                if self._captured.is_set() and pipeline.lacking > 0:
                    break
                continue
            if self._stalls and not self._sleep_until(stalled_until(self._stalls, "stall", self.now_ns())):
                return
            began = self.now_ns()
            call = pipeline.take(began)
            if call is None:
                continue
            took = self.now_ns() - began
            if self._slowdown > 1.0 and not self._sleep_until(began + round(took * self._slowdown)):
                return
            pipeline.deliver(call, self.now_ns())
        if not self._stop.is_set():
            for call in pipeline.drain(self.now_ns()):
                call.start_ns = self.now_ns()
                pipeline.deliver(call, self.now_ns())
            pipeline.finish(self.now_ns())
            if pipeline.playback is None:
                self._done.set()

    def _play(self) -> None:
        playback = self.pipeline.playback
        while playback is not None and self._sleep_until(playback.next_read_ns()):
            playback.read(self.now_ns())
            if playback.finished and playback.drained:
                break
        if not self._stop.is_set():
            self._done.set()
