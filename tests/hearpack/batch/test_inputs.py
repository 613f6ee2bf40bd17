from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from hearpack.batch.inputs import Item, expand, opened
from models.common.errors import AudioError, UsageError
from streaming.files.wav import write_wav


def sound(file: Path, seconds: float = 0.1) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_wav(file, np.zeros(int(16_000 * seconds), np.float32), 16_000)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.wav", "b/10.FLAC", "a.wav", "._a.wav", ".hidden/x.wav", "notes.txt", "song.m4a"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    return tmp_path / "in"


def paths(*inputs: object, column: str = "path") -> list[str]:
    return [item.path for item in expand([str(i) for i in inputs], column)]


def test_a_folder_gives_all_audio_below_in_order(folder: Path) -> None:
    assert paths(folder) == [str(folder / n) for n in ("a.wav", "b/10.FLAC", "b/2.wav", "song.m4a")]


def test_a_glob_and_a_file(folder: Path) -> None:
    assert paths(folder / "**/*.wav") == [str(folder / "a.wav"), str(folder / "b/2.wav")]
    assert paths(folder / "a.wav", folder / "a.wav") == [str(folder / "a.wav")] * 2


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_a_list_is_read_by_its_column(folder: Path, form: str) -> None:
    file = folder / f"list.{form}"
    if form == "jsonl":
        file.write_text(json.dumps({"n": 1, "clip": "b/2.wav"}) + "\n\n" + json.dumps({"clip": "s3://x/y.wav"}) + "\n")
    else:
        tab = "\t" if form == "tsv" else ","
        file.write_text(f"\ufeffn{tab}clip\n1{tab}b/2.wav\n2{tab}s3://x/y.wav\n", encoding="utf-8")
    assert paths(file, column="clip") == [str(folder / "b/2.wav"), "s3://x/y.wav"]
    with pytest.raises(UsageError, match=r"no column 'path'; it has: .*clip; name it with --column"):
        paths(file)


def test_a_list_as_parquet(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra batch is not installed: make batch")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"path": ["a.wav"], "n": [1]}), folder / "list.parquet")
    assert paths(folder / "list.parquet") == [str(folder / "a.wav")]
    with pytest.raises(UsageError, match="no column 'clip'; it has: path, n"):
        paths(folder / "list.parquet", column="clip")


def test_members_of_a_tar_are_read_where_they_lie(tmp_path: Path) -> None:
    content = sound(tmp_path / "x.wav").read_bytes()
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name in ("0001.json", "0001.wav", "0002.wav"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    items = list(expand([str(tmp_path / "shard.tar")]))
    assert [i.path.rsplit("/", 1)[1] for i in items] == ["0001.wav", "0002.wav"]
    with opened(items[1]) as file:
        assert file.read_bytes() == content
        assert file.suffix == ".wav"
    assert not file.exists()


def test_a_cut_tar_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(UsageError, match=r"x\.tar: is no whole tar file"):
        paths(tmp_path / "x.tar")


def test_urls_are_opened_by_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in ("/clips/a.wav", "/clips/deep/b.wav", "/clips/c.txt"):
        memory.pipe(name, b"sound")
    items = list(expand(["memory://clips"]))
    assert [i.path for i in items] == ["memory:///clips/a.wav", "memory:///clips/deep/b.wav"]
    with opened(items[0]) as file:
        assert file.read_bytes() == b"sound"
    memory.rm("/clips", recursive=True)
    with pytest.raises(AudioError, match="does not exist"), opened(items[0]):
        pass


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("gone", "does not exist; expected a file, a folder"),
        ("*.wav", "no audio found"),
        ("empty", "no audio found"),
        ("nosuch://x/y", "cannot be opened"),
    ],
)
def test_what_matches_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says):
        paths(given)


def test_a_member_that_is_cut_off_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"12345")
    with (
        pytest.raises(AudioError, match="expected 100 bytes, got 3"),
        opened(Item("x.tar/a.wav", str(tmp_path / "x.tar"), 2, 100)),
    ):
        pass
