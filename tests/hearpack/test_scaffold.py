"""`hearpack scaffold` writes what exports as it is, and never replaces a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hearpack.cli import app
from models.common.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def scaffold(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["scaffold", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("task", ["classifier", "enhancer"])
def test_its_own_test_passes(task: str, tmp_path: Path) -> None:
    """The test that it writes exports to both formats and verifies; run as the user would."""
    text = scaffold("my-net", "--task", task, "-o", tmp_path)
    folder = tmp_path / "my-net"
    assert f"hearpack export {folder / 'net.py'}:build" in text
    wanted = {"net.py", "geometry.toml", "test_net.py"} | ({"labels.txt"} if task == "classifier" else set())
    assert {p.name for p in folder.iterdir()} == wanted
    assert not [p for p in folder.iterdir() if "NAME" in p.read_text()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "net.py").write_text("precious\n")
    with pytest.raises(UsageError, match="is there already and was left alone"):
        scaffold("mine", "-o", tmp_path)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["net.py"]
    assert (tmp_path / "mine" / "net.py").read_text() == "precious\n"


def test_wrong_names_and_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a lower-case letter"):
        scaffold("../Up", "-o", tmp_path)
    with pytest.raises(UsageError, match="expected one of classifier, enhancer, got 'separator'"):
        scaffold("x", "--task", "separator", "-o", tmp_path)
    assert list(tmp_path.iterdir()) == []
