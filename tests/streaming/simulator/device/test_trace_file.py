"""Device traces: the apps' fixtures are read, a made trace is replayed and fitted, broken ones are one clear line."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.errors import UsageError
from runtimes.bundle import Bundle
from runtimes.engines import choose
from streaming.measure.calibration import Calibration, CalibrationEntry
from streaming.simulator.delay_check import ProbeRuntime
from streaming.simulator.device.profile import DeviceProfile, load_profile, parse_profile
from streaming.simulator.device.trace_file import read_trace
from streaming.simulator.fit import FittedProfile, fit_profile, to_toml
from streaming.simulator.pipeline.output import Call
from streaming.simulator.pipeline.pipeline import Observer
from streaming.simulator.replay import replay_run
from streaming.simulator.scenario import Scenario, Settings, clip_sound

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "device_trace"
START_NS = 700_000_000
MS = 1_000_000


def calibration(bundle: Bundle) -> Calibration:
    choice = choose(bundle)
    points = np.rint(300_000 * np.exp(0.2 * np.linspace(-2, 2, 500))).astype(int).tolist()
    entry = CalibrationEntry(
        bundle.path.name, choice.artefact.id, "0", choice.engine, "1", 1, 128, 8 * MS, points, [], 500, 0
    )
    return Calibration("hearpack-calibration/1", "made for a test", "0", [entry])


def recorded(
    bundle: Bundle, profile: DeviceProfile, seconds: float, seed: int, hardware: bool = True
) -> dict[str, Any]:
    """The trace that a device of this profile would write: the simulator plays the device."""
    manifest = bundle.manifest
    sound = clip_sound(np.zeros(profile.rate_hz, np.float32), profile.rate_hz, "silence", seconds)
    scenario = Scenario(bundle, sound, profile, Settings(seed=seed, calibration=calibration(bundle)))
    plan = list(scenario.callbacks())
    calls: list[Call] = []
    pipeline = scenario.pipeline(ProbeRuntime(manifest), observer=Observer(on_call=calls.append))
    scenario.run_virtual(pipeline, callbacks=plan)
    in_samples = pipeline.in_samples
    callbacks = []
    for c in plan:
        row = {"time_ns": START_NS + c.time_ns, "frames": c.frames}
        if hardware:
            row |= {"hardware_time_ns": START_NS + c.captured_ns, "hardware_frame": c.first_frame}
        if c.rate_hz != profile.rate_hz:
            row["rate_hz"] = c.rate_hz
        callbacks.append(row)
    inferences = [{"begin_ns": START_NS - 9 * MS, "end_ns": START_NS - 5 * MS, "end_sample": 0, "warm_up": True}]
    inferences += [
        {"begin_ns": START_NS + c.start_ns, "end_ns": START_NS + c.end_ns, "end_sample": c.end}
        for c in calls
        if c.end <= in_samples
    ]
    trace: dict[str, Any] = json.loads((FIXTURES / "android.json").read_text())
    trace["callbacks"], trace["inferences"], trace["gaps"] = callbacks, inferences, []
    trace["bundle"] |= {"name": manifest.name, "buffer_samples": manifest.buffer.samples, "artefact_id": "litert-fp32"}
    trace["audio"]["granted"]["rate_hz"] = profile.rate_hz
    trace["cold_start"] |= {"capture_begin_ns": START_NS, "first_callback_ns": callbacks[0]["time_ns"]}
    trace["routes"] = [{"time_ns": START_NS, "input": "built_in", "rate_hz": profile.rate_hz}]
    trace["end"] |= {"callbacks": len(callbacks), "inferences": len(inferences)}
    return trace


def written(tmp_path: Path, trace: dict[str, Any]) -> Path:
    file = tmp_path / "trace.json"
    file.write_text(json.dumps(trace))
    return file


DEVICE = dataclasses.replace(
    load_profile("android-burst-192"),
    slowdown=4.0,
    jitter_us=600.0,
    scheduling_delay_us=300.0,
    input_latency_ms=9.0,
    late_per_minute=6.0,
    late_ms=40.0,
    cold_input_ms=0.0,
    output_clock_ppm=0.0,
)


def test_a_packed_trace_is_read_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    plain, packed = FIXTURES / "android.json", tmp_path / "android.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_trace(packed) == read_trace(plain)
    for data, message in ((packed.read_bytes()[:-20], "cut off"), (plain.read_bytes(), "no gzip file")):
        packed.write_bytes(data)
        with pytest.raises(UsageError, match=message):
            read_trace(packed)


@pytest.mark.parametrize("name", ["android", "ios"])
def test_the_apps_fixtures_are_read(name: str) -> None:
    trace = read_trace(FIXTURES / f"{name}.json")
    plan = trace.plan()
    assert len(plan) > 1
    assert all(b.time_ns > a.time_ns for a, b in itertools.pairwise(plan))
    assert all(c.time_ns >= 0 for c in plan)
    assert len(trace.completed_ns()) == len(trace.calls) > 0
    assert trace.duration_s > 0


@pytest.mark.parametrize("hardware", [True, False])
def test_fit_finds_the_device_again(dtln: Bundle, tmp_path: Path, hardware: bool) -> None:
    trace = read_trace(written(tmp_path, recorded(dtln, DEVICE, 60.0, seed=8, hardware=hardware)))
    fitted = fit_profile(trace, dtln, calibration(dtln), "mine", load_profile("this-machine"))
    found = fitted.profile
    assert found.slowdown == pytest.approx(4.0, rel=0.03)
    assert (found.rate_hz, found.block_frames) == (48_000, (192, 192))
    assert found.jitter_us == pytest.approx(600.0, rel=0.15)
    assert found.wakeup_us == pytest.approx(50.0, abs=10.0)
    assert 3.0 <= found.late_per_minute <= 9.0
    assert found.late_ms == pytest.approx(40.0, rel=0.1)
    assert found.throttle == ((0.0, 1.0),)
    if hardware:
        assert found.input_latency_ms + found.scheduling_delay_us / 1000.0 == pytest.approx(9.3, abs=0.1)
    errors = {p.figure: p.error for p in fitted.predictions}
    assert abs(errors["compute p50"]) < 0.05
    assert abs(errors["compute p95"]) < 0.05
    assert abs(errors["callback interval p50"]) < 0.05
    assert abs(errors["wait p50"]) < 0.25


def test_a_fitted_profile_is_a_profile(dtln: Bundle, tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, recorded(dtln, DEVICE, 10.0, seed=8)))
    fitted = fit_profile(trace, dtln, calibration(dtln), "mine", load_profile("this-machine"))
    again = parse_profile(fitted.toml, "mine", "mine.toml")
    assert again == fitted.profile
    sources = again.record().figures
    assert sources["slowdown"].source.startswith("fitted from a trace of Google Pixel 8")
    assert sources["output_latency_ms"].source.startswith("assumption")
    with_changes = dataclasses.replace(load_profile("airpods"), throttle=((0.0, 1.0), (9.5, 1.25)))
    with_changes = dataclasses.replace(with_changes, sources={**with_changes.sources, "throttle": "assumption"})
    assert parse_profile(to_toml(with_changes), "airpods", "x") == with_changes


def test_throttling_is_seen(dtln: Bundle, tmp_path: Path) -> None:
    hot = dataclasses.replace(DEVICE, throttle=((0.0, 1.0), (20.0, 1.0), (40.0, 2.0)))
    trace = read_trace(written(tmp_path, recorded(dtln, hot, 60.0, seed=3)))
    found = fit_profile(trace, dtln, calibration(dtln), "hot", load_profile("this-machine")).profile
    assert found.slowdown == pytest.approx(4.0, rel=0.03)
    assert found.throttle[0][1] == pytest.approx(1.0, abs=0.05)
    assert found.throttle[-1][1] == pytest.approx(2.0, rel=0.05)


def test_losses_and_rate_changes_are_seen(dtln: Bundle, tmp_path: Path) -> None:
    from streaming.simulator.device.profile import RateChange

    lossy = dataclasses.replace(
        DEVICE, dropouts_per_hour=1200.0, dropout_ms=15.0, rate_changes=(RateChange(20.0, 16_000, 0.0),)
    )
    trace = read_trace(written(tmp_path, recorded(dtln, lossy, 40.0, seed=3)))
    found = fit_profile(trace, dtln, calibration(dtln), "lossy", load_profile("this-machine")).profile
    assert 500 < found.dropouts_per_hour < 2500
    assert found.dropout_ms == pytest.approx(15.0, rel=0.05)
    assert [c.rate_hz for c in found.rate_changes] == [16_000]
    assert found.rate_changes[0].at_s == pytest.approx(20.0, abs=0.1)


def fit(dtln: Bundle, tmp_path: Path, trace: dict[str, Any]) -> FittedProfile:
    return fit_profile(
        read_trace(written(tmp_path, trace)), dtln, calibration(dtln), "mine", load_profile("this-machine")
    )


def test_what_no_trace_told_is_an_assumption(dtln: Bundle, tmp_path: Path) -> None:
    found = fit(dtln, tmp_path, recorded(dtln, DEVICE, 20.0, seed=4, hardware=False)).profile
    assert found.input_latency_ms == load_profile("this-machine").input_latency_ms
    assert found.sources["input_latency_ms"].startswith("assumption")
    assert "for want of time stamps" in found.sources["scheduling_delay_us"]
    assert "for want of the hardware's frame counter" in found.sources["dropouts_per_hour"]
    assert "output_clock_ppm" not in found.sources or not found.sources["output_clock_ppm"].startswith("fitted")
    told = fit(dtln, tmp_path, recorded(dtln, DEVICE, 20.0, seed=4)).profile
    assert told.sources["input_latency_ms"].startswith("fitted from a trace")


def test_a_rate_change_keeps_its_gap_and_its_block(dtln: Bundle, tmp_path: Path) -> None:
    from streaming.simulator.device.profile import RateChange

    switching = dataclasses.replace(DEVICE, rate_changes=(RateChange(10.0, 16_000, 640.0, (320, 320)),))
    fitted = fit(dtln, tmp_path, recorded(dtln, switching, 30.0, seed=5))
    (change,) = fitted.profile.rate_changes
    assert change.gap_ms == pytest.approx(640.0, abs=15.0)
    assert change.at_s == pytest.approx(10.0, abs=0.02)
    assert change.block_frames == (320, 320)
    assert fitted.profile.block_frames == (192, 192)
    errors = {p.figure: p.error for p in fitted.predictions}
    assert abs(errors["callback interval p50"]) < 0.05
    assert parse_profile(fitted.toml, "mine", "mine.toml") == fitted.profile


@pytest.mark.parametrize("hardware", [True, False])
@pytest.mark.parametrize("ppm", [-200.0, 0.0, 200.0])
def test_the_capture_clock_is_told(dtln: Bundle, tmp_path: Path, ppm: float, hardware: bool) -> None:
    trace = recorded(dtln, DEVICE, 60.0, seed=6, hardware=hardware)
    for row in trace["callbacks"] + trace["inferences"]:
        for key in ("time_ns", "hardware_time_ns", "begin_ns", "end_ns"):
            if key in row:
                row[key] = START_NS + round((row[key] - START_NS) * (1.0 - ppm * 1e-6))
    found = fit(dtln, tmp_path, trace).profile
    assert found.output_clock_ppm == pytest.approx(-ppm, abs=10.0)
    if ppm:
        assert found.sources["output_clock_ppm"].startswith("assumption: the output runs by the system's clock")


def test_what_the_profile_does_not_predict_is_said(dtln: Bundle, tmp_path: Path) -> None:
    trace = recorded(dtln, DEVICE, 20.0, seed=7)
    assert fit(dtln, tmp_path, trace).verdict == "predicts callback interval, compute and wait"
    for row in trace["inferences"][1::8]:
        row["begin_ns"], row["end_ns"] = row["begin_ns"] + 90 * MS, row["end_ns"] + 90 * MS
    trace["inferences"][1:] = sorted(trace["inferences"][1:], key=lambda row: row["begin_ns"])
    assert "does not predict wait (wait p95" in fit(dtln, tmp_path, trace).verdict


def test_a_trace_of_another_file_is_warned_of(dtln: Bundle, tmp_path: Path) -> None:
    trace = recorded(dtln, DEVICE, 10.0, seed=8)
    trace["bundle"]["artefact_sha256"] = dtln.artefact("litert-fp32").files[0].sha256
    assert fit(dtln, tmp_path, trace).warnings == ()
    trace["bundle"]["artefact_sha256"] = "0" * 64
    (warning,) = fit(dtln, tmp_path, trace).warnings
    assert "the device ran another litert-fp32" in warning


def test_a_replay_is_what_was_recorded(dtln: Bundle, tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, recorded(dtln, DEVICE, 10.0, seed=2)))
    sound = clip_sound(np.zeros(48_000, np.float32), 48_000, "silence", trace.duration_s)
    record = replay_run(Scenario(dtln, sound, load_profile("this-machine")), trace, tmp_path / "x.run")
    assert record.counts.callbacks == len(trace.callbacks)
    assert record.counts.captured == 10 * 48_000
    assert record.compute[0].provenance == "measured"
    times = sorted(c.end_ns - c.begin_ns for c in trace.calls)
    assert record.compute[0].quantiles.max == times[-1]
    for what in ("wait_p50", "wait_p95", "delay_p50", "delay_p95"):  # late begins are played, too
        assert record.search[f"recorded_{what}_ns"] == pytest.approx(record.search[f"replayed_{what}_ns"], rel=0.02)
    assert record.search["recorded_wait_p50_ns"] >= 50_000
    assert (tmp_path / "x.run" / "run.json").is_file()


def test_calls_beyond_the_callbacks_kept_do_not_seem_late(dtln: Bundle, tmp_path: Path) -> None:
    """A recorder whose room for callbacks ends before that for calls: no call waits for the last callback kept."""
    whole = read_trace(written(tmp_path, recorded(dtln, DEVICE, 20.0, seed=2)))
    data = recorded(dtln, DEVICE, 20.0, seed=2)
    data["callbacks"] = data["callbacks"][: len(data["callbacks"]) // 2]
    data["end"]["callbacks"] = len(data["callbacks"])
    short = read_trace(written(tmp_path, data))
    assert len(short.calls) == len(whole.calls)
    waits, delays = short.delays_ns()
    assert 0.4 * len(whole.calls) < len(waits) == len(delays) < 0.6 * len(whole.calls)
    assert waits.tolist() == whole.delays_ns()[0][: len(waits)].tolist()
    sound = clip_sound(np.zeros(48_000, np.float32), 48_000, "silence", short.duration_s)
    search = replay_run(Scenario(dtln, sound, load_profile("this-machine")), short).search
    assert search["recorded_delay_p95_ns"] < 200 * MS
    fitted = fit_profile(short, dtln, calibration(dtln), "x", load_profile("this-machine"))
    assert max(p.recorded for p in fitted.predictions if p.figure.startswith("wait")) < 200 * MS


def cut(trace: dict[str, Any]) -> str:
    return json.dumps(trace)[: len(json.dumps(trace)) // 2]


def without_end(trace: dict[str, Any]) -> str:
    del trace["end"]
    return json.dumps(trace)


def fewer(trace: dict[str, Any]) -> str:
    trace["callbacks"].pop()
    return json.dumps(trace)


def disordered(trace: dict[str, Any]) -> str:
    trace["callbacks"].reverse()
    return json.dumps(trace)


def backwards(trace: dict[str, Any]) -> str:
    trace["inferences"][0]["end_ns"] = 0
    return json.dumps(trace)


def negative(trace: dict[str, Any]) -> str:
    trace["callbacks"][0]["frames"] = -1
    return json.dumps(trace)


def hurried(trace: dict[str, Any]) -> str:
    first = trace["callbacks"][0]
    trace["callbacks"] = [{**first, "time_ns": first["time_ns"] + i * 10_000, "frames": 4800} for i in range(20)]
    trace["end"]["callbacks"] = 20
    return json.dumps(trace)


def endless(trace: dict[str, Any]) -> str:
    trace["callbacks"][-1]["hardware_frame"] = 2**50
    return json.dumps(trace)


def giant(trace: dict[str, Any]) -> str:
    trace["callbacks"][0]["frames"] = 10**12
    return json.dumps(trace)


def far(trace: dict[str, Any]) -> str:
    trace["inferences"][-1]["end_ns"] = 10**18
    return json.dumps(trace)


def newer(trace: dict[str, Any]) -> str:
    trace["schema"] = "hearpack-trace/2"
    return json.dumps(trace)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "not JSON"),
        (without_end, "cut off"),
        (fewer, "its end promises"),
        (disordered, "not in order"),
        (backwards, "ends before it begins"),
        (negative, "callbacks.0.frames"),
        (hurried, "not recorded in real time"),
        (endless, "expected at most 86400"),
        (giant, "callbacks.0.frames"),
        (far, "end_ns"),
        (newer, "schema 'hearpack-trace/1'"),
        (lambda _: "[]", "schema 'hearpack-trace/1'"),
    ],
)
def test_broken_traces(tmp_path: Path, damage: Callable[[dict[str, Any]], str], message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(damage(json.loads((FIXTURES / "android.json").read_text())))
    with pytest.raises(UsageError) as caught:
        read_trace(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_traces_that_make_no_profile(dtln: Bundle, tmp_path: Path) -> None:
    good = recorded(dtln, DEVICE, 2.0, seed=1)
    like = load_profile("this-machine")

    def fitting(change: Callable[[dict[str, Any]], object]) -> str:
        trace = json.loads(json.dumps(good))
        change(trace)
        with pytest.raises(UsageError) as caught:
            fit_profile(read_trace(written(tmp_path, trace)), dtln, calibration(dtln), "x", like)
        return str(caught.value)

    assert "emulator" in fitting(lambda t: t["device"].update(emulated=True))
    assert "debug build" in fitting(lambda t: t["app"].update(build="debug"))
    assert "the bundle is dtln with 128" in fitting(lambda t: t["bundle"].update(buffer_samples=512))

    def short(trace: dict[str, Any]) -> None:
        trace["inferences"] = trace["inferences"][:5]
        trace["end"]["inferences"] = 5

    assert "at least 20 and 20" in fitting(short)


def summed(data: dict[str, Any], head: int, per_row: int) -> dict[str, Any]:
    """The trace as a recorder writes it that keeps `head` rows at both ends and sums those between."""
    data = json.loads(json.dumps(data))
    rows = data["callbacks"]
    middle = rows[head : len(rows) - head]
    between = [middle[k : k + per_row] for k in range(0, len(middle), per_row)]
    joined = [
        {**g[0], "frames": sum(r["frames"] for r in g), "count": len(g), "last_time_ns": g[-1]["time_ns"]}
        for g in between
    ]
    data["callbacks"] = rows[:head] + joined + rows[len(rows) - head :]
    calls = data["inferences"]
    middle = calls[head : len(calls) - head]
    groups = [middle[k : k + per_row] for k in range(0, len(middle), per_row)]
    made = []
    for g in groups:
        times = [c["end_ns"] - c["begin_ns"] for c in g]
        row = {**g[0], "end_sample": g[-1]["end_sample"], "count": len(g), "last_end_ns": g[-1]["end_ns"]}
        made.append(row | {"busy_ns": sum(times), "longest_ns": max(times)})
    data["inferences"] = calls[:head] + made + calls[len(calls) - head :]
    return data


def test_a_long_trace_s_summed_rows_are_taken_apart(exported: dict[str, Path], tmp_path: Path) -> None:
    bundle, profile = Bundle.open(exported["dtln"]), load_profile("android-burst-192")
    whole = recorded(bundle, profile, 20.0, 3)
    paths = {name: tmp_path / f"{name}.json" for name in ("whole", "short")}
    paths["whole"].write_text(json.dumps(whole), encoding="utf-8")
    paths["short"].write_text(json.dumps(summed(whole, 900, 64)), encoding="utf-8")
    a, b = (read_trace(path) for path in paths.values())
    assert len(b.callbacks) == len(a.callbacks) == b.end.callbacks
    assert sum(not c.exact for c in b.callbacks) > 1000
    assert sum(c.frames for c in b.callbacks) == sum(c.frames for c in a.callbacks)
    assert [c.hardware_frame for c in b.callbacks] == [c.hardware_frame for c in a.callbacks]
    assert [c.end_sample for c in b.calls] == [c.end_sample for c in a.calls]
    assert b.duration_s == pytest.approx(a.duration_s, abs=0.01)
    assert abs(sum(c.end_ns - c.begin_ns for c in b.calls) - sum(c.end_ns - c.begin_ns for c in a.calls)) < 100_000
    first, second = (
        fit_profile(t, bundle, calibration(bundle), "phone", load_profile("this-machine")).profile for t in (a, b)
    )
    assert second.jitter_us == pytest.approx(first.jitter_us, rel=0.15)
    assert second.slowdown == pytest.approx(first.slowdown, rel=0.1)
    assert second.block_frames == first.block_frames


def test_a_trace_that_stands_for_too_much_is_refused(tmp_path: Path) -> None:
    data = json.loads((FIXTURES / "android.json").read_text(encoding="utf-8"))
    data["callbacks"][3] |= {"count": 2**52, "last_time_ns": data["callbacks"][4]["time_ns"]}
    path = tmp_path / "long.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UsageError, match=r"expected at most 1000000, which is about an hour"):
        read_trace(path)
