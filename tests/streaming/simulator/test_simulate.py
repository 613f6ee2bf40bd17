"""Scenarios over the shipped artefacts: bit-equal to plain calls, all samples and delays accounted for."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.common.errors import ArtefactError, AudioError, OutputError, UsageError
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime
from runtimes.protocol import Outputs, State
from runtimes.stages import Gate
from streaming.core.decisions import detect
from streaming.core.loop import LoopOutput, make_loop, run_loop
from streaming.core.resample import Resampler
from streaming.runs.record import LEDGER_COLUMNS, PARTS, read_run
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.callbacks import Callback
from streaming.simulator.device.faults import Fault, parse_fault
from streaming.simulator.device.profile import DeviceProfile, load_profile
from streaming.simulator.pipeline.output import Call
from streaming.simulator.pipeline.pipeline import Observer, Pipeline
from streaming.simulator.run import Recorded, run_scenario
from streaming.simulator.scenario import Scenario, clip_sound
from tests.streaming.simulator.scenarios import MS, PLAIN, conserved, probed, scenario_of, speech

ROOT = Path(__file__).resolve().parents[3]


def streamed(scenario: Scenario) -> tuple[list[np.ndarray], Pipeline]:
    """What each call of the real net gave."""
    runtime = open_runtime(scenario.bundle, scenario.choice)
    values: list[np.ndarray] = []

    def note(call: Call) -> None:
        assert call.values is not None
        values.append(call.values)

    pipeline = scenario.pipeline(runtime, observer=Observer(on_call=note))
    scenario.run_virtual(pipeline)
    runtime.close()
    return values, pipeline


def plain(scenario: Scenario) -> list[LoopOutput]:
    """The artefact called back to back on the same signal."""
    bundle, source, rate = scenario.bundle, scenario.sound.source, scenario.profile.rate_hz
    first = next(scenario.callbacks()).first_frame
    samples = source.read(rate, first, source.frames(rate) - first)
    runtime = open_runtime(bundle, choose(bundle))
    resampler = Resampler(rate, bundle.manifest.geometry.sample_rate_hz)
    at_rate = np.concatenate([resampler.process(samples), resampler.flush()])
    results = run_loop(make_loop(bundle.manifest, runtime), at_rate)
    runtime.close()
    return results


@pytest.mark.parametrize("name", ["android-ragged", "android-burst-192", "iphone-tap"])
def test_enhancer_is_bit_equal_to_plain_calls(dtln: Bundle, name: str) -> None:
    """Two minutes through capture, ring and loop give what the artefact gives on the resampled signal, to the bit."""
    scenario = scenario_of(dtln, 120.0 if name == "android-burst-192" else 30.0, load_profile(name))
    values, pipeline = streamed(scenario)
    assert pipeline.counts.dropped == 0
    assert np.array_equal(np.concatenate(values), np.concatenate([r.values for r in plain(scenario)]))


def test_classifier_is_bit_equal_to_plain_calls_and_reports_the_same_events(yamnet: Bundle) -> None:
    scenario = scenario_of(yamnet, 90.0, load_profile("android-burst-192"))
    values, pipeline = streamed(scenario)
    expected = plain(scenario)
    assert np.array_equal(np.stack(values), np.stack([r.values for r in expected]))
    decisions = yamnet.manifest.decisions
    assert decisions is not None
    ends = np.array([r.end_sample for r in expected], np.int64)
    scores = np.stack([r.values for r in expected])
    heard = detect(decisions, yamnet.labels(), 16_000, ends, scores, pipeline.in_samples)
    reported = sorted((e.onset_sample, e.index, e.offset_sample, e.confidence) for e in pipeline.events)
    assert reported == [(e.onset_sample, e.index, e.offset_sample, e.confidence) for e in heard]
    assert len(reported) > 0


def test_the_net_itself_is_as_late_as_the_ledger_says(dtln: Bundle, tmp_path: Path) -> None:
    """Cross-correlation of what was played with what was heard, the real net between them."""
    profile = dataclasses.replace(PLAIN, cold_input_ms=0.0, jitter_us=0.0)
    record = run_scenario(scenario_of(dtln, 8.0, profile), output=tmp_path / "x.run")
    played, rate = soundfile.read(tmp_path / "x.run" / "output.wav", dtype="float32")
    heard = speech(8.0)
    size = 1 << (len(heard) + len(played)).bit_length()
    lag = np.argmax(np.fft.irfft(np.fft.rfft(played, size) * np.conj(np.fft.rfft(heard, size)))[: 48_000 // 4])
    block = next(entry for entry in record.ledger if entry.kind == "block")
    route_ms = profile.output_latency_ms
    assert rate == profile.output_rate_hz
    assert abs(lag / 48.0 + route_ms - block.total.p50 / MS) < 1.5 / 48.0 + 0.2


def test_a_run_is_written_whole_and_reads_back(dtln: Bundle, tmp_path: Path) -> None:
    scenario = scenario_of(dtln, 4.0, load_profile("android-burst-192"), seed=3, check=True)
    record = run_scenario(scenario, output=tmp_path / "x.run", command=("hearpack", "simulate"))
    folder = tmp_path / "x.run"
    assert read_run(folder) == record
    assert {p.name for p in folder.iterdir()} == {
        "run.json",
        "ledger.csv",
        "trace.json",
        "heard.wav",
        "output.wav",
        "calibration.json",
    }
    with (folder / "ledger.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == LEDGER_COLUMNS
    assert len(rows) == record.ledger[0].total.count > 400
    for row in rows:
        assert sum(int(row[p]) for p in PARTS) == int(row["total_ns"])
    trace = json.loads((folder / "trace.json").read_text())
    phases = {e["ph"] for e in trace["traceEvents"]}
    assert phases >= {"M", "X", "C", "i"}
    calls = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["name"] == "call"]
    assert len(calls) == record.counts.calls
    assert all(e["dur"] > 0 for e in calls)
    heard, rate = soundfile.read(folder / "heard.wav")
    assert (len(heard), rate) == (record.counts.read, 16_000)
    conserved(record)
    assert record.delay_check is not None
    assert record.delay_check.passed
    measured = [c for c in record.compute if c.provenance == "measured"]
    assert {c.pacing for c in measured} == {"paced", "back_to_back"}
    assert record.compute[0].provenance == "modelled"


def test_a_classifiers_run_keeps_scores_and_events(yamnet: Bundle, tmp_path: Path) -> None:
    scenario = scenario_of(yamnet, 10.0, load_profile("iphone-sink"), check=True)
    record = run_scenario(scenario, output=tmp_path / "x.run")
    scores = np.fromfile(tmp_path / "x.run" / "scores.f32", "<f4").reshape(-1, 521)
    ends = np.fromfile(tmp_path / "x.run" / "ends.i64", "<i8")
    assert len(scores) == len(ends) == record.counts.calls
    assert ends[0] == 15_600
    assert np.all(np.diff(ends) == 7680)
    assert record.playout is None
    assert record.events
    for event in record.events:
        # Reported at the end of the window that turned it on, a little after that window was complete.
        assert event.emitted_at_ns > event.emitted_at_sample * 62_500
        assert event.delay_ns > 480 * MS
    conserved(record)


def test_same_seed_same_bytes_in_two_processes(exported: dict[str, Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", speech(3.0), 48_000)
    code = "from hearpack.cli import main; main()"
    trees = []
    for number, bundle in ((1, "dtln"), (2, "dtln"), (1, "yamnet"), (2, "yamnet")):
        arguments = [
            "simulate",
            exported[bundle],
            "in.wav",
            "-d",
            "android-low-end",
            "--compute-ms",
            "3",
            "--seed",
            "9",
        ]
        arguments += ["--fault", "stall@1:100ms", "--fault", "nan@1.5", "--seconds", "5", "-o", "out.run", "--json"]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(number)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        trees.append({p.name: p.read_bytes() for p in (tmp_path / "out.run").iterdir()})
        assert json.loads(done.stdout)["ended"] == "finished"
    assert trees[0] == trees[1]
    assert trees[2] == trees[3]
    other = json.loads(trees[0]["run.json"])
    assert other["command"][:2] == ["hearpack", "simulate"]
    text = b"".join(trees[0].values())
    assert os.uname().nodename.encode() not in trees[0]["run.json"]
    assert str(tmp_path).encode() not in text


@pytest.mark.parametrize(
    "fault",
    [
        "stall@1:10ms",
        "stall@1:1s",
        "stall@1:5s",
        "capture_stall@1:2s",
        "dropout@1:100ms",
        "nan@1",
        "raise@1",
        "raise@1:3x",
    ],
)
@pytest.mark.parametrize("policy", ["drop_oldest", "skip_hop", "grow_delay"])
def test_faults_are_counted_and_survived(dtln: Bundle, policy: str, fault: str) -> None:
    record = probed(scenario_of(dtln, 8.0, faults=(fault,), policy=policy))
    conserved(record)
    assert record.ended == "finished"
    assert record.counts.captured + record.counts.lost == 8 * 48_000
    kinds = {f.kind for f in record.faults}
    parsed = parse_fault(fault)
    if parsed.kind == "nan":
        assert record.counts.nan_samples == 8
        assert "nan" in kinds
    if parsed.kind == "raise":
        assert record.counts.failed_calls == record.counts.resets == parsed.amount
        assert "model_failed" in kinds
    if parsed.kind == "dropout":
        assert record.counts.lost == 4800
    if parsed.amount >= 1000.0:
        assert record.counts.misses > 0 or parsed.kind == "capture_stall"
        assert "playout_underrun" in kinds
        assert ("ring_overrun" in kinds) == (record.counts.dropped > 0)


def test_policies_do_what_they_say(dtln: Bundle) -> None:
    records = {}
    for policy in ("drop_oldest", "skip_hop", "grow_delay"):
        records[policy] = probed(scenario_of(dtln, 20.0, faults=("stall@3:900ms",), policy=policy, seed=2))
    assert records["drop_oldest"].counts.dropped > 0
    assert records["skip_hop"].counts.skipped_hops > 10
    assert records["grow_delay"].counts.dropped == 0
    playout = records["grow_delay"].playout
    assert playout is not None
    assert playout.trimmed > 0.8 * 0.85 * 48_000  # the delay grew by nearly 0.9 s and was shrunk again
    last = [p.high for p in playout.occupancy[-50:]]
    first = [p.high for p in playout.occupancy[20:60]]
    assert np.median(last) < np.median(first) + 48 * 20


class _Broken:
    """A net that gives NaN, or always fails."""

    def __init__(self, inner: ProbeRuntime, fails: bool) -> None:
        self._inner, self._fails = inner, fails
        self.signature, self.info = inner.signature, inner.info
        self.reset, self.close = inner.reset, inner.close

    def step(self, block: np.ndarray, state: State) -> tuple[Outputs, State]:
        if self._fails:
            raise ArtefactError("no")
        outputs, state = self._inner.step(block, state)
        return {k: v * np.float32(np.nan) for k, v in outputs.items()}, state


def test_a_net_that_always_fails_ends_cleanly(dtln: Bundle, tmp_path: Path) -> None:
    runtime = _Broken(ProbeRuntime(dtln.manifest), fails=True)
    record = run_scenario(scenario_of(dtln, 3.0), runtime=runtime, output=tmp_path / "x.run")
    assert record.ended == "error"
    assert "5 times in a row" in record.message
    assert read_run(tmp_path / "x.run") == record
    conserved(record)


def test_a_net_that_gives_nan_is_silenced(dtln: Bundle) -> None:
    record = probed(scenario_of(dtln, 2.0), _Broken(ProbeRuntime(dtln.manifest), fails=False))
    assert record.ended == "finished"
    assert {f.kind for f in record.faults} == {"nan_output"}
    assert record.counts.nan_outputs == record.counts.resets == record.counts.calls


class _Poisoned(ProbeRuntime):
    """Gives NaN from one call on, until its state is reset."""

    def reset(self) -> State:
        self.poisoned, self.seen = False, 0
        return super().reset()

    def step(self, block: np.ndarray, state: State) -> tuple[Outputs, State]:
        outputs, state = super().step(block, state)
        self.seen += 1
        self.poisoned |= self.seen == 40
        spoilt = np.float32(np.nan if self.poisoned else 1.0)
        return {k: v * spoilt for k, v in outputs.items()}, state


@pytest.mark.parametrize("name", ["dtln", "yamnet"])
def test_a_poisoned_net_is_reset_and_never_stays_mute(name: str, dtln: Bundle, yamnet: Bundle, tmp_path: Path) -> None:
    """Every fortieth call since a reset gives NaN: one block each is lost (no scores), all others are heard."""
    bundle, seconds = (dtln, 2.0) if name == "dtln" else (yamnet, 50.0)
    runtime = _Poisoned(bundle.manifest)
    record = run_scenario(scenario_of(bundle, seconds), runtime=runtime, output=tmp_path / "x.run")
    lost = record.counts.calls // 40
    assert lost >= 2
    assert record.counts.nan_outputs == record.counts.resets == lost
    assert record.counts.failed_calls == 0
    assert [f.detail for f in record.faults] == ["silenced, state reset"] * lost
    windows = next((part.total.count for part in record.ledger if part.kind == "window"), 0)
    assert windows == (0 if name == "dtln" else record.counts.calls - lost)
    conserved(record)


def test_samples_far_over_full_scale_are_limited_counted_and_said(dtln: Bundle) -> None:
    """An integer-scaled file at the model's own rate, where no resampler is in the way: the net hears 4.0 at most."""
    sound = clip_sound(np.full(16_000, 15_136.0, np.float32), 16_000, "integers", 1.0)
    seen: list[float] = []

    class Watching(ProbeRuntime):
        def step(self, block: np.ndarray, state: State) -> tuple[Outputs, State]:
            seen.append(float(np.abs(block).max()))
            return super().step(block, state)

    profile = dataclasses.replace(PLAIN, rate_hz=16_000)
    record = probed(scenario_of(dtln, 1.0, profile, sound), Watching(dtln.manifest))
    assert max(seen) == 4.0
    assert record.counts.limited_samples == record.counts.captured > 15_000
    assert {f.kind for f in record.faults} == {"over_limit"}
    conserved(record)


