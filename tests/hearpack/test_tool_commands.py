"""The commands around the simulator, from real bundles to a page, in text and as JSON, and their exit codes."""

from __future__ import annotations

import html
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hearpack.cli import app
from models.weights.assets import pull_asset

ROOT = Path(__file__).resolve().parents[2]


def hearpack(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def as_json(*arguments: object, code: int = 0) -> Any:
    return json.loads(hearpack(*arguments, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def calibration(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("calibration") / "calibration.json"
    said = hearpack("calibrate", exported["dtln"], exported["yamnet"], "--seconds", "0.5", "-o", file).output
    assert "a paced call takes" in said
    assert "every 480 ms" in said
    return file


def test_from_bundle_to_page(exported: dict[str, Path], calibration: Path, tmp_path: Path) -> None:
    """simulate twice, coldstart, advise, report, gate: each reads what the other wrote."""
    runs = []
    for seed in (1, 2):
        runs.append(tmp_path / f"run{seed}.run")
        arguments = ("--device", "android-burst-192", "--seconds", "6", "--seed", seed, "--calibration", calibration)
        hearpack("simulate", exported["yamnet"], pull_asset("street-wav"), *arguments, "-o", runs[-1])
    starts, advice, page, data = (tmp_path / n for n in ("starts.json", "advice.json", "page.html", "data.json"))
    said = hearpack(
        "coldstart", exported["yamnet"], "--runs", "1", "--engine", "litert-interpreter", "-o", starts
    ).output
    assert "audio lost" in said
    assert "where the time goes" in said
    options = ("--device", "iphone-tap", "--seconds", "4", "--calibration", calibration)
    assert "modelled" in hearpack("advise", exported["yamnet"], *options, "-o", advice).output
    assert as_json("advise", exported["yamnet"], *options)["devices"][0]["device"] == "iphone-tap"
    found = as_json("report", *runs, "--coldstart", starts, "--advice", advice, "-o", page, "--data", data)
    assert [r["name"] for r in found["runs"]] == ["A", "B"]
    assert json.loads(data.read_text()) == found
    text = page.read_text()
    machine = html.escape(json.loads(calibration.read_text())["machine"])
    for part in (
        "Run A against run B",
        "Cold start of yamnet-15600",
        "Which buffer",
        f"{machine}, paced",
        "assumption",
    ):
        assert part in text
    assert "A against B" in hearpack("report", *runs, "-o", page).output

    budget, junit = tmp_path / "budget.toml", tmp_path / "out.xml"
    budget.write_text("[budget]\nsize_mb = 20\nmisses = 0\nmemory_mb = 1\n")
    arguments = ("--bundle", exported["yamnet"], "--coldstart", starts, "--junit", junit)
    assert "PAST IT" in hearpack("gate", runs[0], budget, *arguments, code=1).output
    assert ET.fromstring(junit.read_text()).get("failures") == "1"
    assert as_json("gate", runs[0], budget, *arguments, code=1)["passed"] is False
    budget.write_text("[budget]\nsize_mb = 20\nmisses = 0\n")
    assert "within the budget" in hearpack("gate", runs[0], budget, *arguments).output


def test_cold_starts_as_json(exported: dict[str, Path]) -> None:
    found = as_json("coldstart", exported["dtln"], "--runs", "1")
    assert [s["name"] for s in found["summary"]] == [
        "pages cold, weights cold",
        "pages cold, weights warm",
        "pages warm, weights cold",
        "pages warm, weights warm",
    ]
    assert len(found["advice"]) == 5
    assert found["report"]["conditions"][0]["runs"][0]["peak_memory_bytes"] > 10e6


def test_tune_shows_and_changes_nothing_when_dry(copy_of: Any) -> None:
    bundle = copy_of("yamnet")
    before = (bundle / "manifest.json").read_bytes()
    street = (pull_asset("street-wav"), pull_asset("street-csv"))
    said = hearpack("tune", bundle, *street, "--label", "Bicycle bell", "--dry-run", "--only").output
    for part in ("2 of 4", "4 of 4", "held out", "it flatters", "trade-off: Bicycle bell", "chosen", "nothing written"):
        assert part in said, part
    assert (bundle / "manifest.json").read_bytes() == before


def one_line(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from hearpack.cli import main; main()", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    return line


def test_wrong_input_is_one_line_and_exit_2(exported: dict[str, Path], tmp_path: Path) -> None:
    budget = tmp_path / "budget.toml"
    budget.write_text("[budget]\nsize = 3\n")
    assert "unknown figure 'size'" in one_line("gate", exported["dtln"], budget)
    assert "expected a run" in one_line("report", exported["dtln"], "-o", tmp_path / "page.html")
    assert "expected a classifier" in one_line("tune", exported["dtln"], tmp_path / "a.wav", tmp_path / "a.csv")
    assert "--judge-recording and --judge-labels" in one_line("tune", "a", "b", "c", "--judge-labels", "d")
    assert "expected at least 1" in one_line("coldstart", exported["dtln"], "--runs", "0")
    assert "unknown device" in one_line("advise", exported["dtln"], "--device", "iphne")
    nowhere = tmp_path / "none" / "file.json"  # found out before anything is measured: only one line is printed
    for command in ("calibrate", "coldstart", "advise"):
        assert f"{nowhere.parent} does not exist" in one_line(command, exported["dtln"], "-o", nowhere)
