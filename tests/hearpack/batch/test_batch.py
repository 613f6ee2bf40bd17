from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra batch is not installed: make batch")

import hearpack
from hearpack.batch import local, work
from hearpack.batch.inputs import Item
from hearpack.batch.job import Done, Job, Shard, alone
from hearpack.batch.summary import rows_of
from hearpack.batch.table import TIMING
from models.common.errors import OutputError, UsageError
from runtimes.bundle import Bundle
from streaming.files.wav import write_wav

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    random_ = np.random.default_rng(3)
    for number, rate in enumerate([16_000, 48_000, 44_100, 16_000, 16_000, 8_000, 16_000]):
        shape = (2, rate) if number == 2 else (rate,)
        write_wav(folder / f"{number}.wav", random_.standard_normal(shape).astype(np.float32) * 0.05, rate)
    (folder / "broken.wav").write_bytes(b"RIFF but no more")
    (folder / "empty.wav").write_bytes(b"")
    write_wav(folder / "loud.wav", np.full(16_000, 9000.0, np.float32), 16_000)
    return folder


def plain(output: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != TIMING} for row in rows_of(output)]


def audio(output: Path) -> dict[str, bytes]:
    return {str(f.relative_to(output)): f.read_bytes() for f in sorted((output / "audio").rglob("*.wav"))}


def test_a_classifier_gives_the_events_of_run(exported: dict[str, Path], recordings: Path, tmp_path: Path) -> None:
    result = hearpack.batch(exported["yamnet"], [recordings], tmp_path, scores=2, files_per_shard=3, workers=2)
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path)}
    assert (result.seen.files, result.seen.failed, result.seen.total, result.resumed) == (10, 3, 10, False)
    assert sorted(n for n, row in rows.items() if row["status"] == "failed") == ["broken.wav", "empty.wav", "loud.wav"]
    assert "empty (0 bytes)" in rows["empty.wav"]["reason"]
    assert "not scaled to 1.0" in rows["loud.wav"]["reason"]
    for name in ("1.wav", "2.wav"):
        found = hearpack.run(exported["yamnet"], recordings / name)
        assert [(e["onset_s"], e["offset_s"], e["label"]) for e in rows[name]["events"]] == [
            (e.onset_s, e.offset_s, e.label) for e in found.events
        ]
        assert rows[name]["calls"] == found.calls == len(rows[name]["windows"])
        assert rows[name]["windows"][0]["score"] == sorted(rows[name]["windows"][0]["score"], reverse=True)
    assert rows["2.wav"]["channels"] == 2
    assert sum(found.count for _, found in result.summary.failures) == 3
    assert "What could not be read" in result.page.read_text(encoding="utf-8")


def test_an_enhancer_gives_the_audio_of_run(exported: dict[str, Path], recordings: Path, tmp_path: Path) -> None:
    hearpack.batch(exported["dtln"], [recordings / "1.wav", recordings / "2.wav"], tmp_path / "out", workers=1)
    rows = list(rows_of(tmp_path / "out"))
    for row in rows:
        hearpack.run(exported["dtln"], row["path"], output=tmp_path / "one.wav")
        assert (tmp_path / "out" / row["audio"][0]).read_bytes() == (tmp_path / "one.wav").read_bytes()
    assert len(rows) == 2


def test_a_run_goes_on_and_another_is_refused(exported: dict[str, Path], recordings: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"files_per_shard": 4, "workers": 1}
    hearpack.batch(exported["dtln"], [recordings], tmp_path, **given)
    whole, sounds = plain(tmp_path), audio(tmp_path)
    victim = tmp_path / "files/0000/0000001.parquet"
    victim.unlink()
    again = hearpack.batch(exported["dtln"], [recordings], tmp_path, **given)
    assert (again.resumed, again.seen.now, again.seen.files) == (True, 4, 10)
    assert (plain(tmp_path), audio(tmp_path)) == (whole, sounds)
    with pytest.raises(UsageError, match="holds another run: its bundle is 'dtln', now it is 'yamnet'"):
        hearpack.batch(exported["yamnet"], [recordings], tmp_path, **given)
    with pytest.raises(UsageError, match="its items is 10, now it is 1"):
        hearpack.batch(exported["dtln"], [recordings / "0.wav"], tmp_path, **given)
    victim.write_bytes(b"PAR1 and rubbish")
    with pytest.raises(OutputError, match="is no whole Parquet file"):
        hearpack.batch(exported["dtln"], [recordings], tmp_path, **given)


def test_what_failed_is_tried_again_when_asked(exported: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / "in" / name, np.zeros(4000, np.float32), 16_000)
    good = (tmp_path / "in/b.wav").read_bytes()
    (tmp_path / "in/b.wav").write_bytes(b"")
    given = (exported["dtln"], [tmp_path / "in"], tmp_path / "out")
    assert hearpack.batch(*given, workers=1).seen.failed == 1
    (tmp_path / "in/b.wav").write_bytes(good)
    assert hearpack.batch(*given, workers=1).seen.failed == 1
    mended = hearpack.batch(*given, workers=1, retry_failed=True)
    assert (mended.seen.failed, mended.seen.files) == (0, 2)
    assert all((tmp_path / "out" / row["audio"][0]).is_file() for row in rows_of(tmp_path / "out"))


