"""Several nets on one stream: a classifier beside an enhancer or behind it, an enhancer that a classifier switches on.

Each stage is a whole net with its own rate, plain DSP, loop and decisions. It hears the stream itself, or the sound
that an earlier stage gives. A stage behind a gate is called only while an earlier classifier's label is on.

The rule for ports, which makes every partition of the input give the same calls in the same order:

1. The stages that hear the stream itself take in n samples each, in their order, n being the fewest that make a call of
   any of them due (the resampler has given ceil(s L / M) samples after s in all), or what is left of the block.
2. What a call gives goes to the stages that hear it at once, in their order, without the first `delay_samples` of the
   stream: so their times are those of the stream too.
3. A gate is as its label was after the newest window of its classifier. While it is shut a call is not made: its output
   is zeros, and the state goes to its reset value.
4. At the end the stages are flushed in their order. From then on every gate stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from runtimes.bundle import Manifest
from runtimes.protocol import Outputs, Runtime, State
from streaming.core.bound import bounded
from streaming.core.decisions import DecisionTracker, SoundEvent
from streaming.core.dsp import InputChain, OutputChain, gated
from streaming.core.loop import LoopOutput, make_loop
from streaming.core.resample import Resampler

Array = NDArray[np.float32]


@dataclass(frozen=True)
class StageGate:
    """What switches a stage on.

    Attributes:
        stage: index of an earlier stage, a classifier.
        label: index of its label.
    """

    stage: int
    label: int


@dataclass(frozen=True)
class StageNet:
    """One of several nets.

    Attributes:
        manifest: an enhancer's or a classifier's.
        runtime: a loaded artefact of it.
        labels: a classifier's.
        hears: index of an earlier enhancer whose sound it hears; None: the stream itself.
        gate: what switches it on; None: nothing, it is always on.
    """

    manifest: Manifest
    runtime: Runtime
    labels: tuple[str, ...] = ()
    hears: int | None = None
    gate: StageGate | None = None


class StageOutput(NamedTuple):
    """What a call of a stage gave, or the end of its stream.

    Attributes:
        stage: its index.
        end_sample: as `LoopOutput`, at the stage's rate.
        values: an enhancer's sound after its plain DSP, lead-in included; a classifier's scores; empty at the end.
        events: what turned on or off with it.
    """

    stage: int
    end_sample: int
    values: Array
    events: tuple[SoundEvent, ...] = ()


class SwitchedRuntime:
    """A runtime that is called only while it is on: zeros, and the reset state, while it is not.

    Attributes:
        on: whether the next call is made.
        spared: calls that were not made since `reset`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.signature, self.info, self.close = runtime.signature, runtime.info, runtime.close
        self.on, self.spared = False, 0

    def reset(self) -> State:
        """The state at the start of a stream."""
        return self._runtime.reset()

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call, or zeros."""
        if self.on:
            return self._runtime.step(block, state)
        self.spared += 1
        return {t.name: np.zeros(t.shape, np.float32) for t in self.signature.outputs}, self._runtime.reset()


class _Stage:
    """One net's whole way: bound, resampler, plain DSP, loop, decisions."""

    def __init__(self, net: StageNet, rate_hz: int) -> None:
        manifest = net.manifest
        rate = manifest.geometry.sample_rate_hz
        self.net, self.on = net, np.zeros(len(net.labels), np.bool_)
        self.switch = None if net.gate is None else SwitchedRuntime(net.runtime)
        self.resampler = Resampler(rate_hz, rate)
        runtime = gated(self.switch or net.runtime, manifest.dsp, manifest.buffer.samples)
        self.loop = make_loop(manifest, runtime)
        self._before = InputChain(manifest.dsp, rate)
        self._after = OutputChain(manifest.dsp, rate, manifest.geometry.delay_samples)
        decisions = manifest.decisions if manifest.output_kind == "scores" else None
        self.tracker = None if decisions is None else DecisionTracker(decisions, net.labels, rate)
        self.lead_in = 0

    def reset(self) -> None:
        self.on[:] = False
        if self.switch is not None:
            self.switch.on, self.switch.spared = False, 0
        for part in (self.resampler, self.loop, self._before, self._after, self.tracker):
            if part is not None:
                part.reset()
        self.lead_in = self.net.manifest.geometry.delay_samples

    def wants(self) -> int:
        """Samples that it must be given before its next call."""
        resampler = self.resampler
        outputs = resampler.out_samples + self.loop.missing_samples
        return (outputs - 1) * resampler.down // resampler.up + 1 - resampler.in_samples

    def push(self, block: Array) -> list[LoopOutput]:
        return self._through(self.resampler.process(bounded(block).samples))

    def end(self) -> list[LoopOutput]:
        return self._through(self.resampler.flush()) + self.loop.flush()

    def _through(self, block: Array) -> list[LoopOutput]:
        given = self._before.process(block)
        self._after.feed(given)
        return self.loop.push(given)

    def given(self, heard: LoopOutput) -> tuple[Array, tuple[SoundEvent, ...]]:
        """A call's values after the plain DSP, and its events."""
        if self.tracker is None:
            return self._after.process(heard.values), ()
        if heard.nan:
            return heard.values, ()
        return heard.values, tuple(self.tracker.push(heard.values, heard.end_sample))


