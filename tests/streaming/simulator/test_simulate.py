"""The simulator over the shipped artefacts: bit-equal to plain calls, all samples and delays accounted for."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.common.errors import AudioError, OutputError, UsageError
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime
from runtimes.protocol import Outputs, Runtime, State
from streaming.core.decisions import detect
from streaming.core.loop import make_loop, run_loop
from streaming.core.resample import Resampler
from streaming.measure.calibration import Calibration, CalibrationEntry
from streaming.metrics.partition import NONE, check_partitions, edge_click_db
from streaming.runs.record import LEDGER_COLUMNS, PARTS, RunRecord, read_run
from streaming.simulator.capacity import search_limit, trouble
from streaming.simulator.delay_check import ProbeRuntime, check_delay, lag_samples
from streaming.simulator.device.callbacks import Callback, device_callbacks, device_stretches
from streaming.simulator.device.faults import Fault, parse_fault
from streaming.simulator.device.profile import DeviceProfile, load_profile, profile_names
from streaming.simulator.pipeline.pipeline import Pipeline
from streaming.simulator.pipeline.recorders import no_recorders
from streaming.simulator.scenario import Settings, Sound, clip_sound, default_prefill, default_ring
from streaming.simulator.simulate import compute_model, simulate
from streaming.simulator.virtual import run_virtual

ROOT = Path(__file__).resolve().parents[3]
MS = 1_000_000
PLAIN = load_profile("this-machine")


def speech(seconds: float, rate: int = 48_000) -> np.ndarray:
    """Something with syllables: noise bursts and tones, the same every time."""
    generator = np.random.default_rng(11)
    n = round(seconds * rate)
    t = np.arange(n) / rate
    envelope = np.clip(np.sin(2 * np.pi * 2.3 * t) + 0.3 * np.sin(2 * np.pi * 0.7 * t), 0, None)
    voice = sum(np.sin(2 * np.pi * f * t) / k for k, f in enumerate((140, 280, 560, 1120, 2240), 1))
    return (0.2 * envelope * voice + 0.01 * generator.standard_normal(n)).astype(np.float32)


def sound_of(seconds: float) -> Sound:
    return clip_sound(speech(min(seconds, 20.0)), 48_000, "speech", seconds)


@pytest.fixture(scope="module")
def dtln(exported: dict[str, Path]) -> Bundle:
    return Bundle.open(exported["dtln"])


@pytest.fixture(scope="module")
def yamnet(exported: dict[str, Path]) -> Bundle:
    return Bundle.open(exported["yamnet"])


def calibration(bundle: Bundle, low_ns: int, high_ns: int) -> Calibration:
    choice = choose(bundle)
    points = np.linspace(low_ns, high_ns, 200).astype(int).tolist()
    samples = bundle.manifest.buffer.samples
    entry = CalibrationEntry(
        bundle.path.name, choice.artefact.id, "0", choice.engine, "1", 1, samples, 8 * MS, points, points, 200, 200
    )
    return Calibration("hearpack-calibration/1", "made for a test", "0", [entry])


def usual(bundle: Bundle) -> Calibration:
    return (
        calibration(bundle, MS // 5, MS // 2)
        if bundle.manifest.task == "enhancer"
        else calibration(bundle, 9 * MS, 20 * MS)
    )


def probed(
    bundle: Bundle, settings: Settings, seconds: float, faults: tuple[str, ...] = (), runtime: Runtime | None = None
) -> tuple[Pipeline, RunRecord]:
    """A run with a probe for the net, the pipeline kept."""
    kept: list[Pipeline] = []
    settings = dataclasses.replace(settings, faults=tuple(map(parse_fault, faults)))
    record = simulate(
        bundle,
        sound_of(seconds),
        settings,
        runtime=runtime or ProbeRuntime(bundle.manifest),
        tick=lambda pipeline, now, total: kept.append(pipeline) if not kept else None,
    )
    return kept[0], record


def conserved(record: RunRecord) -> None:
    counts, playout = record.counts, record.playout
    assert counts.written == counts.read + counts.held + counts.dropped
    if playout is not None:
        assert playout.offered == playout.written + playout.dropped
        assert playout.written == playout.consumed + playout.held
    for ledger in record.ledger:
        assert sum(ledger.mean_parts.values()) == pytest.approx(ledger.total.mean)


@pytest.mark.parametrize("name", ["android-ragged", "android-burst-192", "iphone-tap"])
def test_enhancer_is_bit_equal_to_plain_calls(dtln: Bundle, name: str) -> None:
    """Two minutes through capture, ring and loop give what the artefact gives on the resampled signal, to the bit."""
    profile = load_profile(name)
    seconds = 120.0 if name == "android-burst-192" else 30.0
    sound = sound_of(seconds)
    settings = Settings(profile, calibration=usual(dtln), check=False)
    values, pipeline = streamed(dtln, sound, settings)
    first = next(device_callbacks(profile, sound.source, 0)).first_frame
    frames = sound.source.frames(profile.rate_hz)
    expected = [
        r.values for r in plain(dtln, sound.source.read(profile.rate_hz, first, frames - first), profile.rate_hz)
    ]
    assert pipeline.ring.dropped == 0
    assert np.array_equal(np.concatenate(values), np.concatenate(expected))


def test_classifier_is_bit_equal_to_plain_calls_and_tells_the_same_events(yamnet: Bundle) -> None:
    sound, profile = sound_of(90.0), load_profile("android-burst-192")
    settings = Settings(profile, calibration=usual(yamnet), check=False)
    values, pipeline = streamed(yamnet, sound, settings)
    first = next(device_callbacks(profile, sound.source, 0)).first_frame
    frames = sound.source.frames(profile.rate_hz)
    expected = plain(yamnet, sound.source.read(profile.rate_hz, first, frames - first), profile.rate_hz)
    assert np.array_equal(np.stack(values), np.stack([r.values for r in expected]))
    decisions = yamnet.manifest.decisions
    assert decisions is not None
    assert pipeline.event_stage is not None
    ends = np.array([r.end_sample for r in expected], np.int64)
    scores = np.stack([r.values for r in expected])
    heard = detect(decisions, yamnet.labels(), 16_000, ends, scores, pipeline.loop.in_samples)
    told = sorted((e.onset_sample, e.index, e.offset_sample, e.confidence) for e in pipeline.event_stage.events)
    assert told == [(e.onset_sample, e.index, e.offset_sample, e.confidence) for e in heard]
    assert len(told) > 0


def streamed(bundle: Bundle, sound: Sound, settings: Settings) -> tuple[list[np.ndarray], Pipeline]:
    runtime = open_runtime(bundle, choose(bundle))
    profile = settings.profile
    manifest = bundle.manifest
    recorders = no_recorders(10**9, 16_000)
    ring, prefill = default_ring(bundle, profile, "drop_oldest"), default_prefill(bundle, profile)
    pipeline = Pipeline(manifest, bundle.labels(), runtime, profile, "drop_oldest", ring, prefill, recorders)
    values: list[np.ndarray] = []
    pipeline.output_stage.on_values = lambda _end, v: values.append(v)
    compute = compute_model(settings, choose(bundle), manifest.buffer.samples)
    run_virtual(pipeline, device_stretches(profile, sound.source, 0), sound.source, compute)
    runtime.close()
    return values, pipeline


def plain(bundle: Bundle, samples: np.ndarray, rate: int) -> list:
    runtime = open_runtime(bundle, choose(bundle))
    resampler = Resampler(rate, bundle.manifest.geometry.sample_rate_hz)
    at_rate = np.concatenate([resampler.process(samples), resampler.flush()])
    results = run_loop(make_loop(bundle.manifest, runtime), at_rate)
    runtime.close()
    return results


@pytest.mark.parametrize("name", profile_names())
@pytest.mark.parametrize("kind", ["dtln", "yamnet"])
def test_ledger_agrees_with_a_measured_delay_on_every_profile(exported: dict[str, Path], kind: str, name: str) -> None:
    bundle, profile = Bundle.open(exported[kind]), load_profile(name)
    settings = Settings(profile, calibration=usual(bundle))
    choice, samples = choose(bundle), bundle.manifest.buffer.samples
    for policy in ("drop_oldest", "grow_delay"):
        check = check_delay(
            bundle.manifest,
            bundle.labels(),
            profile,
            compute_model(settings, choice, samples),
            policy,
            default_ring(bundle, profile, policy),
            default_prefill(bundle, profile),
            seed=5,
        )
        assert check is not None
        assert check.ledger_ns > 20 * MS
        assert check.passed, check
        if kind == "dtln":
            assert abs(check.mismatch_samples) < 0.1


@pytest.mark.parametrize("fault", ["stall@1:700ms", "dropout@1:80ms", "rate@1:16000hz", "capture_stall@1:300ms"])
@pytest.mark.parametrize("policy", ["drop_oldest", "grow_delay", "skip_hop"])
def test_ledger_agrees_after_losses_too(dtln: Bundle, fault: str, policy: str) -> None:
    """The pulse comes while the stream still suffers from what happened before, and when a grown delay was shrunk."""
    settings = Settings(PLAIN, calibration=usual(dtln))
    checks = [
        check_delay(
            dtln.manifest,
            (),
            PLAIN,
            compute_model(settings, choose(dtln), 128),
            policy,  # type: ignore[arg-type]
            4000,
            default_prefill(dtln, PLAIN),
            seed=1,
            faults=(parse_fault(fault),),
            at_s=at_s,
        )
        for at_s in ((6.0,) if policy == "grow_delay" else (2.0, 6.0))  # amid its cross-fades sound is blurred
    ]
    found = [c for c in checks if c is not None]
    assert found
    assert all(c.passed for c in found), found


def test_the_net_itself_is_as_late_as_the_ledger_says(dtln: Bundle, tmp_path: Path) -> None:
    """Cross-correlation of what was played with what was heard, the real net between them."""
    profile = dataclasses.replace(PLAIN, cold_input_ms=0.0, jitter_us=0.0)
    settings = Settings(profile, calibration=usual(dtln), check=False)
    record = simulate(dtln, sound_of(8.0), settings, output=tmp_path / "x.run")
    played, rate = soundfile.read(tmp_path / "x.run" / "output.wav", dtype="float32")
    heard = speech(8.0)
    lag = lag_samples(heard, played, 48_000 // 4)
    block = next(entry for entry in record.ledger if entry.kind == "block")
    route_ms = profile.output_latency_ms
    assert rate == profile.output_rate_hz
    assert abs(lag / 48.0 + route_ms - block.total.p50 / MS) < 1.5 / 48.0 + 0.2


def test_a_run_is_written_whole_and_reads_back(dtln: Bundle, tmp_path: Path) -> None:
    settings = Settings(load_profile("android-burst-192"), calibration=usual(dtln), seed=3)
    record = simulate(dtln, sound_of(4.0), settings, output=tmp_path / "x.run", command=("hearpack", "simulate"))
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
    settings = Settings(load_profile("iphone-sink"), calibration=usual(yamnet))
    record = simulate(yamnet, sound_of(10.0), settings, output=tmp_path / "x.run")
    scores = np.fromfile(tmp_path / "x.run" / "scores.f32", "<f4").reshape(-1, 521)
    ends = np.fromfile(tmp_path / "x.run" / "ends.i64", "<i8")
    assert len(scores) == len(ends) == record.counts.calls
    assert ends[0] == 15_600
    assert np.all(np.diff(ends) == 7680)
    assert record.playout is None
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
    settings = Settings(PLAIN, calibration=usual(dtln), policy=policy, check=False)  # type: ignore[arg-type]
    _, record = probed(dtln, settings, 8.0, (fault,))
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
        settings = Settings(PLAIN, calibration=usual(dtln), policy=policy, check=False, seed=2)  # type: ignore[arg-type]
        _, records[policy] = probed(dtln, settings, 20.0, ("stall@3:900ms",))
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
        from models.common.errors import ArtefactError

        if self._fails:
            raise ArtefactError("no")
        outputs, state = self._inner.step(block, state)
        return {k: v * np.float32(np.nan) for k, v in outputs.items()}, state


def test_a_net_that_always_fails_ends_cleanly(dtln: Bundle, tmp_path: Path) -> None:
    settings = Settings(PLAIN, calibration=usual(dtln), check=False)
    runtime = _Broken(ProbeRuntime(dtln.manifest), fails=True)
    record = simulate(dtln, sound_of(3.0), settings, runtime=runtime, output=tmp_path / "x.run")
    assert record.ended == "error"
    assert "5 times in a row" in record.message
    assert read_run(tmp_path / "x.run") == record
    conserved(record)


def test_a_net_that_gives_nan_is_silenced(dtln: Bundle) -> None:
    settings = Settings(PLAIN, calibration=usual(dtln), check=False)
    _, record = probed(dtln, settings, 2.0, runtime=_Broken(ProbeRuntime(dtln.manifest), fails=False))
    assert record.ended == "finished"
    assert {f.kind for f in record.faults} == {"nan_output"}


def test_interrupting_ends_with_a_record(dtln: Bundle, tmp_path: Path) -> None:
    def tick(pipeline: Pipeline, now_ns: int, total_ns: int) -> None:
        if now_ns > 1_000 * MS:
            raise KeyboardInterrupt

    settings = Settings(PLAIN, calibration=usual(dtln), check=False)
    record = simulate(dtln, sound_of(5.0), settings, tick=tick, output=tmp_path / "x.run")
    assert record.ended == "interrupted"
    assert 0.9 < record.simulated_s < 1.1
    assert read_run(tmp_path / "x.run") == record
    conserved(record)


@pytest.mark.parametrize("kind", ["dtln", "yamnet"])
def test_wall_clock_loses_nothing(exported: dict[str, Path], tmp_path: Path, kind: str) -> None:
    bundle = Bundle.open(exported[kind])
    profile = dataclasses.replace(load_profile("android-burst-192"), slowdown=1.0)
    lines = []

    def tick(pipeline: Pipeline, now_ns: int, total_ns: int) -> None:
        from hearpack.commands.live import live_line

        lines.append(live_line(pipeline, now_ns, total_ns))

    record = simulate(bundle, sound_of(2.5), Settings(profile, clock="wall"), output=tmp_path / "x.run", tick=tick)
    assert record.ended == "finished"
    assert record.counts.captured + record.counts.lost == round(2.5 * 48_000)
    assert record.counts.dropped == 0
    assert record.counts.calls == (record.counts.read - 24 + 24 + 384 + 127) // 128 if kind == "dtln" else 5
    assert record.compute[0].provenance == "measured"
    assert any("dBFS" in line for line in lines)
    assert read_run(tmp_path / "x.run") == record
    conserved(record)


def test_wall_clock_survives_stalls_and_failures(dtln: Bundle) -> None:
    faults = tuple(map(parse_fault, ("stall@0.5:300ms", "raise@1", "nan@1.2")))
    settings = Settings(PLAIN, clock="wall", faults=faults)
    record = simulate(dtln, sound_of(2.0), settings, runtime=ProbeRuntime(dtln.manifest))
    assert record.ended == "finished"
    assert record.counts.failed_calls == 1
    assert record.counts.nan_samples == 8
    assert record.counts.captured == 2 * 48_000
    conserved(record)


def test_capture_goes_on_while_the_net_computes(dtln: Bundle) -> None:
    """The third call does not return before twenty more callbacks have come: capture that waited for it would hang."""
    seen: list[Pipeline] = []
    waited: list[bool] = []

    class Slow(ProbeRuntime):
        calls = 0

        def step(self, block: np.ndarray, state: State) -> tuple[Outputs, State]:
            self.calls += 1
            if self.calls == 3:
                deadline = time.monotonic() + 20.0
                while not seen and time.monotonic() < deadline:
                    time.sleep(0.01)
                wanted = seen[0].input_stage.callbacks + 20
                while seen[0].input_stage.callbacks < wanted and time.monotonic() < deadline:
                    time.sleep(0.01)
                waited.append(seen[0].input_stage.callbacks >= wanted)
            return super().step(block, state)

    record = simulate(
        dtln,
        sound_of(2.0),
        Settings(PLAIN, clock="wall"),
        runtime=Slow(dtln.manifest),
        tick=lambda pipeline, now, total: seen.append(pipeline),
    )
    assert waited == [True]
    assert record.counts.misses > 0
    conserved(record)


def test_drift_is_corrected_without_underruns(dtln: Bundle) -> None:
    """Half a minute at 300 ppm each way: the rings' levels stay where they were."""
    for ppm in (-300.0, 300.0):
        profile = dataclasses.replace(PLAIN, output_clock_ppm=ppm, jitter_us=0.0)
        settings = Settings(profile, calibration=usual(dtln), check=False)
        _, record = probed(dtln, settings, 40.0)
        assert record.playout is not None
        assert record.playout.underruns == 0
        assert record.playout.dropped == 0
        assert np.sign(record.playout.adjust_ppm) == -np.sign(ppm)


