"""The demo's page: what was measured, pictures, and players whose sound is that of the files."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hearpack.demo.report import write_report
from hearpack.demo.run import BELL, DemoResult, Enhancement, Timeline
from streaming.files.events import TimedEvent
from streaming.files.wav import read_wav, write_wav
from streaming.metrics.quality import Metric

RATE = 16_000


def metric(name: str, value: float | None) -> Metric:
    return Metric(name, value, "dB", None if value is not None else "not <installed>")


def enhancement(folder: Path, model: str, snr_db: float, gained: float) -> Enhancement:
    files = [folder / f"{name}.wav" for name in ("speech", f"mixed-{snr_db:g}", f"{model}-{snr_db:g}")]
    for number, file in enumerate(files):
        tone = np.sin(2 * np.pi * 440.0 * (number + 1) * np.arange(RATE) / RATE).astype(np.float32)
        write_wav(file, 0.25 * tone, RATE)
    before = (metric("si_sdr", snr_db), metric("pesq_wb", None))
    after = (metric("si_sdr", snr_db + gained), metric("pesq_wb", None))
    return Enhancement(model, 8.0, snr_db, RATE, *files, before, after)


@pytest.fixture
def result(tmp_path: Path) -> DemoResult:
    ends = np.arange(1, 41) * 0.5
    scores = np.zeros((40, 2), np.float32)
    scores[10:20, 0] = 0.9
    event = TimedEvent(5.0, 10.0, BELL, 0.9, 0, 80_000, 152_320)
    timeline = Timeline((BELL, "Rain"), ends, scores, (event,), ((4.0, 11.0), (15.0, 16.0)))
    enhancements = tuple(
        enhancement(tmp_path, model, snr, gained)
        for model, snr, gained in (("dtln", 0.0, 3.0), ("gtcrn", 0.0, 7.5), ("dtln", 5.0, 2.0))
    )
    return DemoResult((), (), 12.3, (), timeline, enhancements)


def test_the_page_has_players_pictures_and_figures(result: DemoResult, tmp_path: Path) -> None:
    files = write_report(result, tmp_path)
    page = files.report.read_text(encoding="utf-8")
    sounds = re.findall(r"<audio controls[^>]*aria-label='([^']*)' src='data:audio/flac;base64,([^']*)'", page)
    assert [name for name, _ in sounds] == [
        "before", "after dtln", "after gtcrn", "the speech alone", "before", "after dtln", "the speech alone",
    ]  # fmt: skip
    played, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[1][1])), dtype="float32")
    assert rate == RATE
    assert np.abs(played - read_wav(result.enhancements[0].enhanced_file).samples[0]).max() < 1e-4
    assert page.count("data:image/png;base64,") == 2
    assert "7.5 <small>dB</small>" in page
    assert "SI-SDR, gtcrn, speech at 0 dB" in page
    assert "1 of 2" in page
    assert "not &lt;installed&gt;" in page


def test_the_page_asks_for_nothing(result: DemoResult, tmp_path: Path) -> None:
    page = write_report(result, tmp_path).report.read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:; media-src data:" in page
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", page)
