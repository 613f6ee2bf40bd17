"""The phone's loop: capture -> resampler -> DSP -> ring -> net -> events or playout. No clock of its own.

A driver says what time it is: streaming/simulator/virtual.py in a simulated clock, streaming/simulator/realtime.py
with threads. The capture side (streaming/simulator/pipeline/input.py) and the inference side (`take`, `deliver`,
`drain`) may be two threads.

Indices: *entered* counts samples that came into the ring, *stream* counts samples given to the net since the start;
they differ by what the ring dropped. A reset of the net begins a new stream at stream index `base`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError, UsageError
from runtimes.bundle import Manifest, refuse_separator
from runtimes.protocol import Runtime
from streaming.core.decisions import DecisionTracker
from streaming.core.dsp import GatedRuntime, gated
from streaming.core.loop import LoopOutput, make_loop
from streaming.runs.record import Policy
from streaming.simulator.device.faults import Fault, FaultLog
from streaming.simulator.device.profile import DeviceProfile
from streaming.simulator.pipeline.call import Call, Guard
from streaming.simulator.pipeline.events import EventStage
from streaming.simulator.pipeline.input import InputStage
from streaming.simulator.pipeline.output import OutputStage
from streaming.simulator.pipeline.playback import Playback
from streaming.simulator.pipeline.recorders import Recorders
from streaming.simulator.timeline import SECOND_NS, IndexMap

Array = NDArray[np.float32]

FAILURES_IN_A_ROW = 5


class Pipeline:
    """See the module's text.

    Args:
        manifest, labels, runtime: of the bundle.
        profile: the device.
        policy: what an overload does.
        ring_samples, prefill_samples: sizes; at the model's and at the output's rate.
        recorders: ledger, trace and spools.
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
        recorders: Recorders,
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
        self._raise = sorted((f.begin_ns, int(f.amount)) for f in faults if f.kind == "raise")
        self._guard = Guard(runtime) if self._raise or policy == "skip_hop" else None
        net = gated(self._guard or runtime, manifest.dsp, manifest.buffer.samples)
        self._gate = net if isinstance(net, GatedRuntime) else None
        self.loop = make_loop(manifest, net)
        self.recorders, self.log = recorders, FaultLog()
        self.input_stage = InputStage(
            self.rate_hz,
            profile,
            policy,
            ring_samples,
            manifest.dsp,
            recorders,
            self.log,
            faults,
        )
        self.ring, self.capture, self.end_capture = (
            self.input_stage.ring,
            self.input_stage.capture,
            self.input_stage.end_capture,
        )
        self.needed = self.loop.buffer_samples  # new samples the next call takes: at first a whole window
        self._map, self._base = IndexMap(), 0
        self._hop_ns = self.loop.hop * SECOND_NS // self.rate_hz
        self._trace = recorders.trace
        self.playback: Playback | None = None
        self.event_stage: EventStage | None = None
        route_ns = round(profile.input_latency_ms * 1e6)
        if self.loop.audio_out:
            self.playback = Playback(
                profile,
                self.rate_hz,
                self.loop.hop,
                prefill_samples,
                recorders.ledger,
                recorders.trace,
                self.log,
                recorders.output,
                recorders.total_ns,
                policy == "grow_delay",
            )
        elif manifest.decisions is not None:
            self.event_stage = EventStage(
                DecisionTracker(manifest.decisions, labels, self.rate_hz),
                self._captured,
                self.rate_hz,
                route_ns,
                recorders.ledger,
                recorders.trace,
                recorders.scores,
                recorders.ends,
            )
        else:
            raise UsageError(f"{manifest.name}: its output is neither audio nor scores with decisions")
        self.output_stage = OutputStage(
            manifest,
            route_ns,
            lambda indices: self.input_stage.captured_at_each(self._map.at_each(indices)),
            recorders,
            self.log,
            self.playback,
            self.event_stage,
        )
        self.deliver = self.output_stage.add
        self.calls = self.skipped_hops = self.gated_windows = self.failed_calls = self.resets = 0
        self._failed_in_a_row = 0

    @property
    def ready(self) -> bool:
        """Whether a call can be made."""
        return self.ring.held >= self.needed

    def _captured(self, stream_index: int) -> int:
        return self.input_stage.captured_at(self._map.at(stream_index))

    def _pull(self, count: int) -> tuple[Array, int, int] | None:
        """`count` samples of the ring, and when the first and the last of them came."""
        pulled = self.input_stage.pull(count)
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
        samples, arrival_ns, ready_ns = pulled
        local_end = self.loop.in_samples + len(samples)
        call = self._call(local_end - len(samples), local_end, local_end, (arrival_ns, ready_ns, now_ns))
        self.output_stage.feed(samples)
        gate, guard = self._gate, self._guard
        spared = gate.skipped if gate is not None else 0
        if guard is not None:
            self._set(guard, now_ns)
        try:
            call.values = self.loop.step(samples).values
        except ArtefactError as exc:
            self._failed(call, str(exc))
            return call
        self._failed_in_a_row = 0
        if gate is not None and gate.skipped > spared:
            call.gated = True
            self.gated_windows += 1
        if guard is not None and guard.skip:
            call.skipped = True
            self.skipped_hops += 1
            self.log.add(now_ns, "skipped_hop", len(samples), self.rate_hz)
            self._trace.instant("faults", "hop skipped", now_ns)
        return call

    def _call(self, first: int, end: int, in_end: int, times_ns: tuple[int, int, int]) -> Call:
        """The next call; indices from the last reset, times of arrival, readiness and begin."""
        base, input_stage, number = self._base, self.input_stage, self.calls
        self.calls = number + 1
        arrival_ns, ready_ns, start_ns = times_ns
        late_ns = ready_ns + max(self._hop_ns, input_stage.block_ns)
        delay_ns = input_stage.resampler_ns
        return Call(
            number, base + first, base + end, end, base + in_end, arrival_ns, ready_ns, delay_ns, late_ns, start_ns
        )

    def _set(self, guard: Guard, now_ns: int) -> None:
        guard.skip = self.policy == "skip_hop" and self.ring.held >= self._backlog()
        if self._raise and now_ns >= self._raise[0][0]:
            guard.fail = self._raise.pop(0)[1]

    def _backlog(self) -> int:
        """Samples waiting from which "skip_hop" skips: two hops beyond what one block brings."""
        return -(-self.input_stage.block_ns * self.rate_hz // SECOND_NS) + 2 * self.loop.hop

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
        self.output_stage.reset()
        if self.event_stage is not None:
            self.event_stage.flush(local_end)
        self._base += local_end
        self.loop.reset()
        self.needed = self.loop.buffer_samples
        self.resets += 1
        if self.event_stage is not None:
            self.event_stage.reset(self._base)

    def drain(self, now_ns: int) -> list[Call]:
        """The stream is over and no whole call is left: what flush gives, as calls yet to be timed."""
        rest = self.ring.held
        results: list[LoopOutput] = []
        try:
            if rest:
                pulled = self._pull(rest)
                if pulled is not None:
                    self.output_stage.feed(pulled[0])
                    results += self.loop.push(pulled[0])
            tail = self.loop.flush()
        except ArtefactError as exc:
            self.failed_calls += 1
            self.log.add(now_ns, "model_failed", 0, self.rate_hz, str(exc).splitlines()[0][:200])
            return []
        self.output_stage.settle()
        if self.loop.audio_out:
            self.output_stage.silence(sum(len(r.values) for r in tail))
        return [self._flushed(result, now_ns) for result in [*results, *tail]]

    def _flushed(self, result: LoopOutput, now_ns: int) -> Call:
        length, end = len(result.values) if self.loop.audio_out else self.loop.hop, result.end_sample
        call = self._call(max(0, end - length), end, self.loop.in_samples, (now_ns, now_ns, now_ns))
        call.values = result.values
        return call

    def abandon(self, now_ns: int) -> None:
        """The run was interrupted: what was told and counted so far stands, nothing more is computed."""
        self.output_stage.finish(now_ns)
        if self.event_stage is not None and not self.event_stage.tracker.ended:
            self.event_stage.flush(self.loop.in_samples)
        self._trace.instant("faults", "run ended early", now_ns)

    def finish(self, now_ns: int) -> None:
        """All calls were delivered: the rest of the playout is finished, events are closed."""
        self.output_stage.finish(now_ns)
        if self.event_stage is not None:
            self.event_stage.flush(self.loop.in_samples)
        self._trace.counter("ring", now_ns, self.ring.held)