def test_largest_slowdown_is_the_edge(dtln: Bundle) -> None:
    settings = Settings(load_profile("android-burst-192"), calibration=usual(dtln))
    sound = sound_of(6.0)
    found = search_limit(dtln, sound, settings, "slowdown")
    good, bad = found.figures["largest_slowdown"], found.figures["first_miss_at"]
    assert 2.0 < good < bad < 1.003 * good  # a hop is 8 ms, the longest call 0.5 ms
    assert found.figures["underruns_beyond"] + found.figures["misses_beyond"] > 0
    assert trouble(dtln, sound, dataclasses.replace(settings, slowdown=good)).clean
    assert not trouble(dtln, sound, dataclasses.replace(settings, slowdown=bad)).clean


def test_smallest_ring_and_prefill_are_edges(dtln: Bundle) -> None:
    settings = Settings(load_profile("iphone-tap"), calibration=usual(dtln))
    sound = sound_of(5.0)
    ring = int(search_limit(dtln, sound, settings, "ring").figures["smallest_ring_samples"])
    assert ring >= 1600  # a tap of 100 ms
    assert trouble(dtln, sound, dataclasses.replace(settings, ring_samples=ring)).dropped == 0
    assert trouble(dtln, sound, dataclasses.replace(settings, ring_samples=ring - 1)).dropped > 0
    prefill = int(search_limit(dtln, sound, settings, "prefill").figures["smallest_prefill_samples"])
    assert trouble(dtln, sound, dataclasses.replace(settings, prefill_samples=prefill)).underruns == 0
    assert trouble(dtln, sound, dataclasses.replace(settings, prefill_samples=prefill - 1)).underruns > 0


