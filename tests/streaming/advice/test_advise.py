"""Advice: the same every time, the device's own losses told apart, recommendations that follow from figures."""

from __future__ import annotations

import dataclasses
import html
import json
from pathlib import Path
from typing import Any

import pytest

from models.common.errors import UsageError
from runtimes.bundle import Bundle
from streaming.advice.advise import Candidate, advise, candidate, recommend
from streaming.measure.calibration import Calibration, CalibrationEntry
from streaming.report.write import report
from streaming.simulator.device.profile import load_profile


def calibration(milliseconds: float, buffer_samples: int = 128, bundle: str = "dtln-128.hearpack") -> Calibration:
    """Every call takes the same time here."""
    points = [round(milliseconds * 1e6)] * 10
    entry = CalibrationEntry(
        bundle, "litert-fp32", "0" * 64, "litert-compiled", "2", 1, buffer_samples, 8_000_000, points, points, 10, 10
    )
    return Calibration("hearpack-calibration/1", "a machine", "0", [entry])


def one(**changes: Any) -> Candidate:
    base = Candidate(
        device="d",
        device_title="D",
        bundle="net-128.hearpack",
        artefact="litert-fp32",
        buffer_ms=8.0,
        load=0.2,
        p99_of_hop=0.4,
        delay_p50_ms=50.0,
        delay_p95_ms=60.0,
        calls=1000,
        misses=0,
        dropped=0,
        underruns=0,
        own_dropped=0,
        own_underruns=0,
        ring_ms=10.0,
    )
    return dataclasses.replace(base, **changes)


def test_the_soonest_that_is_clean_with_time_to_spare_is_recommended() -> None:
    late = one(bundle="net-64.hearpack", delay_p95_ms=40.0, misses=3)
    tight = one(bundle="net-96.hearpack", delay_p95_ms=50.0, p99_of_hop=0.9)
    good = one()
    light = one(bundle="net-512.hearpack", delay_p95_ms=100.0, load=0.05)
    found = recommend("d", (late, tight, good, light))
    assert found.recommended == 2
    assert "net-128 litert-fp32, a delay of 60 ms (p95) at 20.0% of a core" in found.why
    assert "net-512 litert-fp32 would load 5.0% and be 40 ms later" in found.why
    assert "Sooner would be net-64 litert-fp32 (40 ms): 3 of 1,000 calls late" in found.why


def test_between_equal_delays_the_lighter_one_wins() -> None:
    assert recommend("d", (one(), one(load=0.1, delay_p95_ms=60.9))).recommended == 1
    assert recommend("d", (one(), one(load=0.1, delay_p95_ms=61.1))).recommended == 0


def test_where_nothing_keeps_up_nothing_is_recommended() -> None:
    found = recommend("d", (one(misses=500), one(misses=20, p99_of_hop=1.4)))
    assert found.recommended is None
    assert "nothing keeps up" in found.why
    assert "20 of 1,000 calls late, p99 of a call 140% of its hop" in found.why


def test_losses_of_the_device_are_not_the_net_s() -> None:
    assert one(underruns=2, own_underruns=2, dropped=9, own_dropped=9).safe
    assert not one(underruns=3, own_underruns=2).clean
    assert not one(dropped=1).clean
    assert "loses even with a net that takes no time" in recommend("d", (one(underruns=2, own_underruns=2),)).why


def run(exported: dict[str, Path], milliseconds: float, device: str, seconds: float = 4.0) -> Candidate:
    bundle = Bundle.open(exported["dtln"])
    return candidate(bundle, None, None, load_profile(device), calibration(milliseconds), seconds, 0)


def test_a_fast_net_is_clean_and_a_slow_one_is_not(exported: dict[str, Path]) -> None:
    fast, slow = run(exported, 0.1, "this-machine"), run(exported, 12.0, "this-machine")
    assert fast.safe
    assert fast.load == pytest.approx(0.1 / 8.0)
    assert fast.delay_p95_ms > 24.0  # the model's own delay alone
    assert slow.misses > 100
    assert not slow.clean
    assert slow.load == pytest.approx(1.5)


def test_a_rate_change_is_the_device_s_own_loss(exported: dict[str, Path]) -> None:
    found = run(exported, 0.1, "airpods", 30.0)
    assert found.misses == 0
    assert found.underruns == found.own_underruns > 0
    assert found.clean


def test_advice_is_the_same_every_time_and_makes_a_page(exported: dict[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(exported["dtln"])
    texts = [
        advise(bundle, devices=("iphone-sink", "android-a53"), calibration=calibration(0.3), seconds=4.0, seed=3).dump()
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    data = json.loads(texts[0])
    assert [d["device"] for d in data["devices"]] == ["iphone-sink", "android-a53"]
    assert data["devices"][0]["recommended"] == 0
    (tmp_path / "advice.json").write_text(texts[0])
    report(output=tmp_path / "page.html", advices=[tmp_path / "advice.json"])
    page = (tmp_path / "page.html").read_text()
    assert "recommended" in page
    titles = [load_profile(name).title for name in ("iphone-sink", "android-a53")]
    assert all(html.escape(title) in page for title in titles)


def test_a_classifier_is_advised_too(exported: dict[str, Path]) -> None:
    bundle = Bundle.open(exported["yamnet"])
    own = calibration(2.0, 15600, bundle.path.name)
    found = advise(bundle, devices=("iphone-tap",), calibration=own, seconds=5.0).devices[0]
    assert found.candidates[0].buffer_ms == 480.0
    assert found.recommended == 0


def test_what_cannot_be_advised_is_one_line(exported: dict[str, Path]) -> None:
    dtln, yamnet = (Bundle.open(exported[name]) for name in ("dtln", "yamnet"))
    with pytest.raises(UsageError, match="bundles of one task, got classifier, enhancer"):
        advise(dtln, yamnet, calibration=calibration(1.0))
    with pytest.raises(UsageError, match="at least one bundle"):
        advise()
    with pytest.raises(UsageError, match="unknown device 'iphne'"):
        advise(dtln, devices=("iphne",), calibration=calibration(1.0))
    with pytest.raises(UsageError, match="expected 1 to 3600"):
        advise(dtln, calibration=calibration(1.0), seconds=0.0)
    with pytest.raises(UsageError, match="calibration: no times of litert-fp32"):
        advise(dtln, devices=("iphone-sink",), calibration=calibration(1.0, 999), seconds=2.0)
