"""streaming.runs.load: a run's long lists in memory, as they lie on disk."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.errors import UsageError
from streaming.runs.load import delay_kind, load_run
from streaming.runs.record import EventRecord, read_run


def test_a_classifiers_lists_are_those_on_disk(make_run: Callable[..., Path]) -> None:
    folder = make_run("a", "classifier")
    run = load_run(folder)
    assert run.record == read_run(folder)
    assert run.folder == folder == load_run(folder / "run.json").folder
    assert run.scores is not None
    assert run.ends is not None
    assert run.scores.shape == (40, 6)
    assert run.scores.tobytes() == (folder / "scores.f32").read_bytes()
    assert run.ends.tobytes() == (folder / "ends.i64").read_bytes()


def test_a_ledger_has_the_compute_and_the_total_of_every_line(make_run: Callable[..., Path]) -> None:
    folder = make_run("a")
    (rows,) = load_run(folder).ledger
    with (folder / "ledger.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) > 100
    assert rows.kind == "block"
    assert rows.compute_ns.tolist() == [float(line["compute"]) for line in lines]
    assert rows.total_ns.tolist() == [float(line["total_ns"]) for line in lines]
    assert rows.total_ns.mean() == pytest.approx(read_run(folder).ledger[0].total.mean)


def test_kinds_of_a_ledger_are_kept_apart_and_an_empty_cell_is_nothing(make_run: Callable[..., Path]) -> None:
    folder = make_run("a", "classifier")
    file = folder / "ledger.csv"
    header, *lines = file.read_text().splitlines()
    place = header.split(",").index("compute")
    event = lines[0].split(",")
    event[0], event[place], event[-1] = "event", "", "77"
    file.write_text("\n".join([header, lines[0], ",".join(event), lines[1]]) + "\n")
    window, found = load_run(folder).ledger
    assert (window.kind, len(window.total_ns)) == ("window", 2)
    assert (found.kind, found.compute_ns.tolist(), found.total_ns.tolist()) == ("event", [0.0], [77.0])


def test_what_the_model_heard_is_there_if_it_was_kept(make_run: Callable[..., Path]) -> None:
    folder = make_run("a")
    heard = load_run(folder).heard
    assert heard is not None
    assert len(heard) == 20 * 16000
    assert np.abs(heard).max() == pytest.approx(0.2, abs=1e-3)
    for name in ("heard.wav", "ledger.csv"):
        (folder / name).unlink()
    run = load_run(folder)
    assert (run.heard, run.ledger, run.scores, run.ends) == (None, (), None, None)


@pytest.mark.parametrize("index", [-1, 6])
def test_an_event_of_a_label_that_has_no_scores_is_refused(make_run: Callable[..., Path], index: int) -> None:
    event = EventRecord("Nobody", index, 0, 160, 0.9, 160, 10, 10)
    folder = make_run("a", "classifier", events=[event])
    with pytest.raises(UsageError, match=rf"run.json: an event of label {index}, which the scores do not have"):
        load_run(folder)


def cut(name: str, text: str, put: str) -> Callable[[Path], Any]:
    return lambda run: (run / name).write_text(re.sub(text, put, (run / name).read_text(), count=1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut("ledger.csv", r"kind,index", "index,kind"), "expected the columns kind, index"),
        (cut("ledger.csv", r"\n(.*\n)", r"\n\1block,1,2\n"), r"ledger.csv: line 3 is cut off; simulate again"),
        (cut("ledger.csv", r"\d+\n$", "1.5\n"), "cannot be read as a ledger"),
        (lambda run: (run / "ledger.csv").write_bytes(b"\xff\xfe"), "cannot be read as a ledger"),
        (lambda run: (run / "scores.f32").write_bytes(bytes(4 * 39)), "39 scores do not fit 40 windows: cut off"),
        (lambda run: (run / "scores.f32").write_bytes(b""), "0 scores do not fit 40 windows: cut off"),
    ],
)
def test_lists_that_are_cut_off_are_named(
    make_run: Callable[..., Path], damage: Callable[[Path], Any], message: str
) -> None:
    folder = make_run("a", "classifier")
    damage(folder)
    with pytest.raises(UsageError, match=message):
        load_run(folder)


def test_delays_in_real_time_were_measured_and_virtual_ones_modelled(make_run: Callable[..., Path]) -> None:
    """Older files say "wall" for real time."""
    kinds = {clock: delay_kind(read_run(make_run(clock, clock=clock))) for clock in ("virtual", "realtime", "wall")}
    assert kinds == {"virtual": "modelled", "realtime": "measured", "wall": "measured"}
