"""The ledger compared with a delay that was measured in the sound itself.

A probe takes the net's place: the bundle's buffer, hop, delay and names, but it passes audio on unchanged,
delay_samples late (enhancer), or scores 1 for label 0 when its window is loud (classifier). A pulse, or an onset, goes
into the microphone; when it comes out is measured in what was played, or reported by the event. The ledger's total must
agree within one sample; for an onset, which the ledger follows from the begin of its hop, within four: the probe says
how far into the hop it was.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from models.geometry import GraphSignature, StateSpec
from runtimes.bundle import Bundle, Decisions, Manifest
from runtimes.protocol import Outputs, RuntimeInfo, State, check_call, zero_state
from streaming.runs.record import DelayCheck
from streaming.simulator.device.timeline import SECOND_NS
from streaming.simulator.pipeline.ledger import Kind, Ledger
from streaming.simulator.pipeline.pipeline import Observer
from streaming.simulator.pipeline.playback import Playback
from streaming.simulator.scenario import Scenario, clip_sound

Array = NDArray[np.float32]

PULSE_S = 0.25e-3  # standard deviation: narrow, and far below the Nyquist frequency of 8 kHz
LOUD = 0.25
ONSET_SAMPLES = 4.0  # an onset's edge is two samples wide where the device's rate is half the model's


class ProbeRuntime:
    """A runtime without a net: audio comes out delay_samples late, or label 0 scores 1 where a window is loud.

    Args:
        manifest: whose names, shapes and delay it has.

    Attributes:
        onset: where in its block the first loud sample was (scores); None: nothing was loud.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._delay = manifest.geometry.delay_samples
        line = (StateSpec("line", (1, self._delay)),) if self._delay else ()
        self.signature = GraphSignature(manifest.signature.inputs[:1], manifest.signature.outputs[:1], line)
        self.info = RuntimeInfo("probe", "1", "passes audio on, tells loud from quiet")
        self.onset: int | None = None
        self._audio = manifest.buffer.kind == "step" and self.signature.outputs[0].shape[-1] == manifest.buffer.samples

    def reset(self) -> State:
        """Silence."""
        return zero_state(self.signature)

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """The block, late; or whether it is loud."""
        check_call(self.signature, block, state)
        output = self.signature.outputs[0]
        if not self._audio:
            scores = np.zeros(output.shape, np.float32)
            size = np.abs(block).reshape(-1)
            loud = bool(size.max() >= LOUD)
            if loud and self.onset is None:
                self.onset = int(np.argmax(size >= LOUD))
            scores[..., 0] = float(loud)
            return {output.name: scores}, state
        if not self._delay:
            return {output.name: block.copy()}, state
        line = np.concatenate([state["line"], block], axis=1)
        return {output.name: line[:, : block.shape[1]].copy()}, {"line": line[:, block.shape[1] :].copy()}

    def close(self) -> None:
        """Nothing is held."""


class KeptLedger(Ledger):
    """A ledger that keeps its entries: (captured_ns, total_ns) of each, by kind."""

    def __init__(self) -> None:
        super().__init__(None)
        self.kept: dict[Kind, list[tuple[int, int]]] = {"block": [], "window": [], "event": []}

    def add_rows(self, kind: Kind, rows: NDArray[np.int64]) -> None:
        """Entries."""
        super().add_rows(kind, rows)
        self.kept[kind] += [(int(row[2]), int(row[-1])) for row in rows]


