"""streaming.runs.record: a run reads back as it was written, is there whole or not at all, and a wrong one is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.common.errors import OutputError, UsageError
from streaming.runs.record import LEDGER_COLUMNS, PARTS, RUN_FILE, read_run, run_folder


@pytest.mark.parametrize("task", ["enhancer", "classifier"])
def test_a_record_reads_back_as_it_was_written_and_has_the_same_bytes(make_run: Callable[..., Path], task: str) -> None:
    folder = make_run("a", task)
    record = read_run(folder)
    text = (folder / RUN_FILE).read_text()
    assert record.dump() == text
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert read_run(folder / RUN_FILE) == record == read_run(str(folder))
    assert (record.playout is None) == (task == "classifier") == bool(record.events)


def test_a_figure_that_is_no_number_is_not_written(make_run: Callable[..., Path]) -> None:
    record = read_run(make_run("a"))
    record.search["largest_slowdown"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.dump()


def spoilt(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    data = json.loads((folder / RUN_FILE).read_text())
    change(data)
    (folder / RUN_FILE).write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda data: data.pop("seed"), "seed"),
        (lambda data: data.update(clock="sundial"), "clock"),
        (lambda data: data["counts"].pop("lost"), "counts.lost"),
        (lambda data: data["ring"].update(capacity_samples="many"), "ring.capacity_samples"),
        (lambda data: data["ledger"][0]["total"].update(p99=None), "ledger.0.total.p99"),
        (lambda data: data.update(playout=[]), "playout"),
    ],
)
def test_an_invalid_field_is_named(make_run: Callable[..., Path], change: Callable[..., Any], where: str) -> None:
    folder = spoilt(make_run("a"), change)
    with pytest.raises(UsageError, match=rf"a.run.run.json: invalid run record: {where}: .*; simulate again") as caught:
        read_run(folder)
    assert "\n" not in str(caught.value)


def test_fields_of_a_later_version_are_read_over(make_run: Callable[..., Path]) -> None:
    folder = make_run("a")
    record = read_run(folder)
    assert read_run(spoilt(folder, lambda data: data.update(colour="red"))) == record


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ("[]", "expected a run with schema 'hearpack-run/1', got list"),
        ("{}", "expected a run with schema 'hearpack-run/1', got None"),
        ('{"schema": "hearpack-run/2"}', "expected a run with schema 'hearpack-run/1', got 'hearpack-run/2'"),
    ],
)
def test_what_is_no_run_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_run(tmp_path)


def test_no_folder_at_all_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"none.run: expected a run \(a folder with run.json\); make one with: hearpack"
    ):
        read_run(tmp_path / "none.run")


def write_into(path: Path, text: str) -> None:
    with run_folder(path) as folder:
        assert folder != path
        (folder / RUN_FILE).write_text(text)


def test_a_folder_is_there_when_all_went_well_and_replaces_an_older_run(tmp_path: Path) -> None:
    run = tmp_path / "x.run"
    write_into(run, "first")
    (run / "ledger.csv").write_text("of the first")
    write_into(run, "second")
    assert [f.name for f in run.iterdir()] == [RUN_FILE]
    assert (run / RUN_FILE).read_text() == "second"
    assert [f.name for f in tmp_path.iterdir()] == ["x.run"]


@pytest.mark.parametrize("older", [False, True])
def test_a_run_that_breaks_off_changes_nothing(tmp_path: Path, older: bool) -> None:
    run = tmp_path / "x.run"
    if older:
        write_into(run, "first")

    def interrupted() -> None:
        with run_folder(run) as folder:
            (folder / RUN_FILE).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [f.name for f in tmp_path.iterdir()] == (["x.run"] if older else [])
    assert not older or (run / RUN_FILE).read_text() == "first"


def test_what_is_not_a_run_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    for name in ("letters", "file"):
        with pytest.raises(OutputError, match=rf"{name}: exists and is not a run \(no run.json\); choose another name"):
            write_into(tmp_path / name, "run")
    with pytest.raises(OutputError, match="does not exist; make it first"):
        write_into(tmp_path / "none" / "x.run", "run")
    assert (tmp_path / "letters" / "mother.txt").read_text() == (tmp_path / "file").read_text() == "dear"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "letters"]


def test_an_empty_folder_may_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "x.run").mkdir()
    write_into(tmp_path / "x.run", "run")
    assert (tmp_path / "x.run" / RUN_FILE).read_text() == "run"


def test_a_ledgers_columns_are_its_parts_between_what_and_total() -> None:
    assert LEDGER_COLUMNS[:4] == ("kind", "index", "content_sample", "captured_ns")
    assert LEDGER_COLUMNS[4:] == (*PARTS, "total_ns")
    assert len(set(LEDGER_COLUMNS)) == len(LEDGER_COLUMNS)


def test_real_time_in_older_files_is_wall(make_run: Callable[..., Path]) -> None:
    folder = make_run("a", clock="realtime")
    written = read_run(folder)
    assert json.loads((folder / RUN_FILE).read_text())["clock"] == "realtime"
    assert read_run(spoilt(folder, lambda data: data.update(clock="wall"))) == written
    with pytest.raises(UsageError, match="invalid run record: clock"):
        read_run(spoilt(folder, lambda data: data.update(clock="sundial")))
