"""TOML and JSON of users and of hearpack's own tools: geometry, devices, budgets, traces, runs, cold starts, advice."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.bundles import FIXTURES, make_bundle
from tests.fuzz.kinds import Kind
from tests.fuzz.mutate import damage_bytes, damage_json, damage_text

ROOT = FIXTURES.parents[1]
_BUDGET = """[budget]
size_mb = 2.0
delay_ms = 120.0
misses = 3
lost_samples = 0
compute_p99_ms = 4.0
rtf = 0.5
"""


def _make_toml(folder: Path) -> None:
    for name in ("step", "logmel", "waveform", "mfcc", "listener"):
        shutil.copytree(FIXTURES / "custom" / name, folder / name)
    for file in (ROOT / "streaming" / "simulator" / "device" / "profiles").glob("*.toml"):
        shutil.copyfile(file, folder / file.name)
    (folder / "budget.toml").write_text(_BUDGET)


def _read_toml(folder: Path, _random: Random) -> None:
    from models.custom.geometry_toml import parse, read_toml
    from streaming.advice.budget import read_budget
    from streaming.simulator.device.profile import load_profile

    for file in sorted(folder.rglob("*.toml")):
        if file.name == "geometry.toml":
            parse(read_toml(file), str(file), "net")
        elif file.name == "budget.toml":
            read_budget(file)
        else:
            load_profile(file)


def _make_trace(folder: Path) -> None:
    from streaming.measure.calibration import Calibration, CalibrationEntry

    make_bundle(folder / "tiny-256.hearpack")
    for name in ("android", "ios"):
        data = json.loads((FIXTURES / "device_trace" / f"{name}.json").read_text())
        data["bundle"] |= {"name": "tiny", "buffer_samples": 256, "artefact_id": "litert-fp32"}
        (folder / f"{name}.json").write_text(json.dumps(data))
    points = [200_000 + 1_000 * n for n in range(50)]
    figures = (1, 256, 16_000_000, points, points, 50, 50)
    entries = [
        CalibrationEntry("tiny-256.hearpack", "litert-fp32", "0", engine, "1", *figures)
        for engine in ("litert-interpreter", "litert-compiled")
    ]
    Calibration("hearpack-calibration/1", "made for a test", "0", entries).save(folder / "calibration.json")


def _read_trace(folder: Path, random: Random) -> None:
    from models.common.errors import HearpackError
    from streaming.measure.calibration import read_calibration
    from streaming.simulator.device.profile import parse_profile
    from streaming.simulator.device.trace_file import read_trace
    from streaming.simulator.fit import fit_device, to_toml
    from streaming.simulator.modes import Replay, Simulate
    from streaming.simulator.simulate import simulate

    read_calibration(folder / "calibration.json")
    for name in ("android", "ios"):
        read_trace(folder / f"{name}.json")
    if random.random() > 0.1:
        return
    bundle, calibration = folder / "tiny-256.hearpack", folder / "calibration.json"
    simulate(bundle, Simulate(audio=folder / "sound.wav", calibration=calibration, seconds=0.3))
    for name in ("android", "ios"):
        try:
            fitted = fit_device(folder / f"{name}.json", bundle, calibration=calibration)
        except HearpackError:
            pass
        else:
            parse_profile(to_toml(fitted), "fitted", "fitted")
        simulate(bundle, Replay(trace=folder / f"{name}.json", audio=folder / "sound.wav", seconds=0.3))


def _make_run(folder: Path) -> None:
    from streaming.files.wav import write_wav
    from streaming.runs.record import LEDGER_COLUMNS, PARTS
    from tests.streaming.conftest import RATE, made_up

    (folder / "budget.toml").write_text(_BUDGET.replace("size_mb = 2.0\n", ""))
    for name, task in (("a", "classifier"), ("b", "classifier"), ("c", "enhancer")):
        record, ledger = made_up(task, 1 + (name == "b"), 2.0)  # type: ignore[arg-type]
        run = folder / f"{name}.run"
        run.mkdir()
        (run / "run.json").write_text(record.dump())
        lines = [",".join(LEDGER_COLUMNS)]
        for index, total in enumerate(ledger["totals"][:40]):
            parts = ",".join(str(int(ledger[part][index])) for part in PARTS)
            lines.append(f"{ledger['kind']},{index},{index * record.hop_samples},0,{parts},{int(total)}")
        (run / "ledger.csv").write_text("\n".join(lines) + "\n")
        write_wav(run / "heard.wav", (0.1 * np.sin(np.arange(RATE))).astype(np.float32), RATE, "PCM_16")
        if task == "classifier":
            (run / "ends.i64").write_bytes((15600 + 7680 * np.arange(40)).astype("<i8").tobytes())
            scores = np.random.default_rng(1).random((40, 6))
            (run / "scores.f32").write_bytes(scores.astype("<f4").tobytes())


def _read_runs(folder: Path, random: Random) -> None:
    from models.common.errors import HearpackError
    from streaming.advice.budget_figures import gate
    from streaming.report.write import report

    runs = ("c",) if random.random() < 0.2 else ("a", "b")
    for name in runs:
        with contextlib.suppress(HearpackError):
            gate(folder / f"{name}.run", folder / "budget.toml").save(folder / "junit.xml")
    report(*(folder / f"{name}.run" for name in runs), output=folder / "page.html", data=folder / "data.json")


_RUN_FILES = (
    *(("a.run/run.json", damage_json),) * 5,
    *(("c.run/run.json", damage_json),) * 3,
    *(("a.run/ledger.csv", damage_text),) * 2,
    *((f"a.run/{name}", damage_bytes) for name in ("ends.i64", "scores.f32", "heard.wav")),
)


def _make_cold_start(folder: Path) -> None:
    from streaming.measure.cold_start import ColdRun, ColdStart, Condition

    names = ("interpreter", "imports", "bundle_opened", "file_mapped", "file_checked", "model_loaded", "ready")

    def run(number: int) -> ColdRun:
        return ColdRun(
            stages=tuple((name, 10.0 * at + number) for at, name in enumerate(names, start=1)),
            calls_ms=(3.0, *(1.0 + 0.1 * number,) * 9),
            first_decision_ms=100.0 + number,
            ready_cpu_ms=60.0,
            ready_memory_bytes=50_000_000,
            peak_memory_bytes=60_000_000,
            resident_before=0.0,
        )

    for engine, weights in (("litert-compiled", ("cold", "warm")), ("litert-interpreter", ("none",))):
        conditions = tuple(
            Condition(page_cache=pages, weight_cache=cache, runs=tuple(map(run, range(6))))  # type: ignore[arg-type]
            for pages in ("cold", "warm")
            for cache in weights
        )
        start = ColdStart(
            hearpack="0",
            bundle="b",
            artefact="a",
            engine=engine,
            runtime="r",
            machine="m",
            sample_rate_hz=16_000,
            buffer_samples=256,
            hop_samples=256,
            conditions=conditions,
            limits=("none",),
        )
        start.save(folder / f"{engine}.json")
    (folder / "budget.toml").write_text("[budget]\ncold_start_ms = 90.0\nfirst_decision_ms = 90\nmemory_mb = 70\n")
    make_bundle(folder / "tiny-256.hearpack")


def _read_cold_starts(folder: Path, _random: Random) -> None:
    from hearpack.commands.coldstart import show
    from streaming.measure.cold_start import read_cold_start
    from streaming.report.write import report

    files = [folder / f"{engine}.json" for engine in ("litert-compiled", "litert-interpreter")]
    report(output=folder / "page.html", cold_starts=files, data=folder / "data.json")
    for file in files:
        show(read_cold_start(file))


def _make_advice(folder: Path) -> None:
    from streaming.advice.advise import Advice, Candidate, recommend

    found = []
    for device in ("one", "two"):
        candidates = tuple(
            Candidate(
                device,
                "Title",
                f"n-{hop}.hearpack",
                "a",
                hop / 16,
                0.2,
                0.4,
                50.0 + hop,
                60.0 + hop,
                100,
                *[0] * 5,
                9.0,
            )
            for hop in (128, 256)
        )
        found.append(recommend(device, candidates))
    Advice("machine", "litert-interpreter", 30.0, 0, tuple(found)).save(folder / "advice.json")


def _read_advice(folder: Path, _random: Random) -> None:
    from streaming.report.write import report

    report(output=folder / "page.html", advices=[folder / "advice.json"], data=folder / "data.json")


_TOML = (*(f"{n}/geometry.toml" for n in ("step", "logmel", "waveform", "mfcc", "listener")), "budget.toml")
_DEVICES = tuple(p.name for p in sorted((ROOT / "streaming" / "simulator" / "device" / "profiles").glob("*.toml")))
KINDS = (
    Kind("toml", _make_toml, tuple((name, damage_text) for name in (*_TOML, *_DEVICES)), _read_toml, suite=500),
    Kind(
        "trace",
        _make_trace,
        (("android.json", damage_json), ("ios.json", damage_json), ("calibration.json", damage_json)),
        _read_trace,
        suite=300,
    ),
    Kind("run", _make_run, _RUN_FILES, _read_runs, suite=250),
    Kind(
        "coldstart",
        _make_cold_start,
        (("litert-compiled.json", damage_json), ("litert-interpreter.json", damage_json)),
        _read_cold_starts,
        suite=300,
    ),
    Kind("advice", _make_advice, (("advice.json", damage_json),), _read_advice, suite=300),
)
