"""What becomes of a call's result: counts, ledger, and on to the speaker or the decisions.

Nothing here acts back on capture or on the next call, so results may be pending and be worked on many at once. What
each says of its time was noted when it was made. In real time every result is acted on at once; in the virtual clock
`settle` takes all that are pending.

The ledger's entry of a call follows its oldest new sample n; see streaming/simulator/pipeline/ledger.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.core.dsp import OutputChain
from streaming.metrics.quantiles import QuantileSketch
from streaming.runs.record import PARTS
from streaming.simulator.device.faults import FaultLog
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.config import PipelineConfig
from streaming.simulator.pipeline.events import EventStage, WindowTimes
from streaming.simulator.pipeline.playback import Playback, Written
from streaming.simulator.pipeline.recorders import Recorders

Array = NDArray[np.float32]
Int64 = NDArray[np.int64]

_TIMES = 1024  # a sketch takes so many at once
_FED = 4096  # samples
_HEAD = 3 + PARTS.index("compute") + 1  # of a ledger's row: what is known when a call ends


@dataclass(slots=True)
class Call:
    """One call of the net.

    Attributes:
        number: of the call, from 0.
        first: stream index of its oldest new sample. end: after its newest. local_end: the same since the last reset.
        in_end: after the newest sample that really came in: less than `end` where a flush added zeros.
        arrival_ns: callback that brought `first`. ready_ns: callback that completed the buffer.
        resampler_ns: group delay of the resampler that was in use.
        late_ns: a call that ends after this has missed its deadline.
        start_ns, end_ns: begin and end.
        values: float32, what came out; None where it failed, or where its scores were not finite.
        skipped, gated: the net was not run.
    """

    number: int
    first: int
    end: int
    local_end: int
    in_end: int
    arrival_ns: int
    ready_ns: int
    resampler_ns: int
    late_ns: int
    start_ns: int
    end_ns: int = 0
    values: Array | None = None
    skipped: bool = False
    gated: bool = False


class OutputStage:
    """Takes each call's result: counts it, writes its ledger entry, hands it to the speaker or the decisions.

    Args:
        config: delay, rates, output stages, and how many results may be pending.
        captured: stream indices -> when their content was captured, ns; int64 [n] both.
        recorders, log: where things go.
        playback, event_stage: one of them, by the bundle's task.
        on_call: called with each call when it is over.
        on_sound: called with what each call of an enhancer gave, after the plain DSP, and when it ended.

    Attributes:
        misses: calls that ended too late.
        first_late_ns: when the first of them ended.
        compute: times of the calls that ran.
        last_delay_ns: of the last call, as far as it is known then.
    """

    def __init__(
        self,
        config: PipelineConfig,
        captured: Callable[[Int64], Int64],
        recorders: Recorders,
        log: FaultLog,
        playback: Playback | None,
        event_stage: EventStage | None,
        on_call: Callable[[Call], None] | None = None,
        on_sound: Callable[[Array, int], None] | None = None,
    ) -> None:
        geometry = config.manifest.stream_geometry
        self._rate_hz, self._delay, self._route_ns = geometry.sample_rate_hz, geometry.delay_samples, config.route_ns
        self._captured, self._on_call, self._on_sound = captured, on_call, on_sound
        self._recorders, self._ledger, self._trace, self._log = recorders, recorders.ledger, recorders.trace, log
        self._playback, self._events = playback, event_stage
        self._chain = OutputChain(config.manifest.dsp, self._rate_hz, self._delay)
        self._at_once = config.calls_at_once or 1
        self._calls: list[Call] = []
        self._given: list[Array] = []
        self._fed = 0  # samples in it
        self._times: list[int] = []
        self.misses = 0
        self.first_late_ns: int | None = None
        self.compute = QuantileSketch()
        self.last_delay_ns = 0

    def feed(self, samples: Array) -> None:
        """What a call was given, float32 [n]; kept as it is for a while."""
        self._given.append(samples)
        self._fed += len(samples)
        if self._fed >= _FED:
            self._feed()

    def add(self, call: Call, end_ns: int) -> None:
        """A call is over."""
        call.end_ns = end_ns
        self._calls.append(call)
        if len(self._calls) >= self._at_once:
            self.settle()

    def reset(self) -> None:
        """The net begins a new stream."""
        self.settle()
        self._chain.reset()

    def silence(self, count: int) -> None:
        """A flush gave the net zeros."""
        self._chain.feed(np.zeros(count, np.float32))

    def settle(self) -> None:
        """Act on everything that is pending."""
        if self._given:
            self._feed()
        if not self._calls:
            return
        calls, self._calls = self._calls, []
        self._count(calls)
        rows = self._rows(calls)
        self.last_delay_ns = int(rows[-1, 3:].sum())
        if self._on_call is not None:
            for call in calls:
                self._on_call(call)
        if self._playback is not None:
            self._play(self._playback, calls, rows)
        elif self._events is not None:
            self._decide(self._events, calls, rows)

    def _feed(self) -> None:
        given = self._given[0] if len(self._given) == 1 else np.concatenate(self._given)
        self._given.clear()
        self._fed = 0
        self._recorders.heard.add(given)
        self._chain.feed(given)

    def _count(self, calls: list[Call]) -> None:
        self._times += [c.end_ns - c.start_ns for c in calls if not (c.skipped or c.gated)]
        if len(self._times) >= _TIMES:
            self._flush_times()
        for call in calls:
            if call.end_ns > call.late_ns:
                self.misses += 1
                if self.first_late_ns is None:
                    self.first_late_ns = call.end_ns
                self._trace.instant("faults", "deadline missed", call.end_ns)
        if not self._trace.full:
            for call in calls:
                self._trace.slice("inference", "call", call.start_ns, call.end_ns, number=call.number)

    def _flush_times(self) -> None:
        self.compute.add(np.array(self._times, np.int64))
        self._times.clear()

    def _rows(self, calls: list[Call]) -> Int64:
        """Number, content sample, when it was captured, and the parts up to compute; int64 [calls, _HEAD]."""
        noted = [
            (c.number, c.first, c.in_end, c.arrival_ns, c.ready_ns, c.resampler_ns, c.start_ns, c.end_ns) for c in calls
        ]
        number, first, in_end, arrival, ready, resampler, start, end = np.array(noted, np.int64).T
        content = np.maximum(first - self._delay, 0)
        captured, there = self._captured(np.concatenate([content, np.minimum(first, in_end)])).reshape(2, len(calls))
        # A flush brings the resampler's tail and zeros before their time would have come.
        there = np.minimum(there, arrival - resampler - self._route_ns)
        # Before the stream's start there is silence, as if it had been captured then.
        captured = captured - np.maximum(self._delay - first, 0) * SECOND_NS // self._rate_hz
        rows = np.empty((len(calls), _HEAD), np.int64)
        rows[:, 0], rows[:, 1], rows[:, 2] = number, content, captured
        rows[:, 3] = self._route_ns
        rows[:, 4] = arrival - there - resampler - self._route_ns
        rows[:, 5] = resampler
        rows[:, 6] = start - ready
        rows[:, 7] = ready - arrival
        rows[:, 8] = there - captured
        rows[:, 9] = end - start
        return rows

    def _play(self, playback: Playback, calls: list[Call], rows: Int64) -> None:
        """On to the playout; a call that failed is silence, of which the stages after the net know nothing."""
        given = [c.values for c in calls if c.values is not None]
        samples = self._chain.process(np.concatenate(given)) if given else np.zeros(0, np.float32)
        lengths = [c.end - c.first if c.values is None else len(c.values) for c in calls]
        if len(given) < len(calls):
            silent = np.repeat([c.values is None for c in calls], lengths)
            whole = np.zeros(len(silent), np.float32)
            whole[~silent] = samples
            samples = whole
        if self._on_sound is not None:
            edges = [0, *itertools.accumulate(lengths)]
            for call, (begin, end) in zip(calls, itertools.pairwise(edges), strict=True):
                self._on_sound(samples[begin:end], call.end_ns)
        playback.write(samples, Written(lengths, [c.end_ns for c in calls], rows))

    def _decide(self, event_stage: EventStage, calls: list[Call], rows: Int64) -> None:
        given = [c.values is not None and not c.skipped for c in calls]
        scores = [c.values for c in calls if c.values is not None and not c.skipped]
        if not scores:
            return
        whole = np.zeros((len(scores), 3 + len(PARTS) + 1), np.int64)
        whole[:, :_HEAD] = rows[given]
        whole[:, -1] = whole[:, 3:].sum(axis=1)
        self._ledger.add_rows("window", whole)
        calls = [c for c, scored in zip(calls, given, strict=True) if scored]
        times = [WindowTimes(c.ready_ns, c.start_ns, c.end_ns, c.in_end, c.resampler_ns) for c in calls]
        event_stage.push(np.stack(scores), [c.local_end for c in calls], times)

    def finish(self, now_ns: int) -> None:
        """Nothing more comes: the rest of the playout is written, figures are complete."""
        self.settle()
        if self._playback is not None:
            self._playback.finish(now_ns)
        self._flush_times()
