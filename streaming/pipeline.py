"""The phone's loop: capture -> resampler -> DSP -> ring -> net -> events or playout. No clock of its own.

A driver says what time it is: streaming/virtual.py in a simulated clock, streaming/wall.py with threads. The capture
side (streaming/intake.py) and the inference side (`take`, `deliver`, `drain`) may be two threads.

Indices: *entered* counts samples that came into the ring, *stream* counts samples given to the net since the start;
they differ by what the ring dropped. A reset of the net begins a new stream at stream index `base`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import ArtefactError, UsageError
from runtimes.bundle import Manifest, refuse_separator
from runtimes.protocol import Runtime
from streaming.act import DecisionTracker
from streaming.call import Call, Guard
from streaming.device import DeviceProfile
from streaming.dsp import GatedRuntime, OutputChain, gated
from streaming.faults import Fault, FaultLog
from streaming.hearing import CallTimes, Hearing
from streaming.intake import Intake
from streaming.loop import LoopOutput, make_loop
from streaming.playback import HalfEntry, Playback
from streaming.record import Policy
from streaming.sinks import Sinks
from streaming.sketch import QuantileSketch
from streaming.timeline import SECOND_NS, IndexMap

Array = NDArray[np.float32]

FAILURES_IN_A_ROW = 5


class Pipeline:
    """See the module's text.

    Args:
        manifest, labels, runtime: of the bundle.
        profile: the device.
        policy: what an overload does.
        ring_samples, prefill_samples: sizes; at the model's and at the output's rate.
        sinks: ledger, trace and spools.
        faults: nan and raise are for here.

    Raises:
        UsageError: a ring that cannot hold a buffer, or a manifest that does not fit.
    """

    def __init__(
        self,
        manifest: Manifest,
        labels: Sequence[str],
        runtime: Runtime,
        profile: DeviceProfile,
        policy: Policy,
        ring_samples: int,
        prefill_samples: int,
        sinks: Sinks,
        faults: Sequence[Fault] = (),
    ) -> None:
        refuse_separator(manifest, "simulate")
        geometry = manifest.stream_geometry
        self.rate_hz, self.policy, self.profile = geometry.sample_rate_hz, policy, profile
        if ring_samples < manifest.buffer.samples:
            raise UsageError(
                f"ring: {ring_samples} samples cannot hold the {manifest.buffer.samples} of a call of {manifest.name}; "
                f"choose at least that"
            )
        self._guard = Guard(runtime)
        self._net = gated(self._guard, manifest.dsp, manifest.buffer.samples)
        self.loop = make_loop(manifest, self._net)
        self.sinks, self.log = sinks, FaultLog()
        self.intake = Intake(
            self.rate_hz,
            profile,
            policy,
            ring_samples,
            max(manifest.buffer.samples, self.loop.hop),
            manifest.dsp,
            sinks,
            self.log,
            faults,
        )
        self.ring, self.capture, self.end_capture = self.intake.ring, self.intake.capture, self.intake.end_capture
        self.needed = self.loop.buffer_samples  # new samples the next call takes: at first a whole window
        self._delay = geometry.delay_samples
        self._map, self._base = IndexMap(), 0
        self._hop_ns = self.loop.hop * SECOND_NS // self.rate_hz
        self._route_ns = round(profile.input_latency_ms * 1e6)
        self._ledger, self._trace = sinks.ledger, sinks.trace
        self._raise = sorted((f.begin_ns, int(f.amount)) for f in faults if f.kind == "raise")
        self.on_values: Callable[[int, Array], None] | None = None
        self.playback: Playback | None = None
        self.hearing: Hearing | None = None
        self._after = OutputChain(manifest.dsp, self.rate_hz, self._delay)
        if self.loop.audio_out:
            self.playback = Playback(
                profile,
                self.rate_hz,
                self.loop.hop,
                prefill_samples,
                sinks.ledger,
                sinks.trace,
                self.log,
                sinks.output,
                sinks.total_ns,
                policy == "grow_delay",
            )
        elif manifest.decisions is not None:
            self.hearing = Hearing(
                DecisionTracker(manifest.decisions, labels, self.rate_hz),
                self._captured,
                self.rate_hz,
                self._route_ns,
                lambda: self.intake.resampler_ns,
                sinks.ledger,
                sinks.trace,
                sinks.scores,
                sinks.ends,
            )
        else:
            raise UsageError(f"{manifest.name}: its output is neither audio nor scores with decisions")
        self.calls = self.misses = self.skipped_hops = self.gated_windows = self.failed_calls = self.resets = 0
        self._failed_in_a_row = 0
        self.compute = QuantileSketch()
        self._times: list[int] = []
        self.last_delay_ns = 0

    @property
    def ready(self) -> bool:
        """Whether a call can be made."""
        return self.ring.held >= self.needed

    def _captured(self, stream_index: int) -> int:
        return self.intake.captured_at(self._map.at(stream_index))

    def _pull(self, count: int) -> tuple[Array, int, int] | None:
        """`count` samples of the ring, and when the first and the last of them came."""
        pulled = self.intake.pull(count)
        if pulled is None:
            return None
        view, entered, arrival_ns, ready_ns = pulled
        self._map.begin(self._base + self.loop.in_samples, entered)
        return view, arrival_ns, ready_ns

    def take(self, now_ns: int) -> Call | None:
        """Begin a call: samples leave the ring and go through the net. None where there are too few."""
        pulled = self._pull(self.needed)
        if pulled is None:
            return None
        self.needed = self.loop.hop
        view, arrival_ns, ready_ns = pulled
        first = self._base + self.loop.in_samples
        local_end = self.loop.in_samples + len(view)
        call = Call(self.calls, first, first + len(view), local_end, arrival_ns, ready_ns, now_ns)
        self.calls += 1
        self.sinks.heard.add(view)
        self._after.feed(view)
        guard = self._guard
        guard.skip = self.policy == "skip_hop" and self.ring.held >= self._backlog()
        if self._raise and now_ns >= self._raise[0][0]:
            guard.fail = self._raise.pop(0)[1]
        spared = self._net.skipped if isinstance(self._net, GatedRuntime) else 0
        try:
            results = self.loop.push(view)
        except ArtefactError as exc:
            self._failed(call, str(exc))
            return call
        self._failed_in_a_row = 0
        call.skipped = guard.skip
        call.gated = isinstance(self._net, GatedRuntime) and self._net.skipped > spared
        call.values = results[0].values
        if call.skipped:
            self.skipped_hops += 1
            self.log.add(now_ns, "skipped_hop", len(view), self.rate_hz)
            self._trace.instant("faults", "hop skipped", now_ns)
        self.gated_windows += call.gated
        return call

    def _backlog(self) -> int:
        """Samples waiting from which "skip_hop" skips: two hops beyond what one block brings."""
        return -(-self.intake.block_ns * self.rate_hz // SECOND_NS) + 2 * self.loop.hop

    def _failed(self, call: Call, message: str) -> None:
        """The net raised: its state is reset, the loop goes on; it ends after too many in a row."""
        self.failed_calls += 1
        self._failed_in_a_row += 1
        self.log.add(call.start_ns, "model_failed", 0, self.rate_hz, message.splitlines()[0][:200])
        self._trace.instant("faults", "model failed", call.start_ns)
        self._restart(call.local_end)
        if self._failed_in_a_row >= FAILURES_IN_A_ROW:
            raise ArtefactError(f"the model failed {FAILURES_IN_A_ROW} times in a row, last: {message}")

    def _restart(self, local_end: int) -> None:
        if self.hearing is not None:
            self.hearing.flush(local_end)
        self._base += local_end
        self.loop.reset()
        self._after.reset()
        self.needed = self.loop.buffer_samples
        self.resets += 1
        if self.hearing is not None:
            self.hearing.reset(self._base)

    def deliver(self, call: Call, end_ns: int) -> None:
        """A call is over: its result acts."""
        call.end_ns = end_ns
        if not (call.skipped or call.gated):
            self._times.append(end_ns - call.start_ns)
            if len(self._times) >= 1024:
                self._flush_times()
        if end_ns > call.ready_ns + max(self._hop_ns, self.intake.block_ns):
            self.misses += 1
            self._trace.instant("faults", "deadline missed", end_ns)
        if not self._trace.full:
            self._trace.slice("inference", "call", call.start_ns, end_ns, number=call.number)
        values = call.values
        if values is not None and not math.isfinite(float(np.dot(values, values))):
            bad = int((~np.isfinite(values)).sum())
            self.log.add(end_ns, "nan_output", bad, self.rate_hz, "silenced")
            values = np.where(np.isfinite(values), values, np.float32(0.0))
        if values is not None and self.on_values is not None and not call.skipped:
            self.on_values(call.end, values)
        if self.playback is not None:
            if values is None:
                values = np.zeros(call.end - call.first, np.float32)
            self.playback.write(self._after.process(values), self._half_entry(call))
        elif self.hearing is not None and values is not None and not call.skipped:
            content, captured, parts = self._head(call, call.first)
            self.last_delay_ns = self._ledger.add("window", call.number, content, captured, (*parts, 0, 0, 0, 0, 0))
            times = CallTimes(call.ready_ns, call.start_ns, end_ns, self._base + self.loop.in_samples)
            self.hearing.push(values, call.local_end, times)

    def _flush_times(self) -> None:
        self.compute.add(np.array(self._times, np.int64))
        self._times.clear()

    def _head(self, call: Call, oldest: int) -> tuple[int, int, tuple[int, ...]]:
        """Content sample, when it was captured, and the parts up to compute."""
        content = max(0, oldest - self._delay)
        captured, there = self._captured(content), self._captured(min(oldest, self._base + self.loop.in_samples))
        resampler_ns, route_ns = self.intake.resampler_ns, self._route_ns
        # A flush brings the resampler's tail and zeros before their time would have come.
        there = min(there, call.arrival_ns - resampler_ns - route_ns)
        if self._delay > oldest:  # before the stream's start: silence, as if it had been captured then
            captured -= (self._delay - oldest) * SECOND_NS // self.rate_hz
        parts = (
            route_ns,
            call.arrival_ns - there - resampler_ns - route_ns,
            resampler_ns,
            call.start_ns - call.ready_ns,
            call.ready_ns - call.arrival_ns,
            there - captured,
            call.end_ns - call.start_ns,
        )
        return content, captured, parts

    def _half_entry(self, call: Call) -> HalfEntry:
        content, captured, parts = self._head(call, call.first)
        self.last_delay_ns = sum(parts)
        return HalfEntry(call.number, content, captured, parts, call.end_ns)

    def drain(self, now_ns: int) -> list[Call]:
        """The stream is over and no whole call is left: what flush gives, as calls yet to be timed."""
        rest = self.ring.held
        arrived_ns = now_ns
        results: list[LoopOutput] = []
        try:
            if rest:
                pulled = self._pull(rest)
                if pulled is not None:
                    self.sinks.heard.add(pulled[0])
                    self._after.feed(pulled[0])
                    results += self.loop.push(pulled[0])
            base = self._base
            tail = self.loop.flush()
        except ArtefactError as exc:
            self.failed_calls += 1
            self.log.add(now_ns, "model_failed", 0, self.rate_hz, str(exc).splitlines()[0][:200])
            return []
        if self.playback is not None:
            fed = sum(len(r.values) for r in tail)
            self._after.feed(np.zeros(max(0, fed), np.float32))
        calls = []
        for result in [*results, *tail]:
            length = len(result.values) if self.loop.audio_out else self.loop.hop
            first = base + max(0, result.end_sample - length)
            call = Call(self.calls, first, base + result.end_sample, result.end_sample, arrived_ns, arrived_ns, now_ns)
            call.values = result.values
            calls.append(call)
            self.calls += 1
        return calls

    def abandon(self, now_ns: int) -> None:
        """The run was interrupted: what was told and counted so far stands, nothing more is computed."""
        if self.playback is not None:
            self.playback.finish()
        if self.hearing is not None and not self.hearing.tracker.ended:
            self.hearing.flush(self.loop.in_samples)
        self._flush_times()
        self._trace.instant("faults", "run ended early", now_ns)

    def finish(self, now_ns: int) -> None:
        """All calls were delivered: the rest of the playout is finished, events are closed."""
        if self.playback is not None:
            self.playback.finish()
        if self.hearing is not None:
            self.hearing.flush(self.loop.in_samples)
        self._flush_times()
        self._trace.counter("ring", now_ns, self.ring.held)