class Stages:
    """Several nets on one stream, each call in an order that no partition of the input changes.

    Args:
        nets: in their order; at least one.
        rate_hz: rate of the blocks given.

    Raises:
        UsageError: a net hears or is switched by one that is not earlier, or by one of the wrong kind.
    """

    def __init__(self, nets: Sequence[StageNet], rate_hz: int) -> None:
        check_nets(nets)
        self.rate_hz = rate_hz
        self._stages: list[_Stage] = []
        for net in nets:
            heard = rate_hz if net.hears is None else nets[net.hears].manifest.geometry.sample_rate_hz
            self._stages.append(_Stage(net, heard))
        self._first = [i for i, net in enumerate(nets) if net.hears is None]
        self.reset()

    @property
    def calls(self) -> tuple[int, ...]:
        """Calls of each stage since reset, those that its gate spared left out."""
        return tuple(s.loop.calls - n for s, n in zip(self._stages, self.spared, strict=True))

    @property
    def spared(self) -> tuple[int, ...]:
        """Calls of each stage since reset that were not made, its gate being shut."""
        return tuple(0 if s.switch is None else s.switch.spared for s in self._stages)

    @property
    def in_samples(self) -> tuple[int, ...]:
        """Samples that each stage has taken in, at its rate."""
        return tuple(s.loop.in_samples for s in self._stages)

    def reset(self) -> None:
        """Begin a new stream."""
        self._ended = self._ending = False
        for stage in self._stages:
            stage.reset()

    def push(self, block: Array) -> list[StageOutput]:
        """Take in new samples and make every call that is due.

        Args:
            block: float32 [n] at `rate_hz`, full scale 1.0; what no net may be given is replaced.

        Returns:
            what each call gave, in the order of the calls.

        Raises:
            ArtefactError: a runtime failed; the stream has to be reset.
            UsageError: the stream was flushed or has failed.
        """
        if self._ended:
            raise UsageError("stages: the stream was flushed or has failed; call reset() before the next block")
        outputs: list[StageOutput] = []
        taken = 0
        self._ended = True  # should a runtime fail on the way
        while taken < len(block):
            count = min(len(block) - taken, *(self._stages[i].wants() for i in self._first))
            for index in self._first:
                self._hear(index, block[taken : taken + count], outputs)
            taken += count
        self._ended = False
        return outputs

    def flush(self) -> list[StageOutput]:
        """End the stream and give what is still inside.

        Returns:
            the last calls, and for each classifier what its end closes.

        Raises:
            ArtefactError: a runtime failed.
        """
        outputs: list[StageOutput] = []
        if self._ended:
            return outputs
        self._ended = self._ending = True
        for index, stage in enumerate(self._stages):
            self._switch(stage)
            for heard in stage.end():
                self._give(index, heard, outputs)
            if stage.tracker is not None:
                end = stage.loop.in_samples
                closed = tuple(stage.tracker.flush(end))
                outputs.append(StageOutput(index, end, np.zeros(0, np.float32), closed))
        return outputs

    def _switch(self, stage: _Stage) -> None:
        gate = stage.net.gate
        if stage.switch is not None and gate is not None:
            stage.switch.on = bool(self._stages[gate.stage].on[gate.label])

    def _hear(self, index: int, block: Array, outputs: list[StageOutput]) -> None:
        """A block for one stage, a call at a time: what a call gives may open the gate of the next one."""
        stage, taken = self._stages[index], 0
        while taken < len(block):
            count = min(len(block) - taken, stage.wants())
            self._switch(stage)
            for heard in stage.push(block[taken : taken + count]):
                self._give(index, heard, outputs)
            taken += count

    def _give(self, index: int, heard: LoopOutput, outputs: list[StageOutput]) -> None:
        stage = self._stages[index]
        values, events = stage.given(heard)
        for event in () if self._ending else events:
            stage.on[event.index] = event.offset_sample is None
        outputs.append(StageOutput(index, heard.end_sample, values, events))
        if stage.tracker is not None:
            return
        cut = min(stage.lead_in, len(values))
        stage.lead_in -= cut
        for later, other in enumerate(self._stages):
            if other.net.hears == index and cut < len(values):
                self._hear(later, values[cut:], outputs)


def check_nets(nets: Sequence[StageNet]) -> None:
    """Raise unless the nets fit each other.

    Raises:
        UsageError: none, or one hears or is switched by one that is not earlier, or by one of the wrong kind.
    """
    if not nets:
        raise UsageError("stages: expected at least one net, got none")
    for index, net in enumerate(nets):
        _check(nets, index, net)


def _check(nets: Sequence[StageNet], index: int, net: StageNet) -> None:
    kind = net.manifest.output_kind
    if kind not in ("audio", "scores"):
        raise UsageError(f"stages: {net.manifest.name} gives {kind}; expected an enhancer or a classifier")
    if len(net.manifest.inputs) != 1:
        raise UsageError(
            f"stages: {net.manifest.name} has more inputs than audio; expected a net that hears one stream"
        )
    if net.hears is not None:
        if not 0 <= net.hears < index:
            raise UsageError(f"stages: stage {index} can hear stages before it only, got {net.hears}")
        if nets[net.hears].manifest.output_kind != "audio":
            raise UsageError(f"stages: stage {index} hears {nets[net.hears].manifest.name}, which gives no sound")
    if net.gate is not None:
        if not 0 <= net.gate.stage < index:
            raise UsageError(f"stages: stage {index} can be switched by stages before it only, got {net.gate.stage}")
        if not 0 <= net.gate.label < len(nets[net.gate.stage].labels):
            raise UsageError(f"stages: {nets[net.gate.stage].manifest.name} has no label {net.gate.label} to switch by")
