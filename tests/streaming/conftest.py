"""Runs that never ran: folders as the simulator writes them, small and the same every time, for what reads them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from streaming.files.wav import write_wav
from streaming.metrics.quantiles import Quantiles
from streaming.runs.record import (
    LEDGER_COLUMNS,
    PARTS,
    AudioRecord,
    ComputeTimes,
    Counts,
    DelayCheck,
    EnvelopePoint,
    EventRecord,
    FaultRecord,
    LedgerSummary,
    OccupancyPoint,
    PlayoutRecord,
    ProfileFigure,
    ProfileRecord,
    RingRecord,
    RunRecord,
)

RATE = 16000
SECONDS = 20.0


def quantiles(values: Any) -> Quantiles:
    array = np.asarray(values, np.float64)
    p50, p95, p99 = (round(float(q)) for q in np.quantile(array, (0.5, 0.95, 0.99)))
    return Quantiles(len(array), round(array.min()), p50, p95, p99, round(array.max()), float(array.mean()))


def made_up(task: Literal["classifier", "enhancer"], seed: int, slower: float) -> tuple[RunRecord, dict[str, Any]]:
    """A record and its ledger columns: gamma-distributed call times, `slower` times 0.3 ms."""
    generator = np.random.default_rng(seed)
    hop = 128 if task == "enhancer" else 7680
    calls = int(SECONDS * RATE) // hop
    kind: Literal["block", "window"] = "block" if task == "enhancer" else "window"
    compute = np.rint(generator.gamma(8.0, slower * 37_500.0, calls))
    columns = {name: np.zeros(calls) for name in PARTS}
    columns["input_route"] += 4_000_000
    columns["capture_block"] = np.rint(generator.uniform(0, 21_333_333, calls))
    columns["resampler"] += 1_500_000
    columns["framing"] += 1e9 * hop / RATE
    columns["compute"] = compute
    if task == "enhancer":
        columns["model_delay"] += 24_000_000
        columns["playout_prefill"] += 16_000_000
        columns["output_route"] += 8_000_000
    else:
        columns["smoothing"] += 480_000_000
    used = {name: values for name, values in columns.items() if values.any()}
    totals = sum(used.values())
    summary = LedgerSummary(
        kind=kind,
        parts={name: quantiles(values) for name, values in used.items()},
        mean_parts={name: float(values.mean()) for name, values in used.items()},
        total=quantiles(totals),
    )
    occupancy = [OccupancyPoint(int(k * 1e8), 0, int(341 + 300 * (k % 7 == 3))) for k in range(int(SECONDS * 10))]
    seconds = np.arange(0, SECONDS, 0.02)
    envelope = [EnvelopePoint(-abs(0.3 * math.sin(0.7 * t)), abs(0.3 * math.sin(0.7 * t))) for t in seconds]
    events = [
        EventRecord("Bicycle bell", 4, 48000, 96000, 0.91, 63360, 3_960_000_000, 1_002_000_000),
        EventRecord("Dog, <script>alert('x')</script>", 1, 160000, 176000, 0.55, 183360, 11_500_000_000, 987_000_000),
    ]
    fills = [OccupancyPoint(p.time_ns, 300, 1100) for p in occupancy]
    counts = (960_000, 960_000, 0, 959_000, 1000, 0, 958_000, 1000, 256, 0, 1)
    playout = PlayoutRecord(*counts, 48000, 256, 9600, 768, 1900, 12.5, fills)
    record = RunRecord(
        schema="hearpack-run/1",
        command=["hearpack", "simulate", "some bundle", "--seed", str(seed)],
        versions={"python": "3.11", "numpy": "2.3", "ai-edge-litert": "2.3.0"},
        bundle="dtln-128.hearpack" if task == "enhancer" else "yamnet-15600.hearpack",
        task=task,
        artefact="litert-fp32",
        engine="litert-compiled",
        engine_detail="1 thread",
        model_rate_hz=RATE,
        buffer_samples=128 if task == "enhancer" else 15600,
        hop_samples=hop,
        profile=ProfileRecord("made-up", "A device that is not", {"slowdown": ProfileFigure(slower, "assumption")}),
        clock="virtual",
        seed=seed,
        calibration="a machine, paced",
        policy="drop_oldest",
        audio=AudioRecord("street.wav", "0" * 64, 48000, SECONDS),
        simulated_s=SECONDS,
        ended="finished",
        message="",
        counts=Counts(900, 960_000, 0, 0, 320_000, 319_000, 360, 640, 2, calls, 3, 1, 0, 0, 0, 0),
        compute=[
            ComputeTimes("drawn in this run", "modelled", "paced", quantiles(compute)),
            ComputeTimes("this machine, paced", "measured", "paced", quantiles(compute / slower)),
            ComputeTimes("this machine, back to back", "measured", "back_to_back", quantiles(compute / slower / 3.0)),
        ],
        ring=RingRecord(3200, 641, RATE, occupancy),
        playout=playout if task == "enhancer" else None,
        ledger=[summary],
        delay_check=DelayCheck("impulse", 74_100_000, 74_125_000, 0.4, 1.0, RATE, True),
        events=events if task == "classifier" else [],
        faults=[FaultRecord(7_000_000_000, "overrun", 640, RATE, "inference 45 ms late")],
        faults_total=1,
        envelope=envelope,
        envelope_step_samples=320,
        search={},
    )
    return record, {"kind": kind, "totals": totals, **columns}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A function (name, task, seed, slower, **changes of the record) that writes a run's folder."""

    def make(
        name: str,
        task: Literal["classifier", "enhancer"] = "enhancer",
        seed: int = 1,
        slower: float = 2.0,
        **changes: Any,
    ) -> Path:
        record, ledger = made_up(task, seed, slower)
        folder = tmp_path / f"{name}.run"
        folder.mkdir()
        (folder / "run.json").write_text(dataclasses.replace(record, **changes).dump())
        lines = [",".join(LEDGER_COLUMNS)]
        for index, total in enumerate(ledger["totals"]):
            parts = ",".join(str(int(ledger[part][index])) for part in PARTS)
            lines.append(f"{ledger['kind']},{index},{index * record.hop_samples},0,{parts},{int(total)}")
        (folder / "ledger.csv").write_text("\n".join(lines) + "\n")
        tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(int(SECONDS * RATE)) / RATE)
        write_wav(folder / "heard.wav", tone.astype(np.float32), RATE, "PCM_16")
        if task == "classifier":
            generator = np.random.default_rng(seed)
            ends = (15600 + 7680 * np.arange(40)).astype("<i8")
            (folder / "ends.i64").write_bytes(ends.tobytes())
            (folder / "scores.f32").write_bytes(generator.random((40, 6)).astype("<f4").tobytes())
        return folder

    return make


