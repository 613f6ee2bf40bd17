"""The budget gate: every figure from where it belongs, what is missing is never a pass, JUnit that a CI reads."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from models.common.errors import UsageError
from runtimes.bundle import Bundle
from streaming.advice import budget_figures as gate_figures
from streaming.advice.budget import FIGURES, Check, Figure, GateReport, compare, junit, number, read_budget
from streaming.advice.budget_figures import gate, run_figures, start_figures
from streaming.measure.cold_start import ColdRun, ColdStart, Condition
from streaming.runs.record import read_run


def budget(folder: Path, text: str) -> Path:
    file = folder / "budget.toml"
    file.write_text(text)
    return file


FAULTS = {
    "": "expected a table \\[budget\\]",
    "[budget]\n": "expected a table \\[budget\\]",
    "[budget]\nsize_mb = \n": "no TOML",
    "[budget]\nsizemb = 1\n": "unknown figure 'sizemb' \\(did you mean size_mb\\?\\); valid figures: size_mb, compute",
    "[budget]\nsize_mb = 'big'\n": "size_mb: expected a number of at least 0, got 'big'",
    "[budget]\nsize_mb = true\n": "expected a number of at least 0, got True",
    "[budget]\nrtf = -1\n": "expected a number of at least 0, got -1",
    "[budget]\nrtf = nan\n": "expected a number of at least 0, got nan",
    "[budget]\nrtf = 1\n[more]\nx = 1\n": "expected \\[budget\\] alone, got also more",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_of_a_budget_are_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=FAULTS[text]) as caught:
        read_budget(budget(tmp_path, text))
    assert "\n" not in str(caught.value).split("no TOML")[0]


def test_a_budget_is_read_in_its_order(tmp_path: Path) -> None:
    file = budget(tmp_path, "[budget]\nrtf = 1\nsize_mb = 4.5\n")
    assert list(read_budget(file).items()) == [("rtf", 1.0), ("size_mb", 4.5)]
    with pytest.raises(UsageError, match="cannot be read"):
        read_budget(tmp_path / "absent.toml")


def test_at_the_limit_passes_past_it_and_nan_do_not() -> None:
    def check(value: float) -> bool:
        return Check("rtf", 0.5, Figure(value, "measured", "here"), "").passed

    assert check(0.5)
    assert not check(0.5000001)
    assert not check(float("nan"))


def test_what_nothing_measured_is_an_error() -> None:
    with pytest.raises(UsageError, match="asks for memory_mb, which it does not hold; it has: rtf"):
        compare("a.run", "budget.toml", {"rtf": 1.0, "memory_mb": 1.0}, {"rtf": Figure(0.1, "measured", "here")})


def test_junit_has_a_case_a_figure_and_fails_what_fails() -> None:
    checks = (
        Check("rtf", 0.5, Figure(0.7, "modelled", "low-end <&> slow"), ""),
        Check("size_mb", 5.0, Figure(4.0, "counted", "files"), "MB"),
    )
    report = GateReport("a.run", "budget.toml", checks)
    assert not report.passed
    root = ET.fromstring(junit(report))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")
    cases = {case.get("name"): case for case in root.iter("testcase")}
    failure = cases["rtf"].find("failure")
    assert failure is not None
    assert "rtf 0.7 is past 0.5 (modelled: low-end <&> slow)" in str(failure.get("message"))
    assert cases["size_mb"].find("failure") is None
    assert junit(report) == junit(report)


def test_figures_of_a_run_are_labelled(make_run: Callable[..., Path]) -> None:
    record = read_run(make_run("a"))
    figures = run_figures(record)
    assert figures["misses"] == Figure(3, "modelled", "made-up, virtual clock")
    assert figures["lost_samples"].value == 640
    assert figures["compute_p99_ms"].value == record.compute[0].quantiles.p99 / 1e6
    assert figures["rtf"].value == pytest.approx(record.compute[0].quantiles.mean / 8e6)
    assert figures["delay_ms"].value == record.ledger[0].total.p95 / 1e6
    measured = run_figures(read_run(make_run("b", clock="realtime")))
    assert measured["delay_ms"].kind == "measured"


def cold(bundle: str = "dtln-128.hearpack", artefact: str = "litert-fp32", sha256: str = "") -> ColdStart:
    def condition(pages: str, ready: float) -> Condition:
        runs = tuple(
            ColdRun(
                stages=(("ready", ready + k),),
                calls_ms=(1.0,) * 10,
                first_decision_ms=ready + k + 10.0,
                ready_cpu_ms=90.0,
                ready_memory_bytes=1,
                peak_memory_bytes=80_000_000,
                resident_before=None,
            )
            for k in range(3)
        )
        return Condition.model_validate({"page_cache": pages, "weight_cache": "none", "runs": runs})

    return ColdStart(
        hearpack="0",
        bundle=bundle,
        artefact=artefact,
        artefact_sha256=sha256,
        engine="e",
        runtime="r",
        machine="m",
        sample_rate_hz=16000,
        buffer_samples=128,
        hop_samples=128,
        conditions=(condition("cold", 200.0), condition("warm", 100.0)),
        limits=(),
    )


def test_the_coldest_start_counts() -> None:
    figures = start_figures(cold())
    assert (figures["cold_start_ms"].value, figures["first_decision_ms"].value) == (201.0, 211.0)
    assert figures["memory_mb"].value == 80.0


def test_a_run_is_gated_with_its_bundle_and_its_cold_start(
    make_run: Callable[..., Path], exported: dict[str, Path], tmp_path: Path
) -> None:
    run = make_run("a")
    starts = tmp_path / "cold.json"
    starts.write_text(cold().dump())
    file = budget(tmp_path, "[budget]\nsize_mb = 9\ncold_start_ms = 500\nmemory_mb = 90\nmisses = 2\ndelay_ms = 1000\n")
    report = gate(run, file, bundle=exported["dtln"], cold_start=starts)
    assert [c.name for c in report.checks if not c.passed] == ["misses"]
    size = Bundle.open(exported["dtln"]).artefact("litert-fp32").size_bytes
    assert report.checks[0].figure == Figure(size / 1e6, "counted", "files of litert-fp32")
    with pytest.raises(UsageError, match="asks for size_mb, cold_start_ms, memory_mb"):
        gate(run, file)


def test_a_bundle_is_measured_for_what_is_asked_and_no_more(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_figures, "PACED_SECONDS", 0.2)
    monkeypatch.setattr(gate_figures, "coldstart", lambda *_, **__: cold())
    text = "[budget]\nrtf = 1\ncompute_p99_ms = 1000\nmemory_mb = 1\ndelay_ms = 60\nlost_samples = 0\n"
    report = gate(exported["dtln"], budget(tmp_path, text), device="android-burst-192")
    assert [(c.name, c.passed) for c in report.checks] == [
        ("rtf", True),
        ("compute_p99_ms", True),
        ("memory_mb", False),
        ("delay_ms", False),
        ("lost_samples", True),
    ]
    assert [c.figure.kind for c in report.checks] == ["measured"] * 3 + ["modelled"] * 2

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured although nobody asked")

    monkeypatch.setattr(gate_figures, "coldstart", never)
    monkeypatch.setattr(gate_figures, "calibrate", never)
    assert gate(exported["dtln"], budget(tmp_path, "[budget]\nsize_mb = 9\n")).passed


def test_neither_run_nor_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a run .* or a bundle"):
        gate(tmp_path, budget(tmp_path, "[budget]\nrtf = 1\n"))


def test_every_figure_is_explained() -> None:
    assert all(told and "\n" not in told for _, told in FIGURES.values())


@pytest.mark.parametrize(
    "starts",
    [cold(bundle="yamnet-15600.hearpack"), cold(artefact="litert-fp16"), cold(sha256="1" * 64)],
    ids=["bundle", "artefact", "digest"],
)
def test_cold_starts_of_another_artefact_are_refused(
    make_run: Callable[..., Path], exported: dict[str, Path], tmp_path: Path, starts: ColdStart
) -> None:
    file = budget(tmp_path, "[budget]\ncold_start_ms = 500\n")
    starts.save(tmp_path / "cold.json")
    subject = exported["dtln"] if starts.artefact_sha256 else make_run("a")
    with pytest.raises(UsageError, match="figures of two artefacts make no budget"):
        gate(subject, file, cold_start=tmp_path / "cold.json")


def test_a_run_is_not_gated_with_another_bundle(
    make_run: Callable[..., Path], exported: dict[str, Path], tmp_path: Path
) -> None:
    file = budget(tmp_path, "[budget]\nsize_mb = 90\n")
    with pytest.raises(UsageError, match="figures of two artefacts make no budget"):
        gate(make_run("a"), file, bundle=exported["yamnet"])


def test_numbers_for_people() -> None:
    assert [number(v) for v in (0.01234567, 4.5, 999.96, 10_000.0, 1_234_567.0)] == [
        "0.01235", "4.5", "1,000", "10,000", "1,234,567",
    ]  # fmt: skip
