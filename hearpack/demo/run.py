"""The demonstration: models exported, verified and put to work on real audio, with a report at the end."""

from __future__ import annotations

import csv
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters.bundle.reference import stream
from converters.bundle.test_audio import noisy_speech, street
from converters.export import export
from converters.verify import VerifyReport, verify
from models.common.errors import FetchError
from models.common.progress import Progress
from models.nets.dtln.entry import DTLN
from models.nets.gtcrn.entry import GTCRN
from models.nets.yamnet.entry import YAMNET
from models.weights.assets import pull_asset
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime
from streaming.core.decisions import detect
from streaming.files.events import TimedEvent, timed_events
from streaming.files.stream_file import run
from streaming.files.wav import read_wav, write_wav
from streaming.metrics.quality import Metric, measure

Array = NDArray[np.float32]

SNRS_DB = (0.0, 5.0)
CLIP_SECONDS = 20.0
BELL = "Bicycle bell"


@dataclass(frozen=True)
class Timeline:
    """What the classifier gave over the street recording.

    Attributes:
        labels: names, in the order of the scores.
        ends_s: end of each window, [windows].
        scores: float32 [windows, labels].
        events: what the decisions made of the scores.
        labelled: (begin, end) in s of the bells that a person labelled.
    """

    labels: tuple[str, ...]
    ends_s: NDArray[np.float64]
    scores: Array
    events: tuple[TimedEvent, ...]
    labelled: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Enhancement:
    """Speech in the street before and after an enhancer, and the speech alone."""

    model: str
    hop_ms: float
    snr_db: float
    sample_rate_hz: int
    clean_file: Path
    noisy_file: Path
    enhanced_file: Path
    before: tuple[Metric, ...]
    after: tuple[Metric, ...]


@dataclass(frozen=True)
class DemoResult:
    """Everything the report shows."""

    bundles: tuple[Path, ...]
    cached: tuple[bool, ...]
    export_seconds: float
    verifications: tuple[VerifyReport, ...]
    timeline: Timeline
    enhancements: tuple[Enhancement, ...]


def run_all(output: Path, progress: Progress) -> DemoResult:
    """All of `hearpack.demo` but its pictures and its report."""
    began = time.perf_counter()
    results = [export(model, output, progress=progress) for model in (YAMNET, GTCRN, DTLN)]
    export_seconds = time.perf_counter() - began
    bundles = [Bundle.open(r.path) for r in results]
    verifications = tuple(verify(bundle, progress=progress) for bundle in bundles)
    progress("listening to the street", 0.0)
    timeline = _listen(bundles[0])
    progress("listening to the street", 1.0)
    enhancements = tuple(_enhance(bundle, output, snr_db, progress) for snr_db in SNRS_DB for bundle in bundles[1:])
    return DemoResult(
        bundles=tuple(b.path for b in bundles),
        cached=tuple(r.cached for r in results),
        export_seconds=export_seconds,
        verifications=verifications,
        timeline=timeline,
        enhancements=enhancements,
    )


def _listen(bundle: Bundle) -> Timeline:
    manifest = bundle.manifest
    rate = manifest.geometry.sample_rate_hz
    samples = street(rate)
    with closing(open_runtime(bundle, choose(bundle))) as runtime:
        heard = stream(manifest, runtime, samples)
    labels = bundle.labels()
    events = (
        detect(manifest.decisions, labels, rate, heard.ends, heard.values, len(samples)) if manifest.decisions else ()
    )
    timed = timed_events(events, manifest, 0, len(samples) / rate)
    return Timeline(labels, heard.ends / rate, heard.values, timed, labelled_bells())


def labelled_bells() -> tuple[tuple[float, float], ...]:
    """(begin, end) in seconds of every bell that the street recording's own labels name."""
    with pull_asset("street-csv").open(newline="", encoding="utf-8") as file:
        return tuple((float(row[0]), float(row[1])) for row in csv.reader(file) if row and row[3] == "True")


def _enhance(bundle: Bundle, output: Path, snr_db: float, progress: Progress) -> Enhancement:
    rate = bundle.manifest.geometry.sample_rate_hz
    clean, noisy = noisy_speech(rate, CLIP_SECONDS, snr_db)
    clean_file = output / "speech.wav"
    write_wav(clean_file, clean, rate)
    noisy_file = output / f"speech-in-street-{snr_db:g}dB.wav"
    enhanced_file = output / f"speech-in-street-{snr_db:g}dB.{bundle.manifest.name}.wav"
    write_wav(noisy_file, noisy, rate)
    run(bundle, noisy_file, output=enhanced_file, progress=progress)
    enhanced = read_wav(enhanced_file).samples[0]
    what = f"quality of {bundle.manifest.name} at {snr_db:g} dB"
    progress(what, 0.0)
    model = _dnsmos_model()
    before, after = (tuple(measure(clean, signal, rate, model)) for signal in (noisy, enhanced))
    progress(what, 1.0)
    geometry = bundle.manifest.stream_geometry
    return Enhancement(
        bundle.manifest.name,
        geometry.ms(geometry.hop_samples),
        snr_db,
        rate,
        clean_file,
        noisy_file,
        enhanced_file,
        before,
        after,
    )


def _dnsmos_model() -> Path | None:
    """The DNSMOS net, or None where it cannot be fetched: the metric is then named as absent."""
    try:
        return pull_asset("dnsmos")
    except FetchError:
        return None
