"""What a killed process left is told from what is being written, removed, or put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.common.errors import OutputError
from models.common.temporary import abandoned, beside, claimed, is_temporary, leftovers, locked, scratch, sweep

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def left(folder: Path, name: str, pid: int, role: str = "new") -> Path:
    path = folder / f".{name}.{role}.hearpack-{pid}-0123abcd"
    path.mkdir()
    (path / "half").write_text("half")
    return path


def test_names_are_alike_and_no_other_is_taken_for_one(tmp_path: Path) -> None:
    assert is_temporary(beside(tmp_path / "x.wav").name)
    assert is_temporary(beside(tmp_path / "x.run", "old").name)
    assert is_temporary(beside(tmp_path / ("x" * 255)).name)
    assert len(beside(tmp_path / ("x" * 255)).name) <= 255
    for name in (
        ".x.new",
        "x.new.hearpack-1-0123abcd",
        ".hearpack-1-0123abcd",
        ".x.new.hearpack-1",
        "dtln-128.hearpack",
    ):
        assert not is_temporary(name)


def test_sweep_takes_what_the_dead_left_and_nothing_else(tmp_path: Path, dead_pid: int) -> None:
    dead, living = left(tmp_path, "x.wav", dead_pid), left(tmp_path, "x.wav", os.getppid())
    (tmp_path / ".mine").write_text("")
    assert leftovers(tmp_path) == [dead]
    sweep(tmp_path)
    assert names(tmp_path) == [".mine", living.name]


def test_a_locked_one_is_in_use_even_if_its_process_id_is_unknown_here(tmp_path: Path, dead_pid: int) -> None:
    """Containers share a folder and not their process ids."""
    path = left(tmp_path, "x.run", dead_pid)
    with locked(path):
        assert not abandoned(path)
    assert abandoned(path)


def test_an_old_one_goes_even_if_its_process_id_lives_again(tmp_path: Path) -> None:
    path = left(tmp_path, "x.run", os.getppid())
    assert not abandoned(path)
    os.utime(path, (time.time() - 2 * 86400,) * 2)
    assert abandoned(path)
    with locked(path):
        assert not abandoned(path)


def test_this_process_keeps_what_it_is_writing_and_drops_what_another_of_its_id_left(tmp_path: Path) -> None:
    before = left(tmp_path, "x.run", os.getpid())
    with claimed(tmp_path / "y") as path:
        path.mkdir()
        sweep(tmp_path)
        assert names(tmp_path) == [path.name]
    assert not before.exists()
    assert names(tmp_path) == []


def test_a_result_that_was_moved_is_put_back_where_its_place_is_empty(tmp_path: Path, dead_pid: int) -> None:
    left(tmp_path, "x.run", dead_pid, "old")
    sweep(tmp_path)
    assert names(tmp_path) == ["x.run"]
    left(tmp_path, "x.run", dead_pid, "old")
    (tmp_path / "x.run" / "half").write_text("new")
    sweep(tmp_path)
    assert names(tmp_path) == ["x.run"]
    assert (tmp_path / "x.run" / "half").read_text() == "new"


def test_a_scratch_folder_is_private_and_gone_at_the_end(tmp_path: Path, dead_pid: int) -> None:
    left(tmp_path, "coldstart", dead_pid)
    with scratch("coldstart", tmp_path) as folder:
        assert names(tmp_path) == [folder.name]
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("1")
    assert names(tmp_path) == []


def test_a_place_that_takes_no_temporary_files_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"gone: cannot be written: No such file.*set TMPDIR"), scratch("x"):
        pass


def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path: Path) -> None:
    code = "import os, signal, sys; from pathlib import Path; from models.common.temporary import scratch\n"
    code += (
        "with scratch('x', Path(sys.argv[1])) as f:\n (f / 'a').write_text('1')\n os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    with scratch("y", tmp_path) as folder:
        assert names(tmp_path) == [folder.name]
