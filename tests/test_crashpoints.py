"""A kill before any file operation of any command: nothing is half, the old result is there, the next run tidies up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crashpoints import CLASSIFIER, SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("writer", "pull", "run", "report")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="operations are found through /proc")


def crashes(name: str, bundle: Path, folder: Path) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "tests" / "crashpoints.py"), name, str(bundle), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_what_a_kill_leaves_is_seen(tmp_path: Path) -> None:
    """Where two names cannot be exchanged, an old folder is absent between two renames, and back after the next run."""
    found = crashes("stepping_aside", tmp_path, tmp_path)
    assert found["points"] > 40
    assert [fault.partition(": ")[2] for fault in found["faults"]] == ["x is absent"] * 2


@pytest.mark.parametrize("name", QUICK)
def test_a_kill_at_any_operation_leaves_nothing_half(name: str, exported: dict[str, Path], tmp_path: Path) -> None:
    found = crashes(name, exported["gtcrn"], tmp_path)
    assert found["faults"] == []
    assert found["points"] >= 10


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - set(QUICK) - {"stepping_aside"}))
def test_a_kill_at_any_operation_of_every_command(name: str, exported: dict[str, Path], tmp_path: Path) -> None:
    found = crashes(name, exported["yamnet" if name in CLASSIFIER else "gtcrn"], tmp_path)
    assert found["faults"] == []
    assert found["points"] >= 5