def killed(process: subprocess.Popen[bytes], chance: random.Random) -> None:
    """Kill the driver, or one of its workers."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with contextlib.suppress(OSError, ValueError):
        pids = [int(p) for p in children.read_text().split()]
        victim = chance.choice([process.pid, *pids[-2:]])
        os.kill(victim, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_nothing_is_lost_or_doubled_whoever_is_killed(exported: dict[str, Path], tmp_path: Path, kills: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    noise = np.random.default_rng(1).standard_normal(16_000 * 4).astype(np.float32) * 0.05
    for number in range(40 if kills < 50 else 400):
        write_wav(folder / f"{number:03d}.wav", np.roll(noise, 100 * number), 16_000)
    given = ["batch", str(exported["dtln"]), str(folder), "--shard-files", "5", "--workers", "2", "-o"]
    command = [sys.executable, "-m", "hearpack", *given]
    subprocess.run([*command, str(tmp_path / "calm")], cwd=ROOT, check=True, capture_output=True)
    chance = random.Random(5)
    for _ in range(kills):
        process = subprocess.Popen([*command, str(tmp_path / "wild")], cwd=ROOT, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.8, 3.0))
        killed(process, chance)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.1, 2.0))
        process.kill()
        process.wait()
    time.sleep(2.0)  # orphans end with their driver
    subprocess.run([*command, str(tmp_path / "wild")], cwd=ROOT, check=True, capture_output=True)
    assert plain(tmp_path / "wild") == plain(tmp_path / "calm")
    assert audio(tmp_path / "wild") == audio(tmp_path / "calm")
    assert not list((tmp_path / "wild").rglob(".*.hearpack-*"))


def test_the_recording_on_which_workers_die_is_given_up_and_no_other(tmp_path: Path) -> None:
    job = Job("", "", "", str(tmp_path), 0, "wav", "run")
    shard = Shard(7, ())
    deaths: dict[tuple[int, int], int] = {}
    with alone(tmp_path):
        local.note(job, shard, 3)
        assert local.blamed(job, shard, deaths, certain=False) == shard
        for _ in range(2):
            assert local.blamed(job, shard, deaths, certain=True) == shard
        assert local.blamed(job, shard, deaths, certain=True).given_up == (3,)
        with pytest.raises(OutputError, match="another hearpack batch works in it"), alone(tmp_path):
            pass


def test_what_is_not_the_recordings_fault_is_no_row(
    exported: dict[str, Path], recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over: list[int] = []
    job = Job(str(exported["dtln"]), "litert-fp32", "litert-interpreter", str(tmp_path), 0, "wav", "run")
    worker = work.Worker(job, lambda _shard, _at: None, lambda: over.append(1))
    item = Item(str(recordings / "0.wav"), str(recordings / "0.wav"))
    assert worker.work(Shard(0, (item,))).failed == 0
    assert over == [1]

    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/tmp/of-a-killed-driver")

    monkeypatch.setattr(work, "clean", gone)
    with pytest.raises(OutputError, match="cannot be written"):
        worker.work(Shard(1, (item,)))
    worker.close()
    assert sorted(p.name for p in (tmp_path / "files/0000").iterdir()) == ["0000000.parquet"]
    assert sorted(p.name for p in (tmp_path / "audio/0000").iterdir()) == ["0000000"]


def test_lines_of_json_tell_how_far_it_is(exported: dict[str, Path], recordings: Path, tmp_path: Path) -> None:
    command = ["batch", str(exported["yamnet"]), str(recordings), "-o", str(tmp_path / "out"), "--json"]
    ended = subprocess.run([sys.executable, "-m", "hearpack", *command], cwd=ROOT, check=True, capture_output=True)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["progress", "summary"]
    assert (lines[-1]["files"], lines[-1]["failed"], lines[-1]["total"]) == (10, 3, 10)


def test_a_run_that_cannot_begin_leaves_nothing(exported: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="no audio found"):
        hearpack.batch(exported["dtln"], [tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"audio": "mp3"}, "--audio: expected one of wav, flac, got 'mp3'"),
        ({"workers": 0}, "--workers: expected 1 or more, got 0"),
        ({"files_per_shard": 0}, "--shard-files: expected 1 or more"),
    ],
)
def test_wrong_arguments(exported: dict[str, Path], tmp_path: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        hearpack.batch(exported["dtln"], [tmp_path], tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_million_shards_cost_the_driver_little(tmp_path: Path) -> None:
    """The driver's own part, with work that does nothing: its memory does not grow with the shards."""
    import tracemalloc

    from hearpack.batch.job import ITEMS_FILE, mark, shards

    count = 100_000
    with (tmp_path / ITEMS_FILE).open("w") as stream:
        stream.writelines(f'["a/{n}.wav", "a/{n}.wav", 0, -1]\n' for n in range(count))
    skip = bytearray()
    for number in range(0, count // 2, 2):
        mark(skip, number)
    tracemalloc.start()
    seen = sum(1 for _ in shards(tmp_path, 1, skip))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == count - count // 4
    assert peak < 1_000_000


def test_every_kind_of_net_has_columns(exported: dict[str, Path]) -> None:
    from hearpack.batch.table import schema

    classifier = Bundle.open(exported["yamnet"]).manifest
    assert {"events", "windows"} <= set(schema(classifier, "r").names)
    embedder = classifier.model_copy(update={"task": "embedder"})
    assert "windows" in schema(embedder, "r").names
    assert schema(Bundle.open(exported["dtln"]).manifest, "r").names[-1] == "audio"
    assert dataclasses.astuple(Done(1, 2, 0, 1.0, 0.5)) == (1, 2, 0, 1.0, 0.5)