def check_delay(scenario: Scenario, at_s: float | None = None) -> DelayCheck | None:
    """Measure the delay of a probe and compare the ledger with it.

    Args:
        scenario: the run that is checked; its sound does not matter, its faults are put in.
        at_s: when the pulse or onset comes; default: 1.5 s after the first block, or two hops if that is longer.

    Returns:
        the check; None where the sound never came out, because the device cannot keep up.
    """
    # A random loss might take the pulse itself; losses put in on purpose stay.
    profile = dataclasses.replace(scenario.profile, dropouts_per_hour=0.0)
    # No stage of the plain DSP delays by a sample; a decision must hang on the probe's score alone.
    scenario = scenario.without_dsp()
    manifest = scenario.bundle.manifest
    decisions = manifest.decisions
    if decisions is not None:
        plain = decisions.model_copy(update={"per_label": {}})
        manifest = manifest.model_copy(update={"decisions": plain})
    rate = profile.rate_hz
    window_s = manifest.geometry.window_samples / manifest.geometry.sample_rate_hz
    if at_s is None:
        at_s = profile.cold_input_ms / 1000.0 + max(1.5, 2.0 * window_s)
    lasting_s = 1.5 if decisions is None else 1.5 + 3.0 * window_s + _decision_s(decisions, scenario.rate_hz)
    frame = round(at_s * rate)
    times = (np.arange(round((at_s + lasting_s) * rate)) - frame) / rate
    sound = 0.5 * np.exp(-0.5 * np.square(times / PULSE_S)) if decisions is None else np.where(times >= 0.0, 0.9, 0.0)
    scenario = dataclasses.replace(
        scenario,
        bundle=Bundle(scenario.bundle.path, manifest),
        sound=clip_sound(sound.astype(np.float32), rate, "probe"),
        profile=profile,
    )
    ledger = KeptLedger()
    played: list[tuple[int, Array]] = []
    probe = ProbeRuntime(manifest)
    pipeline = scenario.pipeline(
        probe,
        dataclasses.replace(scenario.recorders(), ledger=ledger),
        Observer(on_read=lambda now, block: played.append((now, block))),
    )
    scenario.run_virtual(pipeline)
    put_in_ns = round(frame * SECOND_NS / rate)
    if pipeline.playback is not None:
        heard_ns = _heard_ns(pipeline.playback, played)
        entry = next((e for e in reversed(ledger.kept["block"]) if e[0] <= put_in_ns), None)
        if heard_ns is None or entry is None:
            return None
        return _judge("impulse", entry[1], heard_ns - put_in_ns, 1.0, profile.output_rate_hz)
    if not pipeline.events or probe.onset is None:
        return None
    event, hop = pipeline.events[0], scenario.hop_samples
    into_hop = probe.onset - (manifest.buffer.samples - hop)
    measured_ns = event.emitted_at_ns - put_in_ns + into_hop * SECOND_NS // scenario.rate_hz
    limit = float(hop) if scenario.settings.faults else ONSET_SAMPLES  # a loss may take the onset itself
    return _judge("onset", event.delay_ns, measured_ns, limit, scenario.rate_hz)


def _decision_s(decisions: Decisions, rate_hz: int) -> float:
    hop_s = decisions.window_hop_samples / rate_hz
    return decisions.smoothing_windows * hop_s + decisions.min_on_ms / 1000.0 + 2.0 * hop_s


def _heard_ns(playback: Playback, played: list[tuple[int, Array]]) -> int | None:
    """When the pulse's peak was in the air."""
    if not played:
        return None
    sound = np.concatenate([block for _, block in played]).astype(np.float64)
    peak = int(np.argmax(sound))
    if sound[peak] < 0.1 or not 0 < peak < len(sound) - 1:
        return None
    below, at, above = np.log(np.maximum(sound[peak - 1 : peak + 2], 1e-9))  # a Gaussian's logarithm is a parabola
    place = peak + 0.5 * float((below - above) / (below - 2.0 * at + above))
    block, offset = divmod(place, playback.block)
    begin_ns = played[int(block)][0]
    return begin_ns + round(float(offset) * SECOND_NS / playback.true_rate_hz) + playback.route_ns


def _judge(method: str, ledger_ns: int, measured_ns: int, limit_samples: float, rate_hz: int) -> DelayCheck:
    mismatch = (measured_ns - ledger_ns) * rate_hz / SECOND_NS
    return DelayCheck(
        method=method,
        ledger_ns=ledger_ns,
        measured_ns=measured_ns,
        mismatch_samples=round(mismatch, 4),
        limit_samples=limit_samples,
        rate_hz=rate_hz,
        passed=bool(abs(mismatch) <= limit_samples),
    )
