"""Cold starts of the real bundles in fresh processes, the page cache that is really emptied, and the advice."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from models.common.errors import ArtefactError, UsageError
from runtimes.bundle import Bundle
from streaming.advice.cold_start import advice, summarise, warm_up_calls
from streaming.measure import cold_start
from streaming.measure.cold_start import ColdRun, ColdStart, Condition, coldstart, read_cold_start
from streaming.measure.page_cache import can_evict, evict, resident_fraction, warm

STAGES = [
    "interpreter",
    "imports",
    "bundle_opened",
    "file_mapped",
    "file_checked",
    "runtime_imported",
    "environment_made",
    "model_loaded",
    "tensors_allocated",
    "ready",
]


def on_tmpfs(path: Path) -> bool:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = max((m for m in mounts if str(path).startswith(m[0])), key=lambda m: len(m[0]))
    return holding[1] == "tmpfs"


def test_pages_are_evicted_and_read_in_again(tmp_path: Path) -> None:
    file = tmp_path / "pages"
    file.write_bytes(os.urandom(1 << 20))
    if resident_fraction(file) is None or not can_evict():
        pytest.skip("no mincore or posix_fadvise on this system: page-cache counts are Linux only")
    warm([file])
    assert resident_fraction(file) == 1.0
    if on_tmpfs(tmp_path):
        pytest.skip("tmp_path is on tmpfs, whose pages are the file itself and cannot be evicted")
    evict([file])
    assert resident_fraction(file) == 0.0
    with pytest.raises(UsageError, match="cannot be opened"):
        evict([tmp_path / "absent"])


def test_a_file_that_holds_nothing_has_no_fraction(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert resident_fraction(tmp_path / "empty") is None
    assert resident_fraction(tmp_path / "absent") is None


@pytest.fixture(scope="module")
def measured(exported: dict[str, Path]) -> dict[str, ColdStart]:
    return {
        "dtln": coldstart(Bundle.open(exported["dtln"]), runs=1),
        "yamnet": coldstart(Bundle.open(exported["yamnet"]), runs=1, engine="litert-interpreter"),
    }


def test_every_cache_is_met_cold_and_warm(measured: dict[str, ColdStart]) -> None:
    assert [(c.page_cache, c.weight_cache) for c in measured["dtln"].conditions] == [
        ("cold", "cold"),
        ("cold", "warm"),
        ("warm", "cold"),
        ("warm", "warm"),
    ]
    assert [(c.page_cache, c.weight_cache) for c in measured["yamnet"].conditions] == [
        ("cold", "none"),
        ("warm", "none"),
    ]
    assert "litert-interpreter has no weight cache" in measured["yamnet"].limits
    assert "page cache cold means" in measured["dtln"].limits[0]


def test_stages_follow_each_other_up_to_the_first_decision(measured: dict[str, ColdStart]) -> None:
    for name, report in measured.items():
        runs = [r for c in report.conditions for r in c.runs]
        assert len(runs) >= len(report.conditions) > 0
        for run in runs:
            names, ends = [s for s, _ in run.stages], [at for _, at in run.stages]
            assert names == [s for s in STAGES if name == "dtln" or s != "environment_made"]
            assert ends == sorted(ends)
            assert ends[0] > 0.0
            assert run.ready_ms < run.first_decision_ms
            assert len(run.calls_ms) == 10
            assert run.ready_memory_bytes <= run.peak_memory_bytes
            # A start has few threads at work at once, so its CPU time is bounded by the wall's.
            assert 0.0 < run.ready_cpu_ms < 4.0 * run.ready_ms


def test_no_decision_comes_before_its_audio(measured: dict[str, ColdStart]) -> None:
    runs = [r for c in measured["yamnet"].conditions for r in c.runs]
    assert runs
    for run in runs:
        assert run.first_decision_ms > 1000.0 * 15600 / 16000


def test_memory_is_the_child_s_own(measured: dict[str, ColdStart]) -> None:
    """getrusage would hand the parent's peak down through fork and exec."""
    parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ballast = bytearray(max(0, 400_000_000 - parent))
    ballast[::4096] = b"x" * len(ballast[::4096])
    for report in measured.values():
        assert all(20e6 < r.peak_memory_bytes < 300e6 for c in report.conditions for r in c.runs)
    del ballast


