"""Two nets on one stream and one thread in the virtual clock: the order of calls is that of streaming/core/stages.py.

Each net has its own resampler, ring, decisions and playout, and its own record of the run, as if it were alone. What
they share is the device's callbacks and the inference thread: of two calls that are due, the one whose samples came
first is made first, and the other waits for it (`ring_wait` of its ledger). A call that a shut gate spares takes no
more than a look at the gate.

A net behind an enhancer gets that enhancer's sound when its call ends. So its `capture_block` holds all from the air
to there, the enhancer's own parts and delay among them.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError
from models.common.progress import Progress, silent
from runtimes.engines import open_runtime
from runtimes.protocol import Runtime
from streaming.core.stages import StageGate, StageNet, SwitchedRuntime, check_nets
from streaming.runs.record import RunRecord, run_folder
from streaming.runs.together import labels_of
from streaming.simulator.device.callbacks import Callback
from streaming.simulator.device.compute import GATED_NS, ComputeModel
from streaming.simulator.device.faults import Fault, check_faults, stalled_until
from streaming.simulator.device.profile import DeviceProfile
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.at_once import BatchPlayback
from streaming.simulator.pipeline.output import Call
from streaming.simulator.pipeline.pipeline import Observer, Pipeline
from streaming.simulator.run import End, check_length, deferred_interrupt, make_record, write_record
from streaming.simulator.scenario import Scenario

Array = NDArray[np.float32]


@dataclass(frozen=True)
class NetRun:
    """What one of the nets did.

    Attributes:
        record: its run.
        spared: calls that a shut gate spared; they are among the record's `gated_windows`.
        busy: share of the time for which its calls had the inference thread, 0 to 1.
    """

    record: RunRecord
    spared: int
    busy: float


@dataclass
class _Net:
    """One of the nets while it runs."""

    pipeline: Pipeline
    compute: ComputeModel
    switch: SwitchedRuntime | None = None
    busy_ns: int = 0


class _Behind:
    """An enhancer's sound as the callbacks of the net behind it, without the first `delay_samples`.

    Args:
        rate_hz, delay_samples: of the enhancer.
    """

    def __init__(self, rate_hz: int, delay_samples: int) -> None:
        self._rate_hz, self._lead_in = rate_hz, delay_samples
        self._given = 0
        self._expected_ns: int | None = None
        self.heard: Pipeline | None = None
        self.hears: Pipeline | None = None

    def __call__(self, samples: Array, end_ns: int) -> None:
        """A call ended and gave this."""
        cut = min(self._lead_in, len(samples))
        self._lead_in -= cut
        samples = samples[cut:]
        if not len(samples) or self.heard is None or self.hears is None:
            return
        captured_ns = self.heard.captured_ns(self._given)
        late_ns = 0 if self._expected_ns is None else captured_ns - self._expected_ns
        lost = max(0, round(late_ns * self._rate_hz / SECOND_NS))
        callback = Callback(end_ns, len(samples), self._rate_hz, self._given, captured_ns, lost, "dropout")
        self.hears.input.capture(callback, samples)
        self._given += len(samples)
        self._expected_ns = captured_ns + len(samples) * SECOND_NS // self._rate_hz


class _Thread:
    """The inference thread of a device on which two nets run.

    Args:
        nets: both, fresh.
        scenario: the first's: callbacks, sound and stalls.
        gate: label of the first that switches the second on; None: nothing does.
        behind: whether the second hears the first's sound.
        progress: called with (what, fraction done).

    Attributes:
        interrupted: set: the run is to end.
        now: when the latest callback came, ns.
        free: when the thread is free for another call, ns.
    """

    def __init__(
        self, nets: Sequence[_Net], scenario: Scenario, gate: int | None, behind: bool, progress: Progress
    ) -> None:
        self._nets, self._gate, self._behind, self._progress = nets, gate, behind, progress
        self._callbacks, self._source = scenario.callbacks(), scenario.sound.source
        self._next = next(self._callbacks, None)
        self._stalls: list[Fault] = [f for f in scenario.settings.faults if f.kind == "stall"]
        self._wakeup_ns = round(scenario.profile.wakeup_us * 1e3)
        self._total_ns, self._percent = max(1, scenario.total_ns), -1
        self.interrupted = threading.Event()
        self.now = self.free = 0

    def run(self) -> int:
        """To the end of the sound, and until all of it has come out; when that was, ns."""
        while (net := self._due()) is not None:
            self._call(net)
        return self._wind_up()

    def _due(self) -> _Net | None:
        """The net whose call begins next, at `free`; None: no more callbacks, and too few samples for a call."""
        self._come(self.free)
        while self._first() is None and self._next is not None:
            self._come(self._next.time_ns)
            self.free = self.now + self._wakeup_ns
        if self._first() is not None:
            self.free = stalled_until(self._stalls, "stall", self.free) if self._stalls else self.free
            self._come(self.free)
        return self._first()

    def _come(self, time_ns: int) -> None:
        """Every callback of `time_ns` or before comes."""
        while self._next is not None and self._next.time_ns <= time_ns:
            callback = self._next
            block = self._source.read(callback.rate_hz, callback.first_frame, callback.frames)
            for net in self._nets[:1] if self._behind else self._nets:
                net.pipeline.input.capture(callback, block)
            self.now = callback.time_ns
            self._next = next(self._callbacks, None)
            self._tell()

    def _first(self) -> _Net | None:
        """Of the calls that are due, the one whose samples came first."""
        due = [net for net in self._nets if net.pipeline.lacking <= 0]
        return min(due, key=lambda net: net.pipeline.due_at) if due else None

    def _call(self, net: _Net) -> None:
        """A call, its gate as the newest window has it."""
        if net.switch is not None and self._gate is not None:
            net.switch.on = self._nets[0].pipeline.hears(self._gate)
        self._rest(net)

    def _rest(self, net: _Net) -> None:
        """A call, the gate as it is."""
        spared = 0 if net.switch is None else net.switch.spared
        call = net.pipeline.take(self.free)
        if call is not None:
            call.gated |= net.switch is not None and net.switch.spared > spared
            self._over(net, call)

    def _over(self, net: _Net, call: Call) -> None:
        begin = self.free
        self.free += GATED_NS if call.skipped or call.gated else net.compute.next_ns(begin)
        net.busy_ns += self.free - begin
        net.pipeline.deliver(call, self.free)
        behind = self._nets[1]
        while self._behind and net is not behind and behind.pipeline.lacking <= 0:
            self._rest(behind)

    def _wind_up(self) -> int:
        """The stream is over: every gate stays as it is, and the nets are flushed in their order."""
        self.free = max(self.free, self.now)
        if self._gate is not None and (switch := self._nets[1].switch) is not None:
            switch.on = self._nets[0].pipeline.hears(self._gate)
        ended = self.free
        for index, net in enumerate(self._nets):
            net.pipeline.input.end_capture(self.free if self._behind and index else self.now)
            while net.pipeline.lacking <= 0:
                self._rest(net)
            spared = 0 if net.switch is None else net.switch.spared
            flushed = net.pipeline.drain(self.free)
            for call in flushed:
                call.start_ns = self.free
                call.gated |= net.switch is not None and net.switch.spared > spared
                self._over(net, call)
            net.pipeline.finish(self.free)
            played = net.pipeline.playback
            ended = max(ended, self.free, played.play_out(self.free) if isinstance(played, BatchPlayback) else 0)
        return ended

    def _tell(self) -> None:
        if self.interrupted.is_set():
            raise KeyboardInterrupt
        percent = 100 * self.now // self._total_ns
        if percent > self._percent:
            self._percent = percent
            self._progress("simulating", min(1.0, percent / 100.0))


def run_pair(
    scenarios: Sequence[Scenario],
    *,
    behind: bool = False,
    gate: StageGate | None = None,
    outputs: Sequence[Path] = (),
    command: Sequence[str] = (),
    runtimes: Sequence[Runtime] = (),
    progress: Progress = silent,
) -> tuple[NetRun, NetRun]:
    """Run two nets on one device, in the virtual clock.

    Args:
        scenarios: of the first and of the second, of one sound and device; a net behind another is given its profile
            here (`profile_behind`).
        behind: the second hears what the first, an enhancer, gives.
        gate: label of the first, a classifier, while which the second is called; None: always.
        outputs: NAME.run of each to write; without it, nothing is written.
        command: the exact command line, for the records.
        runtimes: instead of opening the artefacts (tests).
        progress: called with (what, fraction done).

    Returns:
        what each net did.

    Raises:
        UsageError, AudioError, BundleError, ArtefactError, OutputError: as their names say.
    """
    first, second = scenarios
    for scenario in scenarios:
        check_length(scenario)
    settings = first.settings
    check_faults(settings.faults, first.total_ns, round(first.profile.cold_input_ms * 1e6), False)
    if behind:
        second = dataclasses.replace(second, profile=profile_behind(first)).changed(faults=())
    pair = (first, second)
    with ExitStack() as stack:
        opened = runtimes or [stack.enter_context(closing(open_runtime(s.bundle, s.choice))) for s in pair]
        check_nets(
            [
                StageNet(first.bundle.manifest, opened[0], labels_of(first.bundle)),
                StageNet(second.bundle.manifest, opened[1], labels_of(second.bundle), 0 if behind else None, gate),
            ]
        )
        folders: list[Path | None] = [stack.enter_context(run_folder(path)) for path in outputs]
        folders = folders or [None, None]
        switch = None if gate is None else SwitchedRuntime(opened[1])
        recorders = [stack.enter_context(closing(s.recorders(f))) for s, f in zip(pair, folders, strict=True)]
        geometry = first.bundle.manifest.geometry
        link = _Behind(geometry.sample_rate_hz, geometry.delay_samples) if behind else None
        pipelines = [
            first.pipeline(opened[0], recorders[0], Observer(on_sound=link), calls_at_once=1),
            second.pipeline(switch or opened[1], recorders[1], calls_at_once=1),
        ]
        if link is not None:
            link.heard, link.hears = pipelines
        nets = [_Net(pipelines[0], first.compute()), _Net(pipelines[1], second.compute(), switch)]
        end = _drive(_Thread(nets, first, None if gate is None else gate.label, behind, progress), pipelines)
        runs: list[NetRun] = []
        for s, net, recorder, folder in zip(pair, nets, recorders, folders, strict=True):
            recorder.close()
            spared = 0 if net.switch is None else net.switch.spared
            record = make_record(s, opened[len(runs)], net.pipeline, recorder, net.compute, end, None)
            counts = dataclasses.replace(record.counts, gated_windows=record.counts.gated_windows + spared)
            record = dataclasses.replace(record, command=list(command), counts=counts)
            if folder is not None:
                write_record(folder, record, s.settings)
            runs.append(NetRun(record, spared, net.busy_ns / max(1, end.time_ns)))
    return runs[0], runs[1]


def profile_behind(scenario: Scenario) -> DeviceProfile:
    """The device as a net behind an enhancer hears it: the enhancer's rate, and a buffer of it at a time."""
    samples = scenario.bundle.manifest.buffer.samples
    name = scenario.bundle.manifest.name
    figures = {"rate_hz": scenario.rate_hz, "block_frames": (samples, samples), "rate_changes": ()}
    return dataclasses.replace(
        scenario.profile,
        title=f"{scenario.profile.title}, behind {name}",
        sources={**scenario.profile.sources, **dict.fromkeys(figures, f"what {name} gives")},
        **figures,  # type: ignore[arg-type]
    )


def _drive(thread: _Thread, pipelines: Sequence[Pipeline]) -> End:
    try:
        with deferred_interrupt() as interrupted:
            thread.interrupted = interrupted
            return End("finished", "", thread.run())
    except KeyboardInterrupt:
        end = End("interrupted", f"interrupted after {thread.now / 1e9:.1f} s", thread.now)
    except ArtefactError as exc:
        end = End("error", " ".join(str(exc).split()), thread.now)
    for pipeline in pipelines:
        pipeline.abandon(max(thread.now, thread.free))
    return end
