"""Folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.common.errors import OutputError
from models.common.exchange import exchange
from models.common.files import atomic_folder, cannot_write, exclusive, free_to_remove, is_full, read_text, write_atomic


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


@pytest.fixture(params=[True, False], ids=["exchange", "no exchange"])
def exchanging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the system's exchange of two names, and as on a file system that has none."""
    if not request.param:
        monkeypatch.setattr("models.common.files.exchange", lambda first, second: False)
    return bool(request.param)


@pytest.mark.usefixtures("exchanging")
def test_replacing_swaps_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "x.hearpack"
    for name in ("one", "two", "three"):
        with atomic_folder(target) as folder:
            (folder / name).mkdir()
            (folder / name / "file").write_text(name)
    assert names(target) == ["three"]
    assert names(tmp_path) == ["x.hearpack"]


@pytest.mark.usefixtures("exchanging")
def test_a_link_is_replaced_and_what_it_points_to_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    (tmp_path / "x.hearpack").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with atomic_folder(tmp_path / "x.hearpack") as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path) == ["elsewhere", "x.hearpack"]
    assert names(tmp_path / "elsewhere") == ["mine"]
    assert names(tmp_path / "x.hearpack") == ["new"]
    assert not (tmp_path / "x.hearpack").is_symlink()


def test_the_old_folder_is_there_until_the_new_one_is(tmp_path: Path) -> None:
    """A reader in another thread looks all the time: it never finds nothing, nor a mixture."""
    target, seen, stop = tmp_path / "x", set(), threading.Event()
    if not exchange(*_two(tmp_path)):
        pytest.skip("this file system cannot exchange two names")

    def look() -> None:
        while not stop.is_set():
            try:
                seen.add(tuple(sorted(path.name for path in target.iterdir())))
            except FileNotFoundError:
                seen.add(("absent",))

    with atomic_folder(target) as folder:
        (folder / "0").write_text("")
    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1, 100):
        with atomic_folder(target) as folder:
            (folder / str(number)).write_text("")
    stop.set()
    reader.join()
    # () is a folder that was opened, replaced and emptied while it was read: an old one, not the name's.
    assert seen - {()} <= {(str(number),) for number in range(100)}


def _two(folder: Path) -> tuple[Path, Path]:
    for name in "ab":
        (folder / name).mkdir()
    return folder / "a", folder / "b"


def test_many_writers_of_one_folder_leave_one_whole_result(tmp_path: Path) -> None:
    target = tmp_path / "x"

    def write(number: int) -> None:
        for _ in range(10):
            with atomic_folder(target) as folder:
                for name in "abc":
                    (folder / name).write_text(str(number))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert names(tmp_path) == ["x"]
    assert names(target) == ["a", "b", "c"]
    assert len({(target / name).read_text() for name in "abc"}) == 1


def test_a_file_that_stands_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(OutputError, match="a file of this name is there"), atomic_folder(tmp_path / "x"):
        pass
    assert (tmp_path / "x").read_text() == "mine"


def test_a_name_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    name = "ä" * 120 + "x" * 15  # 255 bytes
    with atomic_folder(tmp_path / name) as folder:
        (folder / "file").write_text("1")
    write_atomic(tmp_path / name[1:], "2")
    assert names(tmp_path) == sorted([name, name[1:]])


def test_an_export_being_made_is_not_removed_and_one_taken_away_is_made_anew(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    with exclusive(entry):
        assert not free_to_remove(entry)
    entered = threading.Event()

    def wait() -> None:
        with exclusive(entry):
            (entry / "result").write_text("1")
            entered.set()

    waiter = threading.Thread(target=wait)
    with exclusive(entry):
        waiter.start()
        time.sleep(0.05)  # it may wait for the lock of a folder that goes away now
        shutil.rmtree(entry)
    waiter.join()
    assert entered.is_set()
    assert names(entry) == [".lock", "result"]
    assert free_to_remove(entry)
    assert names(tmp_path) == []


def test_a_full_disk_is_named_which_may_be_that_of_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("tempfile.tempdir", "/the/temporary/place")
    disks = {tmp_path / "x": (1, 5_000_000_000), Path("/the/temporary/place"): (2, 12_000)}
    monkeypatch.setattr("models.common.files._disk", lambda path: disks[path])
    said = str(cannot_write(full, tmp_path / "x", "do this"))
    assert said.startswith("no space left for temporary files in /the/temporary/place (0.0 MB free)")
    assert "TMPDIR" in said
    assert str(tmp_path) not in said
    disks[Path("/the/temporary/place")] = (2, 7_000_000_000)
    said = str(cannot_write(full, tmp_path / "x", "do this"))
    assert said == f"{tmp_path / 'x'}: cannot be written: no space left (5000.0 MB free); do this"


def test_a_full_disk_is_found_behind_what_a_library_says() -> None:
    def fails() -> None:
        try:
            raise RuntimeError("Error writing: No space left on device")
        except RuntimeError as exc:
            raise OutputError("cannot convert") from exc

    with pytest.raises(OutputError) as caught:
        fails()
    assert is_full(caught.value)
    assert not is_full(OutputError("no"))


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


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_what_never_ends_or_begins_is_not_waited_for(tmp_path: Path, what: str) -> None:
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "folder": tmp_path}[what]
    if what == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match=r"no plain file|directory"):
        read_text(path)