def test_a_gate_spares_silent_windows(yamnet: Bundle) -> None:
    from runtimes.stages import Gate

    manifest = yamnet.manifest.model_copy(update={"dsp": (Gate(kind="gate", threshold_dbfs=-50.0, hold_windows=0),)})
    bundle = Bundle(yamnet.path, manifest)
    quiet = np.concatenate([speech(4.0), np.zeros(48_000 * 6, np.float32)])
    settings = Settings(PLAIN, calibration=usual(yamnet), check=False)
    record = simulate(bundle, clip_sound(quiet, 48_000, "x"), settings, runtime=ProbeRuntime(manifest))
    assert 8 <= record.counts.gated_windows <= 12
    conserved(record)


def test_streams_are_what_the_whole_is(exported: dict[str, Path]) -> None:
    for kind in ("dtln", "yamnet"):
        bundle = Bundle.open(exported[kind])
        runtime = open_runtime(bundle, choose(bundle))
        parity = check_partitions(bundle.manifest, runtime, speech(3.0), 48_000, trials=6, seed=4)
        runtime.close()
        assert parity.equal
        assert any(t.reset_at != NONE for t in parity.trials)
        assert len({t.rate_hz for t in parity.trials}) == 5
        assert all(abs(t.edge_click_db) < 6.0 for t in parity.trials)


