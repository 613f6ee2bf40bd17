"""The report: same files, same bytes; measured and modelled apart; damaged files named."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.errors import HearpackError, UsageError
from streaming.metrics.intervals import bootstrap_difference
from streaming.report.data import gather
from streaming.report.run_sections import _figure, run_sections
from streaming.report.write import report
from streaming.runs.compare import compare
from streaming.runs.load import load_run
from streaming.runs.record import FaultRecord

ROOT = Path(__file__).resolve().parents[3]
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "line", "polyline", "polygon", "image"}


class _Balanced(HTMLParser):
    """Raises where a tag is closed that is not open; collects ids, links and tables."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {str(given["id"])} if "id" in given else set()
        if tag == "a":
            self.links.add(str(given["href"]).removeprefix("#"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(file: Path) -> _Balanced:
    parser = _Balanced()
    parser.feed(file.read_text())
    assert parser.open == []
    return parser


def test_every_section_of_both_tasks_is_there(make_run: Callable[..., Path], tmp_path: Path) -> None:
    for task, wanted in (
        ("enhancer", ("Playout ring", "playout prefill", "Delay of a block")),
        ("classifier", ("Bicycle bell", "Events", "smoothing")),
    ):
        file = tmp_path / f"{task}.html"
        report(make_run(task, task), output=file, command=["hearpack", "report", "x y"])
        page = parsed(file)
        said = " ".join(page.words)
        for word in (
            *wanted,
            "Does it keep up?",
            "Computing time",
            "Capture ring",
            "assumption",
            "'some bundle'",
            "'x y'",
        ):
            assert word in said, word
        assert page.links <= page.ids


def test_labels_from_a_bundle_cannot_write_into_the_page(make_run: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    report(make_run("c", "classifier"), output=file)
    text = file.read_text()
    assert "<script>alert" not in text
    assert len(re.findall("<script", text)) == 1  # the data
    stored = re.search(r'id="report-data">(.*?)</script>', text, re.S)
    assert stored is not None
    events = json.loads(stored.group(1))["runs"][0]["record"]["events"]
    assert events[1]["label"] == "Dog, <script>alert('x')</script>"


def test_the_page_forbids_itself_the_network_and_names_none(make_run: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    report(make_run("a"), output=file)
    text = file.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|src=[\"']?/|@import|url\((?!data:)", text)


def test_measured_and_modelled_never_share_a_table(make_run: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    report(make_run("a"), output=file)
    text = file.read_text()
    tables = re.findall(r"<table>.*?</table>", text, re.S)
    assert any("this machine, paced" in table for table in tables)
    assert any("drawn in this run" in table for table in tables)
    for table in tables:
        assert not ("this machine, paced" in table and "drawn in this run" in table)
    assert text.index("Measured <span") < text.index("this machine, paced") < text.index("Modelled <span")


def test_the_same_files_give_the_same_bytes_in_another_process(make_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [make_run("a", "classifier"), make_run("b", "classifier", seed=2, slower=3.0)]
    pages, data = [], []
    for number in range(2):
        out, plain = tmp_path / f"{number}.html", tmp_path / f"{number}.json"
        code = (
            "import sys; from pathlib import Path; from streaming.report.write import report; "
            "a = list(map(Path, sys.argv[1:])); "
            "report(*a[:2], output=a[2], data=a[3], command=['hearpack', 'report'])"
        )
        arguments = [sys.executable, "-c", code, *map(str, runs), str(out), str(plain)]
        subprocess.run(arguments, check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": str(number)})
        pages.append(out.read_bytes())
        data.append(plain.read_bytes())
    assert pages[0] == pages[1]
    assert data[0] == data[1]
    assert json.loads(data[0])["schema"] == "hearpack-report/1"


def test_a_comparison_shows_what_differs_and_only_that(make_run: Callable[..., Path], tmp_path: Path) -> None:
    a, b = load_run(make_run("a", slower=2.0)), load_run(make_run("b", seed=2, slower=3.0))
    found = compare(a, b)
    by_name = {f.figure: f for f in found.figures}
    compute = by_name["computing time of a call, p50"]
    assert compute.shown
    assert compute.low_ms < compute.difference_ms < compute.high_ms
    assert compute.b_ms / compute.a_ms == pytest.approx(1.5, rel=0.05)
    expected = bootstrap_difference(a.ledger[0].compute_ns / 1e6, b.ledger[0].compute_ns / 1e6, 0.5, block=50)
    assert compute.difference_ms == expected.difference
    assert ("seed", "1", "2") in found.apart
    longer = load_run(make_run("d", slower=2.0, hop_samples=256))
    per_second = {f.figure: f for f in compare(a, longer).figures}["computing time for 1 s of sound, p50"]
    assert per_second.b_ms == pytest.approx(per_second.a_ms / 2)
    same = compare(a, a)
    assert not any(f.shown for f in same.figures)
    assert same.apart == ()
    said = report(a.folder, b.folder, output=tmp_path / "ab.html").data["comparisons"][0]
    assert (said["a"], said["b"]) == ("A", "B")
    assert "B slower" in (tmp_path / "ab.html").read_text()


def test_measured_runs_are_not_compared_with_modelled_ones(make_run: Callable[..., Path], tmp_path: Path) -> None:
    virtual, realtime = load_run(make_run("a")), load_run(make_run("b", clock="realtime"))
    found = compare(virtual, realtime)
    assert found.figures == ()
    assert "A's times were modelled, B's measured: not comparable" in found.why_not
    report(virtual.folder, realtime.folder, output=tmp_path / "ab.html")
    assert "not comparable" in (tmp_path / "ab.html").read_text()
    with pytest.raises(UsageError, match="expected two of the same task"):
        compare(virtual, load_run(make_run("c", "classifier")))


def test_a_run_that_has_next_to_nothing_still_makes_a_page(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("a", compute=[], ledger=[], envelope=[], events=[], faults=[], faults_total=0, playout=None,
                   delay_check=None, ended="interrupted", message="interrupted after 3.0 s")  # fmt: skip
    for name in ("ledger.csv", "heard.wav"):
        (run / name).unlink()
    report(run, output=tmp_path / "page.html")
    said = " ".join(parsed(tmp_path / "page.html").words)
    assert "Ended early: interrupted after 3.0 s" in said


def _truncate(run: Path, name: str, keep: float) -> None:
    data = (run / name).read_bytes()
    (run / name).write_bytes(data[: int(len(data) * keep)])


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no run": (lambda run: (run / "run.json").unlink(), r"expected a run \(a folder with run.json\)"),
    "truncated record": (lambda run: _truncate(run, "run.json", 0.5), "cannot be read as JSON"),
    "truncated ledger": (lambda run: _truncate(run, "ledger.csv", 0.613), r"ledger.csv.*(cut off|cannot be read)"),
    "another ledger": (lambda run: (run / "ledger.csv").write_text("a,b\n1,2\n"), "expected the columns kind, index"),
    "ledger of words": (
        lambda run: (run / "ledger.csv").write_text((run / "ledger.csv").read_text().replace("7\n", "seven\n")),
        "cannot be read as a ledger",
    ),
    "truncated scores": (lambda run: _truncate(run, "scores.f32", 0.511), "do not fit 40 windows: cut off"),
    "truncated sound": (lambda run: _truncate(run, "heard.wav", 0.5), "is truncated"),
    "another schema": (
        lambda run: (run / "run.json").write_text('{"schema": "hearpack-run/2"}'),
        "expected a run with schema",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_runs_are_one_line(damage: str, make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("c", "classifier")
    spoil, message = DAMAGES[damage]
    spoil(run)
    page = tmp_path / "page.html"
    page.write_text("an older page")
    with pytest.raises(HearpackError, match=message) as caught:
        report(run, output=page)
    assert "\n" not in str(caught.value)
    assert page.read_text() == "an older page"


def test_nothing_to_report_and_wrong_endings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected at least one run"):
        report(output=tmp_path / "page.html")
    with pytest.raises(UsageError, match=r"expected NAME.html, got 'page.pdf'"):
        report(output=tmp_path / "page.pdf")
    (tmp_path / "advice.json").write_text('{"schema": "hearpack-run/1"}')
    with pytest.raises(UsageError, match="expected advice"):
        report(output=tmp_path / "page.html", advices=[tmp_path / "advice.json"])
    (tmp_path / "advice.json").write_text('{"schema": ')
    with pytest.raises(UsageError, match="cut off or no JSON"):
        report(output=tmp_path / "page.html", advices=[tmp_path / "advice.json"])


def test_frozen_types_reach_the_data_as_plain_json(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = load_run(make_run("a"))
    data = report(run.folder, output=tmp_path / "page.html", data=tmp_path / "data.json").data
    stored = json.loads((tmp_path / "data.json").read_text())
    assert stored == json.loads(json.dumps(data))
    assert stored["runs"][0]["record"]["counts"] == dataclasses.asdict(run.record.counts)


def test_an_hour_is_read_at_a_glance(hour_run: Path, tmp_path: Path) -> None:
    """Times of a clock, scores in strips instead of a tangle, and no more faults claimed than are shown."""
    report(hour_run, output=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    parsed(tmp_path / "r.html")
    assert len(page) < 3_000_000
    for expected in ("45:00", "min:s of the model&#x27;s stream", "The first 1,000 of 114,545 faults", "1,859"):
        assert expected in page, expected
    drawn = page.split('id="report-data"')[0]
    assert "114545" not in drawn
    assert "114,545 faults marked" not in drawn.replace("20 of 114,545 faults marked", "")
    assert drawn.count('class="lane high"') == 6
    assert "the highest of up to 13 windows" in drawn
    for figure in ("<td>192</td>", "<td>none</td>", "<td>from 0 s 1, from 240 s 1.8</td>"):
        assert figure in drawn, figure


def test_figures_that_a_run_cannot_have_are_told_or_written_as_they_are(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run("a", "classifier")
    data = json.loads((run / "run.json").read_text())
    data["profile"]["figures"]["throttle"] = {"value": [[{}, 1.0]], "source": "assumption"}
    (run / "run.json").write_text(json.dumps(data))
    report(run, output=tmp_path / "r.html")
    assert "[[{}, 1.0]]" in (tmp_path / "r.html").read_text()
    for path, value, said in (
        (("events", 0, "index"), 5000, "label 5000"),
        (("events", 0, "delay_ns"), 10**30, "64 bits"),
        (("ledger", 0, "mean_parts", "compute"), float("nan"), "not finite"),
        (("envelope", 1, "high"), 1e308, "finite range"),
    ):
        changed = json.loads(json.dumps(data))
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (run / "run.json").write_text(json.dumps(changed))
        with pytest.raises(HearpackError, match=said):
            report(run, output=tmp_path / "bad.html")
    assert not (tmp_path / "bad.html").exists()


def test_faults_are_counted_by_kind_and_marked_where_they_lie_on_the_stream(make_run: Callable[..., Path]) -> None:
    overruns = [FaultRecord(1_000_000_000 + k, "ring_overrun", 64, 16000, "drop_oldest") for k in range(40)]
    dropout = FaultRecord(12_000_000_000, "dropout", 3200, 16000, "")
    folder = make_run(
        "a", faults=[*overruns, dropout], faults_total=41, injected=["dropout at 12 s: 200 ms"], first_late_ns=None
    )
    loaded = load_run(folder)
    # The device lost its first 0.6 s: what was captured at 12 s is at 11.4 s of the model's stream.
    captured = np.arange(loaded.ledger[0].total_ns.size) * 8e6 + 0.6e9
    samples = (captured / 1e9 - 0.6) * 16000
    ledger = dataclasses.replace(loaded.ledger[0], captured_ns=captured, content_samples=samples)
    data, _ = gather([dataclasses.replace(loaded, ledger=(ledger,))], [], [], [])
    (run,) = data["runs"]
    assert [(k["kind"], k["count"]) for k in run["fault_kinds"]] == [("dropout", 1), ("ring_overrun", 40)]
    (mark,) = [f for f in run["faults"] if f["kind"] == "dropout"]
    assert mark["stream_s"] == pytest.approx(11.4)
    assert mark["time_ns"] == 12_000_000_000
    page = "".join(section.inner for section in run_sections(run, False))
    assert page.index("put in") < page.index(">dropout<") < page.index(">ring overrun<")
    assert "keeps up" in page.lower()


def test_rate_changes_are_told_in_words() -> None:
    changes = [{"at_s": 7.4, "rate_hz": 16000, "gap_ms": 640.0}]
    assert _figure(changes) == "at 7.4 s to 16,000 Hz, 640 ms lost"
