"""The commands simulate, devices and fit-device: what they print, and one clear line for what is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from hearpack.cli import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def hearpack(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, timeout=300
    )


def one_line(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("hearpack: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for text in expected:
        assert text in lines[0]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    file = tmp_path / "noise.wav"
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(48_000 * 3), 48_000)
    return file


def test_simulate_prints_the_ledger(exported: dict[str, Path], noise: Path, tmp_path: Path) -> None:
    done = hearpack(
        "simulate", exported["dtln"], noise, "-d", "iphone-sink", "--compute-ms", "2", "-o", tmp_path / "x.run"
    )
    assert done.returncode == 0, done.stderr
    for text in (
        "capture_block",
        "model_delay",
        "playout_prefill",
        "self-test of the ledger",
        "(impulse)",
        "written =",
        "keeps up",
        "wrote",
    ):
        assert text in done.stdout
    record = json.loads((tmp_path / "x.run" / "run.json").read_text())
    assert record["delay_check"]["passed"] is True
    assert record["compute"][0]["quantiles"]["max"] == 2_000_000


def test_more_faults_than_are_kept_are_not_passed_over(exported: dict[str, Path], noise: Path) -> None:
    done = hearpack(
        "simulate",
        exported["dtln"],
        noise,
        "-d",
        "android-burst-96",
        "--compute-ms",
        "30",
        "--seconds",
        "8",
        "--no-audio",
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\n[1-9],\d{3} faults, of the first 1,000: \d", done.stdout), done.stdout


def test_simulate_searches(exported: dict[str, Path], noise: Path) -> None:
    done = hearpack("simulate", exported["dtln"], noise, "--compute-ms", "1", "--search", "slowdown", "--json")
    assert done.returncode == 0, done.stderr
    search = json.loads(done.stdout)["search"]
    assert 1.0 < search["largest_slowdown"] < search["first_miss_at"] < 10.0


def test_simulate_checks_streams(exported: dict[str, Path], noise: Path) -> None:
    done = hearpack("simulate", exported["dtln"], noise, "--parity", "3", "--json")
    assert done.returncode == 0, done.stderr
    parity = json.loads(done.stdout)
    assert parity["equal"] is True
    assert len(parity["trials"]) == 3


def test_interrupting_wall_mode_ends_with_a_report(exported: dict[str, Path], tmp_path: Path) -> None:
    noise = tmp_path / "minutes.wav"  # longer than the slowest machine needs to send the signal
    soundfile.write(noise, 0.1 * np.random.default_rng(0).standard_normal(16_000 * 120), 16_000)
    arguments = ["simulate", exported["dtln"], noise, "--clock", "wall", "-o", tmp_path / "x.run"]
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        # A shell's background job ignores the signal, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        # The folder is made when the run begins.
        while not list(tmp_path.glob(".x.run.*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted after" in out
    record = json.loads((tmp_path / "x.run" / "run.json").read_text())
    assert record["ended"] == "interrupted"
    counts = record["counts"]
    assert counts["written"] == counts["read"] + counts["held"] + counts["dropped"]
    assert not list(tmp_path.glob(".x.run.*"))


def test_devices_lists_and_shows() -> None:
    done = hearpack("devices")
    assert done.returncode == 0
    assert "android-burst-96" in done.stdout
    shown = json.loads(hearpack("devices", "airpods", "--json").stdout)
    assert shown["figures"]["rate_hz"]["value"] == 24_000
    assert "TypeWhisper" in shown["figures"]["rate_hz"]["source"]


def test_bad_input_is_one_clear_line(exported: dict[str, Path], noise: Path, tmp_path: Path) -> None:
    dtln = exported["dtln"]
    one_line(hearpack("simulate", dtln, noise, "-d", "iphone-tab"), "did you mean iphone-tap")
    profile = tmp_path / "p.toml"
    profile.write_text('schema = "hearpack-device/1"\ntitle = "x"\n[capture]\nrate = 3\n')
    one_line(hearpack("simulate", dtln, noise, "-d", profile), "unknown key 'rate'")
    one_line(hearpack("simulate", dtln), "expected an audio file")
    one_line(hearpack("simulate", dtln, noise, "--policy", "hope"), "drop_oldest, skip_hop, grow_delay")
    one_line(hearpack("simulate", dtln, noise, "--fault", "quake@1"), "--fault")
    one_line(hearpack("simulate", dtln, noise, "--compute-ms", "-1"), "--compute-ms")
    one_line(hearpack("simulate", dtln, noise, "-o", tmp_path / "x"), "NAME.run")
    one_line(hearpack("simulate", dtln, noise, "--calibration", tmp_path / "none"), "no such calibration")
    one_line(hearpack("simulate", exported["yamnet"], noise, "--compute-ms", "9", "--search", "prefill"), "enhancers")
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(100), 48_000)
    one_line(hearpack("simulate", dtln, short, "--compute-ms", "1"), "shorter than one hop")
    trace = tmp_path / "trace.json"
    trace.write_text('{"schema": "hearpack-trace/1", "app"')
    one_line(hearpack("simulate", dtln, "--replay", trace), "trace.json", "cut off")
    one_line(hearpack("fit-device", trace, dtln), "trace.json", "cut off")
    one_line(hearpack("devices", "none"), "unknown device")
    assert {p.name for p in tmp_path.iterdir()} == {"noise.wav", "p.toml", "short.wav", "trace.json"}


def test_without_a_microphone_it_says_so(exported: dict[str, Path]) -> None:
    done = hearpack("simulate", exported["dtln"], "--mic", "--seconds", "1")
    if done.returncode == 0:
        pytest.skip("this machine has a microphone")
    one_line(done, "microphone")
