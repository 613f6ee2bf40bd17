"""`run` over files: times are of the file, events go round through Audacity and tune, memory does not grow."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from models.common.errors import AudioError, UsageError
from models.weights.assets import pull_asset
from runtimes.bundle import Bundle, Manifest
from streaming.core.decisions import SoundEvent
from streaming.files.events import timed_events, write_events
from streaming.files.labels import read_labels
from streaming.files.stream_file import run
from streaming.files.wav import read_wav, write_wav
from streaming.tuning.tune import tune

ROOT = Path(__file__).resolve().parents[3]


def events_of(manifest: Manifest) -> list[SoundEvent]:
    hop, rate = manifest.hop_samples, manifest.geometry.sample_rate_hz
    first = manifest.buffer.samples - hop
    return [
        SoundEvent("Dog", 5, first + hop, first + hop, 0.5, 0),
        SoundEvent("=Bell", 3, first, first + 3 * hop, 0.75, 0),
        SoundEvent("Rain", 4, 59 * rate, 60 * rate, 0.9, 0),
    ]


@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_written_events_are_read_as_labels(exported: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    manifest = Bundle.open(exported["yamnet"]).manifest
    events = timed_events(events_of(manifest), manifest, 11, 60.0)
    assert [e.label for e in events] == ["=Bell", "Dog", "Rain"]
    assert events[0].onset_s == 0.0  # on in the first window
    assert events[1].offset_s - events[1].onset_s == pytest.approx(0.48)  # one window
    assert events[2].offset_s == 60.0  # not after the recording
    file = tmp_path / f"events{suffix}"
    write_events(file, events, 16000)
    labels = read_labels(file, ("=Bell", "Dog", "Rain"), 60.0)
    assert [i.label for i in labels] == [e.label for e in events]
    times = [(e.onset_s, e.offset_s) for e in events]
    assert np.allclose([(i.begin_s, i.end_s) for i in labels], times, rtol=0.0, atol=1e-9 if suffix == ".csv" else 1e-6)
    first = file.read_text().splitlines()[0]
    assert first.startswith("onset_s,offset_s,label,confidence," if suffix == ".csv" else "0.000000\t")


def test_run_to_audacity_to_tune_is_a_loop(copy_of: Any, tmp_path: Path) -> None:
    bundle, street = copy_of("yamnet"), pull_asset("street-wav")
    for name in ("events.csv", "events.txt"):
        result = run(bundle, street, output=tmp_path / name)
        report = tune(bundle, street, tmp_path / name, write=False)
        assert report.before.found == report.before.references > 20  # its own events, all of them
        assert report.before.false_alarms == 0
    rows = list(csv.DictReader((tmp_path / "events.csv").open()))
    assert [float(row["onset_s"]) for row in rows] == [e.onset_s for e in result.events]
    assert all(0.0 <= e.onset_s < e.offset_s <= result.duration_s for e in result.events)
    run(bundle, street, output=tmp_path / "events.json")
    assert len(json.loads((tmp_path / "events.json").read_text())["events"]) == len(rows)
    with pytest.raises(UsageError, match=r"writes \.csv, \.json or \.txt"):
        run(bundle, street, output=tmp_path / "events.wav")


@pytest.mark.parametrize("frames", [1, 160, 16000])
def test_events_of_short_files_lie_inside(exported: dict[str, Path], tmp_path: Path, frames: int) -> None:
    write_wav(tmp_path / "short.wav", np.zeros(frames, np.float32), 16000)
    result = run(exported["yamnet"], tmp_path / "short.wav")
    assert [(e.label, e.onset_s, e.offset_s) for e in result.events] == [("Silence", 0.0, frames / 16000)]
    assert result.level.notes == ("silence: every sample is 0",)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_an_enhanced_stereo_file_is_its_channels_enhanced_alone(
    exported: dict[str, Path], tmp_path: Path, rate: int
) -> None:
    """The channels go through the net by turns; neither disturbs the other, wherever blocks end."""
    sound = (0.1 * np.random.default_rng(6).standard_normal((2, 2 * rate + 345))).astype(np.float32)
    write_wav(tmp_path / "both.wav", sound, rate)
    result = run(exported["dtln"], tmp_path / "both.wav", output=tmp_path / "out.wav")
    both = read_wav(tmp_path / "out.wav").samples
    assert both.shape == sound.shape
    assert (result.duration_s, result.channels) == (sound.shape[1] / rate, 2)
    for channel in range(2):
        write_wav(tmp_path / "one.wav", sound[channel], rate)
        run(exported["dtln"], tmp_path / "one.wav", output=tmp_path / "alone.wav")
        assert read_wav(tmp_path / "alone.wav").samples[0].tobytes() == both[channel].tobytes()


def test_a_fault_late_in_the_file_leaves_nothing(exported: dict[str, Path], tmp_path: Path) -> None:
    sound = np.zeros(40000, np.float32)
    sound[-1] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="sample 39999"):
        run(exported["dtln"], tmp_path / "a.wav", output=tmp_path / "out.wav")
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.skipif(sys.platform == "darwin", reason="ru_maxrss is in bytes there")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A quarter of an hour of silence at 192 kHz in stereo would be 1.4 GB as float32."""
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 192000, 2, "PCM_16") as file:
        for _ in range(15):
            file.write(np.zeros((60 * 192000, 2), np.int16))
    script = (
        "import resource, sys\n"
        "from streaming.files.reader import AudioReader\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with AudioReader(sys.argv[1]) as reader:\n"
        "    blocks = reader.blocks()\n"
        "    next(blocks)\n"
        "    before = peak()\n"
        "    frames = 65536 + sum(len(block) for block in blocks)\n"
        "    print(frames, peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "long.flac")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    frames, grown_kb = map(int, done.stdout.split())
    assert frames == 15 * 60 * 192000
    assert grown_kb < 20_000