@pytest.fixture
def hour_run(make_run: Callable[..., Path]) -> Path:
    """An hour of a classifier: thousands of windows, events and faults."""
    windows, most = 7499, 3_599 * RATE
    events = [
        EventRecord(f"label {k % 9}", k % 9, at, at + 7680, 0.6, at + 7680, int(at / RATE * 1e9), 975_000_000)
        for k, at in enumerate(range(16_000, most, most // 1859))
    ]
    faults = [FaultRecord(k * 40_000_000, "ring_overrun", 64, RATE, "") for k in range(1000)]
    occupancy = [OccupancyPoint(k * 5_000_000_000, 7680, 15_616) for k in range(720)]
    envelope = [EnvelopePoint(-0.1 - 0.2 * (k % 3), 0.1 + 0.2 * (k % 3)) for k in range(3600)]
    folder = make_run(
        "hour",
        "classifier",
        simulated_s=3600.0,
        events=events,
        faults=faults,
        faults_total=114_545,
        ring=RingRecord(46_320, 15_616, RATE, occupancy),
        envelope=envelope,
        envelope_step_samples=RATE,
        profile=ProfileRecord(
            "made-up",
            "A device that is not",
            {
                "block_frames": ProfileFigure([192, 192], "assumption"),
                "rate_changes": ProfileFigure([], "assumption"),
                "throttle": ProfileFigure([[0.0, 1.0], [240.0, 1.8]], "assumption"),
            },
        ),
    )
    scores = np.random.default_rng(5).random((windows, 9)).astype("<f4")
    (folder / "ends.i64").write_bytes((15_600 + 7680 * np.arange(windows)).astype("<i8").tobytes())
    (folder / "scores.f32").write_bytes(scores.tobytes())
    return folder