def test_interrupting_ends_with_a_record(dtln: Bundle, tmp_path: Path) -> None:
    def tick(pipeline: Pipeline, now_ns: int, total_ns: int) -> None:
        if now_ns > 1_000 * MS:
            raise KeyboardInterrupt

    record = run_scenario(scenario_of(dtln, 5.0), observer=Observer(on_tick=tick), output=tmp_path / "x.run")
    assert record.ended == "interrupted"
    assert 0.9 < record.simulated_s < 1.1
    assert read_run(tmp_path / "x.run") == record
    conserved(record)


def test_drift_is_corrected_without_underruns(dtln: Bundle) -> None:
    """Half a minute at 300 ppm each way: the rings' levels stay where they were."""
    for ppm in (-300.0, 300.0):
        profile = dataclasses.replace(PLAIN, output_clock_ppm=ppm, jitter_us=0.0)
        record = probed(scenario_of(dtln, 40.0, profile))
        assert record.playout is not None
        assert record.playout.underruns == 0
        assert record.playout.dropped == 0
        assert np.sign(record.playout.adjust_ppm) == -np.sign(ppm)


def test_a_gate_spares_silent_windows(yamnet: Bundle) -> None:
    manifest = yamnet.manifest.model_copy(update={"dsp": (Gate(kind="gate", threshold_dbfs=-50.0, hold_windows=0),)})
    bundle = Bundle(yamnet.path, manifest)
    quiet = np.concatenate([speech(4.0), np.zeros(48_000 * 6, np.float32)])
    record = probed(scenario_of(bundle, 10.0, sound=clip_sound(quiet, 48_000, "x")))
    assert 8 <= record.counts.gated_windows <= 12
    conserved(record)


