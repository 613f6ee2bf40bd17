"""Folders appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.common.errors import OutputError
from models.common.files import PARTIAL, REPLACED, atomic_folder, sweep, write_atomic


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a" / "x.hearpack"
    with atomic_folder(target) as folder:
        (folder / "file").write_text("1")
        assert not target.exists()
    assert names(target) == ["file"]
    assert names(target.parent) == ["x.hearpack"]


def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "x.hearpack"
    target.mkdir()
    (target / "old").write_text("old")

    def write_half() -> None:
        with atomic_folder(target) as folder:
            (folder / "new").write_text("new")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_half()
    assert names(tmp_path) == ["x.hearpack"]
    assert names(target) == ["old"]


def test_replacing_swaps_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "x.hearpack"
    for name in ("one", "two"):
        with atomic_folder(target) as folder:
            (folder / name).write_text(name)
    assert names(target) == ["two"]
    assert names(tmp_path) == ["x.hearpack"]


def test_sweep_drops_partials_of_the_dead_and_keeps_those_of_the_living(tmp_path: Path) -> None:
    target = tmp_path / "x.hearpack"
    dead = tmp_path / f".{target.name}{PARTIAL}{dead_pid()}"
    living = tmp_path / f".{target.name}{PARTIAL}{os.getppid()}"
    dead.mkdir()
    living.mkdir()
    sweep(target)
    assert not dead.exists()
    assert living.exists()


def test_sweep_restores_a_folder_whose_replacement_was_killed(tmp_path: Path) -> None:
    target = tmp_path / "x.hearpack"
    replaced = tmp_path / f".{target.name}{REPLACED}{dead_pid()}"
    replaced.mkdir()
    (replaced / "old").write_text("old")
    sweep(target)
    assert names(target) == ["old"]


def test_a_file_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), atomic_folder(tmp_path / "file" / "x.hearpack"):
        pass


def test_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "{}"
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomic(tmp_path / "a.json" / "b", "x")
    assert names(tmp_path) == ["a.json"]
