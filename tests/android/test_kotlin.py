"""Every Kotlin test as a test of its own; they ran in one JVM, with real inference through libLiteRt.so."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from runtimes.bundle import Bundle
from runtimes.engines import choose
from streaming.measure.calibration import Calibration, CalibrationEntry
from streaming.simulator.device.profile import load_profile
from streaming.simulator.device.trace_file import read_trace
from streaming.simulator.fit import fit_profile
from streaming.simulator.replay import replay_run
from streaming.simulator.scenario import Scenario, clip_sound
from tools.android import jvm, parts, reference, toolchain


@pytest.mark.parametrize("name", jvm.test_names())
def test_kotlin(kotlin: jvm.KotlinRun, name: str) -> None:
    assert name in kotlin.outcomes, "the JVM did not report this test"
    assert not kotlin.outcomes[name], kotlin.outcomes[name]


def test_no_kotlin_test_ran_that_pytest_does_not_know(kotlin: jvm.KotlinRun) -> None:
    assert sorted(kotlin.outcomes) == sorted(jvm.test_names())
    assert len(kotlin.outcomes) > 60


@pytest.mark.slow
def test_a_whole_hour_of_every_profile(tools: toolchain.Toolchain, tmp_path: Path) -> None:
    reference.write({}, tmp_path / "given")
    run = jvm.run_tests(tools, tmp_path / "given", "HourTest.kt", seconds="3600")
    assert len(run.outcomes) >= 5
    assert not any(run.outcomes.values()), run.outcomes


@pytest.mark.parametrize("name", ["session", "yamnet"])
def test_a_trace_that_kotlin_wrote_is_valid(kotlin: jvm.KotlinRun, name: str) -> None:
    schema = json.loads((parts.ROOT / "docs" / "device-trace.schema.json").read_text(encoding="utf-8"))
    trace = json.loads((kotlin.folder / "traces" / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(trace)
    assert trace["end"]["callbacks"] == len(trace["callbacks"]) > 100
    frames = {"session": 4000, "yamnet": 480_000}[name]
    assert sum(c["frames"] for c in trace["callbacks"]) == frames


def test_the_device_profile_reads_a_trace_that_kotlin_wrote(kotlin: jvm.KotlinRun) -> None:
    trace = read_trace(kotlin.folder / "traces" / "yamnet.json")
    assert trace.bundle.name == "yamnet"
    assert sum(c.frames for c in trace.callbacks) == 480_000
    assert len(trace.calls) == 20


def test_a_trace_that_kotlin_wrote_is_replayed_and_fitted(
    kotlin: jvm.KotlinRun, exported: dict[str, Path], tmp_path: Path
) -> None:
    bundle = Bundle.open(exported["yamnet"])
    written = json.loads((kotlin.folder / "traces" / "yamnet.json").read_text(encoding="utf-8"))
    for callback in written["callbacks"]:  # the fake microphone's hardware clock is not the system's
        del callback["hardware_time_ns"], callback["hardware_frame"]
    (tmp_path / "trace.json").write_text(json.dumps(written), encoding="utf-8")
    trace = read_trace(tmp_path / "trace.json")
    sound = clip_sound(np.zeros(48_000, np.float32), 48_000, "silence", trace.duration_s)
    record = replay_run(Scenario(bundle, sound, load_profile("this-machine")), trace)
    assert (record.counts.calls, record.counts.dropped) == (20, 0)
    assert record.counts.captured == 480_000
    choice = choose(bundle)
    points = [2_000_000 + 10_000 * k for k in range(20)]
    entry = CalibrationEntry(
        bundle.path.name, choice.artefact.id, "0", choice.engine, "1", 1, 15_600, 480_000_000, points, [], 20, 0
    )
    calibration = Calibration("hearpack-calibration/1", "made for a test", "0", [entry])
    fitted = fit_profile(trace, bundle, calibration, "phone", load_profile("this-machine"))
    (tmp_path / "phone.toml").write_text(fitted.toml, encoding="utf-8")
    found = load_profile(str(tmp_path / "phone.toml"))
    assert (found.rate_hz, found.block_frames) == (48_000, (192, 192))
    assert found.slowdown > 0