def test_a_click_at_the_edges_is_heard() -> None:
    tone = np.sin(np.arange(16_000) * 0.05).astype(np.float32)
    clicks = tone.copy()
    clicks[::128] += 0.05
    assert abs(edge_click_db(tone, 128)) < 1.0
    assert edge_click_db(clicks, 128) > 20.0


def test_a_forgetful_net_is_found(dtln: Bundle) -> None:
    class Forgetful(ProbeRuntime):
        calls = 0

        def step(self, block: np.ndarray, state: State) -> tuple[Outputs, State]:
            self.calls += 1
            return super().step(block, self.reset() if self.calls == 50 else state)

    parity = check_partitions(dtln.manifest, Forgetful(dtln.manifest), speech(2.0), 48_000, trials=1, seed=0)
    assert not parity.equal
    assert parity.trials[0].first_diverging >= 0
    assert parity.trials[0].error_db < 100.0


def test_bad_input(dtln: Bundle, yamnet: Bundle, tmp_path: Path) -> None:
    settings = Settings(PLAIN, calibration=usual(dtln))
    with pytest.raises(AudioError, match="shorter than one hop"):
        simulate(dtln, clip_sound(speech(0.005), 48_000, "x"), settings)
    with pytest.raises(AudioError, match="shorter than one hop"):
        simulate(yamnet, clip_sound(speech(0.1), 48_000, "x"), Settings(PLAIN, calibration=usual(yamnet)))
    with pytest.raises(UsageError, match="cannot hold"):
        simulate(yamnet, sound_of(3.0), Settings(PLAIN, calibration=usual(yamnet), ring_samples=100))
    with pytest.raises(UsageError, match="a calibration or a fixed time"):
        simulate(dtln, sound_of(1.0), Settings(PLAIN))
    (tmp_path / "x.run").mkdir()
    (tmp_path / "x.run" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="not a run"):
        simulate(dtln, sound_of(1.0), settings, output=tmp_path / "x.run")
    assert (tmp_path / "x.run" / "mine").read_text() == "mine"


def test_profiles_of_the_users_own_run(dtln: Bundle) -> None:
    profile: DeviceProfile = dataclasses.replace(PLAIN, rate_hz=22_050, block_frames=(100, 300))
    _, record = probed(dtln, Settings(profile, calibration=usual(dtln)), 2.0)
    assert record.delay_check is not None
    assert record.delay_check.passed


def test_callbacks_of_another_source_are_taken(dtln: Bundle) -> None:
    """One callback a second: blocks far longer than a hop."""
    sound = sound_of(4.0)
    blocks = [Callback((i + 1) * 1000 * MS, 48_000, 48_000, i * 48_000, i * 1000 * MS, 0, "") for i in range(4)]
    settings = Settings(PLAIN, calibration=usual(dtln), ring_samples=20_000, check=False)
    record = simulate(dtln, sound, settings, runtime=ProbeRuntime(dtln.manifest), callbacks=iter(blocks))
    assert record.counts.dropped == 0
    assert record.counts.callbacks == 4
    conserved(record)


def test_fault_objects_are_what_the_texts_say() -> None:
    assert parse_fault("stall@1:20ms").end_ns == Fault("stall", 1.0, 20.0).end_ns == 1_020 * MS