def test_bad_input(dtln: Bundle, yamnet: Bundle, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="shorter than one hop"):
        run_scenario(scenario_of(dtln, 1.0, sound=clip_sound(speech(0.005), 48_000, "x")))
    with pytest.raises(AudioError, match="shorter than one hop"):
        run_scenario(scenario_of(yamnet, 1.0, sound=clip_sound(speech(0.1), 48_000, "x")))
    with pytest.raises(UsageError, match="cannot hold"):
        run_scenario(scenario_of(yamnet, 3.0, ring_samples=100))
    with pytest.raises(UsageError, match="a calibration or a fixed time"):
        run_scenario(scenario_of(dtln, 1.0, calibration=None))
    (tmp_path / "x.run").mkdir()
    (tmp_path / "x.run" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="not a run"):
        run_scenario(scenario_of(dtln, 1.0), output=tmp_path / "x.run")
    assert (tmp_path / "x.run" / "mine").read_text() == "mine"


def test_profiles_of_the_users_own_run(dtln: Bundle) -> None:
    profile: DeviceProfile = dataclasses.replace(PLAIN, rate_hz=22_050, block_frames=(100, 300))
    record = probed(scenario_of(dtln, 2.0, profile, check=True))
    assert record.delay_check is not None
    assert record.delay_check.passed


def test_callbacks_of_another_source_are_taken(dtln: Bundle) -> None:
    """One callback a second: blocks far longer than a hop."""
    blocks = [Callback((i + 1) * 1000 * MS, 48_000, 48_000, i * 48_000, i * 1000 * MS, 0, "") for i in range(4)]
    scenario = scenario_of(dtln, 4.0, ring_samples=20_000)
    record = run_scenario(scenario, runtime=ProbeRuntime(dtln.manifest), recorded=Recorded(blocks))
    assert record.counts.dropped == 0
    assert record.counts.callbacks == 4
    conserved(record)


def test_fault_objects_are_what_the_texts_say() -> None:
    assert parse_fault("stall@1:20ms").end_ns == Fault("stall", 1.0, 20.0).end_ns == 1_020 * MS
