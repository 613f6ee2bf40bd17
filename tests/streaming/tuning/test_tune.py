"""Tuning: on synthetic scores the known best, on the real street rings that the default decisions miss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common.errors import UsageError
from models.weights.assets import pull_asset
from runtimes.bundle import Bundle, Decisions, LabelDecisions
from streaming.files.labels import Interval
from streaming.metrics.detection import Heard, judge
from streaming.tuning.search import Search, Setting
from streaming.tuning.tune import _hold_out, tune, write_decisions

RATE, HOP = 1000, 500
PRESENT = Decisions(window_hop_samples=HOP, on_threshold=0.5, off_threshold=0.3, smoothing_windows=1)
BELLS = tuple(Interval("Bell", begin, begin + 2.0) for begin in (10.0, 30.0, 50.0, 70.0))


def search(on_bell: float, between: float, allowed: float = 0.0, references: tuple[Interval, ...] = BELLS) -> Search:
    """80 s of windows: `on_bell` where a bell rings, `between` for half a second at 20, 40 and 60 s, 0 elsewhere."""
    ends = np.arange(1, 161, dtype=np.int64) * HOP
    at_s = ends / RATE
    scores = np.zeros(len(ends), np.float32)
    for bell in BELLS:
        scores[(at_s > bell.begin_s) & (at_s <= bell.end_s)] = on_bell
    for spot in (20.5, 40.5, 60.5):
        scores[at_s == spot] = between
    heard = Heard(("Bell",), ends, scores[:, None], RATE, 0.0, 80.0)
    return Search(heard, references, PRESENT, 0.5, allowed)


def test_the_threshold_stands_in_the_middle_of_what_works() -> None:
    setting = search(on_bell=0.8, between=0.0).best()["Bell"]
    assert setting.smoothing_windows == 1
    assert 0.3 <= setting.on_threshold <= 0.5  # thresholds from 0.02 to 0.8 do equally well
    quality = search(0.8, 0.0).judge_label("Bell", setting)
    assert (quality.found, quality.false_alarms, len(quality.detections)) == (4, 0, 4)


def test_false_alarms_are_kept_out_by_threshold_or_duration() -> None:
    found = search(on_bell=0.4, between=0.3)
    setting = found.best()["Bell"]
    quality = found.judge_label("Bell", setting)
    assert (quality.found, quality.false_alarms) == (4, 0)
    # Louder than the bells but half as short: no threshold can tell them, a duration or smoothing can.
    found = search(on_bell=0.4, between=0.9)
    setting = found.best()["Bell"]
    assert setting.min_on_ms > 0 or setting.smoothing_windows > 1
    quality = found.judge_label("Bell", setting)
    assert (quality.found, quality.false_alarms) == (4, 0)


def test_the_curve_trades_recall_against_false_alarms() -> None:
    found = search(on_bell=0.6, between=0.3, allowed=1e9)
    setting = Setting(1, 0.45, 0.45, 0.0, 0.0)
    curve = {p.on_threshold: p for p in found.curve({"Bell": setting})}
    assert curve[0.1].false_alarms_per_hour == pytest.approx(3 * 3600 / 68)  # 80 s less four labels with their collars
    assert (curve[0.45].recall, curve[0.45].false_alarms_per_hour) == (1.0, 0.0)
    assert curve[0.7].recall == 0.0
    assert [p.chosen for p in curve.values()].count(True) == 1


def test_held_out_parts_are_judged_by_each_other_s_settings() -> None:
    held = _hold_out(search(0.8, 0.0), False, lambda *_: None)
    assert held.why_not is None
    assert (held.references, held.found, held.false_alarms, len(held.parts)) == (4, 4, 0, 2)
    assert held.parts[0].seconds + held.parts[1].seconds == pytest.approx(80.0)
    alone = _hold_out(search(0.8, 0.0, references=BELLS[:1]), False, lambda *_: None)
    assert alone.parts == ()
    assert alone.why_not is not None


def street() -> tuple[Path, Path]:
    return pull_asset("street-wav"), pull_asset("street-csv")


def test_tuning_finds_the_short_rings_of_the_street_and_says_what_that_is_worth(copy_of: Any) -> None:
    bundle = Bundle.open(copy_of("yamnet"))
    golden = (bundle.path / "golden" / "golden.json").read_bytes()
    report = tune(bundle, *street(), label="Bicycle bell", judge_on=street())
    assert report.other == report.after  # "another" recording that is the same one
    assert report.before.found == 2
    assert {m.begin_s for m in report.before.missed} == {0.0, 54.863}
    assert report.after.found == 4
    assert report.after.false_alarms == 0
    assert report.held_out.found < report.after.found  # what it is worth elsewhere
    assert report.met
    assert report.written
    again = Bundle.open(bundle.path)
    assert again.manifest.decisions == report.decisions
    assert set(report.decisions.per_label) == {"Bicycle bell"}
    assert (bundle.path / "golden" / "golden.json").read_bytes() == golden
    again.check_files()


def test_writing_keeps_what_we_do_not_know_and_refuses_nonsense(copy_of: Any) -> None:
    bundle = Bundle.open(copy_of("yamnet"))
    file = bundle.path / "manifest.json"
    data = json.loads(file.read_text())
    data["of_tomorrow"] = {"kept": True}
    file.write_text(json.dumps(data))
    decisions = bundle.manifest.decisions
    assert decisions is not None
    write_decisions(bundle, decisions.model_copy(update={"per_label": {"Dog": LabelDecisions(on_threshold=0.7)}}))
    written = json.loads(file.read_text())
    assert written["of_tomorrow"] == {"kept": True}
    assert written["decisions"]["per_label"]["Dog"] == {"on_threshold": 0.7}
    assert [p.name for p in bundle.path.iterdir() if p.name.startswith(".")] == []


def test_what_cannot_be_tuned_is_one_line(exported: dict[str, Path], copy_of: Any, tmp_path: Path) -> None:
    wav, labels = street()
    with pytest.raises(UsageError, match="is of task enhancer; expected a classifier"):
        tune(Bundle.open(exported["dtln"]), wav, labels, label="Bicycle bell")
    bundle = Bundle.open(exported["yamnet"])
    with pytest.raises(UsageError, match="with --label"):
        tune(bundle, wav, labels)
    with pytest.raises(UsageError, match="expected 0 or more an hour"):
        tune(bundle, wav, labels, label="Bicycle bell", false_alarms_per_hour=-1.0)
    with pytest.raises(UsageError, match="--collar: expected 0 to 60 s"):
        tune(bundle, wav, labels, label="Bicycle bell", collar_s=-1.0)
    (tmp_path / "false.csv").write_text("0,1,7,False\n")
    with pytest.raises(UsageError, match="nothing to tune for"):
        tune(bundle, wav, tmp_path / "false.csv", label="Bicycle bell")


def test_what_finds_nothing_is_not_written(copy_of: Any, tmp_path: Path) -> None:
    bundle = Bundle.open(copy_of("yamnet"))
    before = (bundle.path / "manifest.json").read_bytes()
    labels = tmp_path / "wrong.csv"
    labels.write_text("10,12,Chainsaw\n")
    report = tune(bundle, street()[0], labels)
    assert not report.met
    assert not report.written
    assert report.held_out.why_not is not None
    assert (bundle.path / "manifest.json").read_bytes() == before


def test_judging_is_the_same_for_a_label_alone_and_among_others() -> None:
    generator = np.random.default_rng(5)
    ends = np.arange(1, 101, dtype=np.int64) * HOP
    scores = generator.random((100, 3)).astype(np.float32)
    together = Heard(("Bell", "Dog", "Rain"), ends, scores, RATE, 0.0, 50.0)
    reference = (Interval("Dog", 3.0, 5.0), Interval("Rain", 20.0, 22.0))
    parts = [judge(together.of((name,)), PRESENT, reference, 0.5) for name in together.labels]
    whole = judge(together, PRESENT, reference, 0.5)
    assert whole.found == sum(p.found for p in parts)
    assert whole.false_alarms == sum(p.false_alarms for p in parts) > 0
