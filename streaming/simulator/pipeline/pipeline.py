"""The phone's loop: capture -> resampler -> DSP -> ring -> net -> events or playout. No clock of its own.

A driver says what time it is: streaming/simulator/virtual.py in a simulated clock, streaming/simulator/realtime.py
with threads. The capture side (`input`) and the inference side (`take`, `deliver`, `drain`) may be two
threads; the device's side is `playback`.

Indices: *entered* counts samples that came into the ring, *stream* counts samples given to the net since the start;
they differ by what the ring dropped. A reset of the net begins a new stream at stream index `base`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError, UsageError
from runtimes.bundle import require_mono, require_output
from runtimes.protocol import Outputs, Runtime, State
from streaming.core.dsp import GatedRuntime, Level, gated
from streaming.core.loop import LoopOutput, make_loop
from streaming.metrics.quantiles import Quantiles
from streaming.runs.record import Counts, EventRecord, OccupancyPoint, PlayoutRecord, RingRecord
from streaming.simulator.device.faults import FaultLog
from streaming.simulator.device.timeline import SECOND_NS, IndexMap
from streaming.simulator.pipeline.at_once import BatchInput, BatchPlayback
from streaming.simulator.pipeline.config import PipelineConfig
from streaming.simulator.pipeline.events import EventStage
from streaming.simulator.pipeline.ledger import Hiccups
from streaming.simulator.pipeline.output import Call, OutputStage
from streaming.simulator.pipeline.playback import Playback
from streaming.simulator.pipeline.recorders import Recorders

Array = NDArray[np.float32]

FAILURES_IN_A_ROW = 5


@dataclass(frozen=True)
class Observer:
    """What looks on while a pipeline runs.

    Attributes:
        on_call: called with each call when it is over, in order.
        on_sound: called with what each call of an enhancer gave, after the plain DSP, and when it ended, ns.
        on_read: called with the time and the samples of each block that the device reads.
        on_tick: called with (pipeline, time, total), both ns, now and then.
        metered: whether the input's level is measured.
    """

    on_call: Callable[[Call], None] | None = None
    on_sound: Callable[[Array, int], None] | None = None
    on_read: Callable[[int, Array], None] | None = None
    on_tick: Callable[[Pipeline, int, int], None] | None = None
    metered: bool = False


NOBODY = Observer()


@dataclass(frozen=True)
class Status:
    """A pipeline at a moment, for a display.

    Attributes:
        level: of what came in since the last look; with `Observer.metered`.
        held: samples in the ring. misses: calls that ended too late. delay_ns: of the last call.
        best: a classifier's highest label and its score, or None.
        underruns: playout reads that found too little; None without playout.
    """

    level: Level
    held: int
    misses: int
    delay_ns: int
    best: tuple[str, float] | None
    underruns: int | None


class _Guard:
    """A runtime that can be made to skip a call, or to fail."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.signature, self.info = runtime.signature, runtime.info
        self.reset, self.close = runtime.reset, runtime.close
        self.skip = False
        self.fail = 0

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call, or zeros, or an error put in on purpose."""
        if self.fail:
            self.fail -= 1
            raise ArtefactError("the model failed (a fault put in on purpose)")
        if self.skip:
            return {t.name: np.zeros(t.shape, np.float32) for t in self.signature.outputs}, state
        return self._runtime.step(block, state)


class Pipeline:
    """The phone's loop; a driver tells it the time.

    Args:
        config: what it is made for.
        runtime: the net.
        recorders: where results go.
        observer: what looks on.

    Attributes:
        input: the capture side; a driver gives it callbacks.
        needed: new samples that the next call takes: at first a whole window.
        playback: an enhancer's playout, read by the device; None for a classifier.
        log: what went wrong.

    Raises:
        UsageError: a ring that cannot hold a buffer, or a manifest that does not fit.
    """

    def __init__(
        self, config: PipelineConfig, runtime: Runtime, recorders: Recorders, observer: Observer = NOBODY
    ) -> None:
        manifest = config.manifest
        require_output(manifest, "simulate", "audio", "scores")
        require_mono(manifest, "simulate")
        self.rate_hz, self.profile = config.rate_hz, config.profile
        if config.ring_samples < manifest.buffer.samples:
            raise UsageError(
                f"ring: {config.ring_samples} samples cannot hold the {manifest.buffer.samples} of a call of "
                f"{manifest.name}; choose at least that"
            )
        self._skips = config.policy == "skip_hop"
        self._raise = sorted((f.begin_ns, int(f.amount)) for f in config.faults if f.kind == "raise")
        self._guard = _Guard(runtime) if self._raise or self._skips else None
        net = gated(self._guard or runtime, manifest.dsp, manifest.buffer.samples)
        self._gate = net if isinstance(net, GatedRuntime) else None
        self._loop = make_loop(manifest, net)
        self.log = FaultLog(config.faults)
        if self.log.put_in:
            buffer_ns = manifest.buffer.samples * SECOND_NS // self.rate_hz
            recorders.ledger.hiccups = Hiccups(self.log, buffer_ns)
        self.input = BatchInput(config, recorders, self.log, observer.metered)
        self._ring = self.input.ring
        self.needed = self._loop.buffer_samples
        self._map, self._base = IndexMap(), 0
        self._hop_ns = self._loop.hop * SECOND_NS // self.rate_hz
        self._trace, self._occupancy = recorders.trace, recorders.occupancy
        self.playback: Playback | None = None
        self._events: EventStage | None = None
        if self._loop.audio_out:
            made = Playback if config.calls_at_once is None else BatchPlayback
            self.playback = made(config, self._loop.hop, recorders, self.log, observer.on_read)
        else:
            self._events = EventStage(config, self.captured_ns, recorders)
        self._output = OutputStage(
            config,
            lambda indices: self.input.captured_at_each(self._map.at_each(indices)),
            recorders,
            self.log,
            self.playback,
            self._events,
            observer.on_call,
            observer.on_sound,
        )
        self.calls = self._skipped_hops = self._gated_windows = self._failed_calls = self._resets = 0
        self._nan_outputs = 0
        self._failed_in_a_row = 0

    @property
    def lacking(self) -> int:
        """Samples that the next call still needs; 0 or less: it can begin."""
        return self.needed - self._ring.held

    @property
    def in_samples(self) -> int:
        """Samples given to the net since its last reset, without a flush's zeros."""
        return self._loop.in_samples

    @property
    def events(self) -> list[EventRecord]:
        """The closed events so far."""
        return [] if self._events is None else self._events.events

    @property
    def first_late_ns(self) -> int | None:
        """When the first late call ended."""
        return self._output.first_late_ns

    @property
    def compute_times(self) -> Quantiles | None:
        """Of the calls that ran; None where none did."""
        return self._output.compute.summary() if self._output.compute.count else None

    @property
    def ring_record(self) -> RingRecord:
        """The ring between capture and the net, for the run's record."""
        points = [OccupancyPoint(*p) for p in self._occupancy.points]
        return RingRecord(self._ring.capacity, self._ring.high_water, self.rate_hz, points)

    @property
    def playout_record(self) -> PlayoutRecord | None:
        """The playout ring, for the run's record."""
        return None if self.playback is None else self.playback.record()

    @property
    def counts(self) -> Counts:
        """Where everything went so far."""
        ring, entry = self._ring, self.input
        return Counts(
            callbacks=entry.callbacks,
            captured=entry.captured,
            lost=entry.lost,
            nan_samples=entry.nan_samples,
            written=ring.written,
            read=ring.read,
            held=ring.held,
            dropped=ring.dropped,
            overruns=ring.overruns,
            calls=self.calls,
            misses=self._output.misses,
            skipped_hops=self._skipped_hops,
            gated_windows=self._gated_windows,
            failed_calls=self._failed_calls,
            resets=self._resets,
            rate_changes=entry.rate_changes,
            limited_samples=entry.limited_samples,
            nan_outputs=self._nan_outputs,
        )

    @property
    def status(self) -> Status:
        """How it goes; the level's measurement begins anew."""
        return Status(
            level=self.input.meter.read(),
            held=self._ring.held,
            misses=self._output.misses,
            delay_ns=self._output.last_delay_ns,
            best=None if self._events is None else self._events.best,
            underruns=None if self.playback is None else self.playback.ring.counts.underruns,
        )

    @property
    def due_at(self) -> int:
        """How many of the device's frames make the next call due, from the latest change of its rate on."""
        return self.input.frames_until(self._ring.position + self.needed)

    def hears(self, label: int) -> bool:
        """Whether a classifier's label is on after its newest window."""
        return self._events is not None and self._events.on(label)

    def captured_ns(self, stream_index: int) -> int:
        """When the content of a sample was captured."""
        return self.input.captured_at(self._map.at(stream_index))

    def _pull(self, count: int) -> tuple[Array, int, int] | None:
        """`count` samples of the ring, and when the first and the last of them came."""
        pulled = self.input.pull(count)
        if pulled is None:
            return None
        view, entered, arrival_ns, ready_ns = pulled
        self._map.begin(self._base + self._loop.in_samples, entered)
        return view, arrival_ns, ready_ns

    def take(self, now_ns: int) -> Call | None:
        """Begin a call: samples leave the ring and go through the net. None where there are too few."""
        pulled = self._pull(self.needed)
        if pulled is None:
            return None
        self.needed = self._loop.hop
        samples, arrival_ns, ready_ns = pulled
        local_end = self._loop.in_samples + len(samples)
        call = self._call(local_end - len(samples), local_end, local_end, (arrival_ns, ready_ns, now_ns))
        self._output.feed(samples)
        gate, guard = self._gate, self._guard
        spared = gate.skipped if gate is not None else 0
        if guard is not None:
            self._set(guard, now_ns)
        try:
            result = self._loop.step(samples)
        except ArtefactError as exc:
            self._failed(call, str(exc))
            return call
        self._failed_in_a_row = 0
        if result.nan:
            self._give(call, result)
        else:
            call.values = result.values
        if gate is not None and gate.skipped > spared:
            call.gated = True
            self._gated_windows += 1
        if guard is not None and guard.skip:
            call.skipped = True
            self._skipped_hops += 1
            self.log.add(now_ns, "skipped_hop", len(samples), self.rate_hz)
            self._trace.instant("faults", "hop skipped", now_ns)
        return call

    def _give(self, call: Call, result: LoopOutput) -> None:
        """A call's result, if it is one; what is not finite was silenced by the loop, and the net's state reset."""
        if result.nan == 0 or self._loop.audio_out:
            call.values = result.values
        if result.nan:
            self._nan_outputs += 1
            self._resets += 1
            self.log.add(call.start_ns, "nan_output", result.nan, self.rate_hz, "silenced, state reset")
            self._trace.instant("faults", "output not finite, state reset", call.start_ns, values=result.nan)

    def deliver(self, call: Call, end_ns: int) -> None:
        """A call is over."""
        self._output.add(call, end_ns)

    def _call(self, first: int, end: int, in_end: int, times_ns: tuple[int, int, int]) -> Call:
        """The next call; indices from the last reset, times of arrival, readiness and begin."""
        base, number = self._base, self.calls
        self.calls = number + 1
        arrival_ns, ready_ns, start_ns = times_ns
        late_ns = ready_ns + max(self._hop_ns, self.input.block_ns)
        delay_ns = self.input.resampler_ns
        return Call(
            number, base + first, base + end, end, base + in_end, arrival_ns, ready_ns, delay_ns, late_ns, start_ns
        )

    def _set(self, guard: _Guard, now_ns: int) -> None:
        guard.skip = self._skips and self._ring.held >= self._backlog()
        if self._raise and now_ns >= self._raise[0][0]:
            guard.fail = self._raise.pop(0)[1]

    def _backlog(self) -> int:
        """Samples pending from which "skip_hop" skips: two hops beyond what one block brings."""
        return -(-self.input.block_ns * self.rate_hz // SECOND_NS) + 2 * self._loop.hop

    def _failed(self, call: Call, message: str) -> None:
        """The net raised: its state is reset, the loop goes on; it ends after too many in a row."""
        self._failed_calls += 1
        self._failed_in_a_row += 1
        self.log.add(call.start_ns, "model_failed", 0, self.rate_hz, message.splitlines()[0][:200])
        self._trace.instant("faults", "model failed", call.start_ns)
        self._restart(call.local_end)
        if self._failed_in_a_row >= FAILURES_IN_A_ROW:
            raise ArtefactError(f"the model failed {FAILURES_IN_A_ROW} times in a row, last: {message}")

    def _restart(self, local_end: int) -> None:
        self._output.reset()
        if self._events is not None:
            self._events.flush(local_end)
        self._base += local_end
        self._loop.reset()
        self.needed = self._loop.buffer_samples
        self._resets += 1
        if self._events is not None:
            self._events.reset(self._base)

    def drain(self, now_ns: int) -> list[Call]:
        """The stream is over and no whole call is left: what flush gives, as calls yet to be timed."""
        self._output.settle()
        if self.playback is not None:
            self.playback.end_of_input()
        rest = self._ring.held
        results: list[LoopOutput] = []
        try:
            if rest:
                pulled = self._pull(rest)
                if pulled is not None:
                    self._output.feed(pulled[0])
                    results += self._loop.push(pulled[0])
            tail = self._loop.flush()
        except ArtefactError as exc:
            self._failed_calls += 1
            self.log.add(now_ns, "model_failed", 0, self.rate_hz, str(exc).splitlines()[0][:200])
            return []
        self._output.settle()
        if self._loop.audio_out:
            self._output.silence(sum(len(r.values) for r in tail))
        return [self._flushed(result, now_ns) for result in [*results, *tail]]

    def _flushed(self, result: LoopOutput, now_ns: int) -> Call:
        length, end = len(result.values) if self._loop.audio_out else self._loop.hop, result.end_sample
        call = self._call(max(0, end - length), end, self._loop.in_samples, (now_ns, now_ns, now_ns))
        self._give(call, result)
        return call

    def abandon(self, now_ns: int) -> None:
        """The run was interrupted: what was reported and counted so far is kept, nothing more is computed."""
        self._output.finish(now_ns)
        if self._events is not None and not self._events.tracker.ended:
            self._events.flush(self._loop.in_samples)
        self._trace.instant("faults", "run ended early", now_ns)

    def finish(self, now_ns: int) -> None:
        """All calls were delivered: the rest of the playout is finished, events are closed."""
        self._output.finish(now_ns)
        if self._events is not None:
            self._events.flush(self._loop.in_samples)
        self._trace.counter("ring", now_ns, self._ring.held)