def test_a_file_of_cold_starts_is_read_back_and_a_damaged_one_refused(
    measured: dict[str, ColdStart], tmp_path: Path
) -> None:
    file = tmp_path / "cold.json"
    file.write_text(measured["dtln"].dump())
    assert read_cold_start(file) == measured["dtln"]
    file.write_text(measured["dtln"].dump()[:700])
    with pytest.raises(UsageError, match="cut off or no JSON"):
        read_cold_start(file)
    file.write_text(json.dumps({"schema_id": "hearpack-coldstart/1", "bundle": 3}))
    with pytest.raises(UsageError, match="not a cold-start file"):
        read_cold_start(file)
    file.write_text("{}")
    with pytest.raises(UsageError, match="expected a cold-start file"):
        read_cold_start(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_cold_start(tmp_path / "absent.json")


def test_a_start_that_fails_is_one_line(copy_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(copy_of("dtln"))
    with pytest.raises(UsageError, match="at least 1"):
        coldstart(bundle, runs=0)
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    manifest["inputs"][0]["name"], manifest["states"][0]["in"] = "audio", "elsewhere"
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="expected the inputs"):
        coldstart(Bundle.open(bundle.path), runs=1)
    monkeypatch.setattr(cold_start, "_CODE", "import os; os._exit(7)")
    with pytest.raises(ArtefactError, match="ended with code 7"):
        coldstart(bundle, runs=1)


def synthetic(first_ms: float, load_cold_ms: float, ready_ms: float = 200.0, hop: int = 128) -> ColdStart:
    """A report of five runs a condition: loading takes `load_cold_ms` with cold pages, 10 ms with warm ones."""

    def run(number: int, load: float) -> ColdRun:
        begin = ready_ms - load + 0.1 * number
        return ColdRun(
            stages=(("imports", begin), ("model_loaded", begin + load), ("ready", begin + load)),
            calls_ms=(first_ms, *[1.0] * 9),
            first_decision_ms=begin + load + first_ms,
            ready_cpu_ms=90.0,
            ready_memory_bytes=50_000_000,
            peak_memory_bytes=60_000_000,
            resident_before=0.0,
        )

    conditions = tuple(
        Condition(
            page_cache=pages,
            weight_cache="none",
            runs=tuple(run(n, load) for n in range(5)),
        )
        for pages, load in (("cold", load_cold_ms), ("warm", 10.0))
    )
    return ColdStart(
        hearpack="0",
        bundle="b",
        artefact="a",
        engine="litert-interpreter",
        runtime="r",
        machine="m",
        sample_rate_hz=16000,
        buffer_samples=hop,
        hop_samples=hop,
        conditions=conditions,
        limits=(),
    )


def test_advice_follows_from_the_figures() -> None:
    slow = " ".join(advice(synthetic(first_ms=9.0, load_cold_ms=50.0)))
    assert "Make 1 throwaway call with zeros" in slow
    assert "a quarter of the first calls or more misses its hop of 8 ms" in slow
    assert "loading takes 40.0 ms (95 % interval 40.0 to 40.0) longer when the file's pages are cold" in slow
    assert "a ring of 3,207 samples" in slow  # 200.4 ms, the slowest run, rounded up
    assert "loading is what it waits for" in slow
    middling = " ".join(advice(synthetic(first_ms=2.0, load_cold_ms=10.0)))
    assert "more than 4 times slower they would not" in middling
    assert "no difference shown in loading with the file's pages cold" in middling
    assert "No warm-up call is needed" in " ".join(advice(synthetic(first_ms=1.1, load_cold_ms=10.0)))
    windowed = " ".join(advice(synthetic(first_ms=1.1, load_cold_ms=10.0, hop=15600)))
    assert "ready 775 ms before the first buffer of 975 ms is full" in windowed


def test_one_run_shows_no_difference(measured: dict[str, ColdStart]) -> None:
    said = " ".join(advice(measured["dtln"]))
    assert "weight cache: not judged from 1 runs; --runs 5 or more can tell" in said
    assert "95 % interval" not in said


def test_a_waterfall_has_a_bar_a_stage_without_gaps() -> None:
    summary = summarise(synthetic(9.0, 50.0).conditions[0])
    assert [b.name for b in summary.bars] == ["imports", "model_loaded", "ready", "first_decision"]
    for before, after in zip(summary.bars, summary.bars[1:], strict=False):
        assert before.end_ms == after.begin_ms
    assert summary.bars[-1].end_ms == summary.first_decision_ms.median
    assert warm_up_calls(summary) == 1
