"""The demonstration's report: one HTML file that needs no network, and the same figures as JSON."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

from converters.verify import ArtefactReport
from hearpack.demo.figures import score_timeline, spectrograms
from hearpack.demo.run import BELL, DemoResult, Enhancement, run_all
from models.common.files import write_atomic
from models.common.printable import counted
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle
from streaming.files.wav import read_wav
from streaming.metrics.quality import Metric
from streaming.report.charts import details, table, tag, text, tiles
from streaming.report.page import KINDS, sheet
from streaming.report.run_sections import Section


@dataclasses.dataclass(frozen=True)
class DemoFiles:
    """What was written."""

    report: Path
    figures: Path
    spectrogram: Path
    timeline: Path


@dataclasses.dataclass(frozen=True)
class Demo:
    """What the demonstration measured, and the files it wrote."""

    result: DemoResult
    files: DemoFiles


def demo(output: str | Path = "build/demo", *, progress: Progress = silent) -> Demo:
    """Export three models, verify them, listen to a street, clean up speech, write a report.

    Args:
        output: folder for bundles, audio, pictures and the report; made if missing.
        progress: called with (what, fraction done).

    Returns:
        what was measured and written.

    Raises:
        HearpackError: no network and no cache, a place that cannot be written, or a failed export.
    """
    result = run_all(Path(output), progress)
    progress("pictures and report", 0.0)
    files = write_report(result, Path(output))
    progress("pictures and report", 1.0)
    return Demo(result, files)


def write_report(result: DemoResult, output: Path) -> DemoFiles:
    """Draw the pictures and write report.html and report.json into `output`."""
    files = DemoFiles(
        output / "report.html", output / "report.json", output / "spectrogram.png", output / "timeline.png"
    )
    shown = result.enhancements[0]
    signals = {
        f"before: speech in the street at {shown.snr_db:g} dB": read_wav(shown.noisy_file).samples[0],
        f"after: {shown.model.upper()}, litert-fp32, streamed {shown.hop_ms:g} ms at a time": read_wav(
            shown.enhanced_file
        ).samples[0],
    }
    spectrograms(signals, shown.sample_rate_hz, files.spectrogram)
    score_timeline(result.timeline, files.timeline)
    write_atomic(files.figures, json.dumps(_plain(result), indent=2, sort_keys=True) + "\n")
    write_atomic(files.report, _page(result, files))
    return files


def _plain(result: DemoResult) -> dict[str, Any]:
    return {
        "bundles": [b.name for b in result.bundles],
        "export_seconds": result.export_seconds,
        "verifications": [dataclasses.asdict(v) for v in result.verifications],
        "events": [dataclasses.asdict(e) for e in result.timeline.events],
        "enhancements": [
            {
                "model": e.model,
                "snr_db": e.snr_db,
                "enhanced_file": e.enhanced_file.name,
                "before": [_metric(m) for m in e.before],
                "after": [_metric(m) for m in e.after],
            }
            for e in result.enhancements
        ],
    }


def _metric(metric: Metric) -> dict[str, Any]:
    plain = dataclasses.asdict(metric)
    if metric.value is not None and not math.isfinite(metric.value):
        plain["value"] = None
    return plain


def _page(result: DemoResult, files: DemoFiles) -> str:
    sections = [
        Section("summary", "in short", "In short", _summary(result)),
        Section("listen", "listen", "Listen", _players(result.enhancements)),
        Section("quality", "speech in a street", "Enhancers: speech in a real street", _quality(result, files)),
        Section("events", "bells in a street", "Classifier: a street with bicycle bells", _events(result, files)),
        Section("equal", "equal to the original", "Every artefact against its original", _verifications(result)),
        Section("bundles", "bundles", "What was exported", _bundles(result)),
    ]
    lead = (
        "<p class='lead'>Three nets with their published weights, exported for both phones, run here as the phones run "
        "them, and heard on real audio.</p>" + KINDS
    )
    stored = json.dumps(_plain(result), sort_keys=True)
    return sheet("hearpack demo", lead, [("Demo", sections)], ("hearpack", "demo"), stored)


def _summary(result: DemoResult) -> str:
    checks = [item.passed for report in result.verifications for item in report.artefacts]
    best = max(result.enhancements, key=lambda e: _gained(e, "si_sdr") or -math.inf)
    heard = [e for e in result.timeline.events if e.label == BELL]
    found = sum(any(e.onset_s < end and e.offset_s > begin for e in heard) for begin, end in result.timeline.labelled)
    labelled = len(result.timeline.labelled)
    figures: list[tuple[str, str, str, str, bool | None]] = [
        ("Artefacts like their original", f"{sum(checks)} of {len(checks)}", "within their tolerance", "measured",
         all(checks)),
        ("Bells heard", f"{found} of {labelled}", "stretches that a person labelled", "measured", None),
        ("Exports", f"{result.export_seconds:.0f} <small>s</small>",
         "from the cache" if all(result.cached) else "converted and executed", "measured", None),
    ]  # fmt: skip
    gained = _gained(best, "si_sdr")
    if gained is not None:
        under = f"SI-SDR, {best.model}, speech at {best.snr_db:g} dB"
        figures.insert(1, ("Most gained", f"{gained:.1f} <small>dB</small>", under, "measured", None))
    return tiles(figures)


def _gained(enhancement: Enhancement, name: str) -> float | None:
    values = {m.name: m.value for m in enhancement.before}, {m.name: m.value for m in enhancement.after}
    before, after = (v.get(name) for v in values)
    return None if before is None or after is None else after - before


def _players(enhancements: tuple[Enhancement, ...]) -> str:
    parts = []
    for snr_db in dict.fromkeys(e.snr_db for e in enhancements):
        mixed = [e for e in enhancements if e.snr_db == snr_db]
        rows = [("before", mixed[0].noisy_file)]
        rows += [(f"after {e.model}", e.enhanced_file) for e in mixed]
        rows.append(("the speech alone", mixed[0].clean_file))
        drawn = "".join(f"<span>{text(what)}</span>{_player(file, what)}" for what, file in rows)
        parts.append(f"<h3>Speech {snr_db:g} dB over the street</h3><div class='players'>{drawn}</div>")
    return "".join(parts) + "<p class='note'>The same sounds lie beside this page as .wav files.</p>"


def _player(file: Path, what: str) -> str:
    """The sound inside the page, as FLAC of 16 bits."""
    import soundfile

    clip, packed = read_wav(file), io.BytesIO()
    soundfile.write(packed, clip.samples.T.clip(-1.0, 1.0), clip.sample_rate_hz, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(packed.getvalue()).decode()
    return f"<audio controls preload='metadata' aria-label='{text(what)}' src='data:audio/flac;base64,{data}'></audio>"


def _quality(result: DemoResult, files: DemoFiles) -> str:
    rows = [
        (f"{e.model} at {e.snr_db:g} dB: {m.name}", shown(m), shown(after))
        for e in result.enhancements
        for m, after in zip(e.before, e.after, strict=True)
    ]
    header = ("enhancer, speech over street", "before", "after")
    return (
        f"<p>{tag('measured')} against the speech alone; SI-SDR in dB, PESQ and DNSMOS from 1 to 5.</p>"
        f"{table(header, rows)}{_picture(files.spectrogram, 'Spectrogram before and after the enhancer')}"
    )


def _events(result: DemoResult, files: DemoFiles) -> str:
    timeline = result.timeline
    rows = [(e.label, f"{e.onset_s:.2f}", f"{e.offset_s:.2f}", f"{e.confidence:.2f}") for e in timeline.events]
    bells = ", ".join(f"{begin:.2f} to {end:.2f} s" for begin, end in timeline.labelled)
    events = table(("label", "onset, s", "offset, s", "confidence"), rows)
    return (
        f"<p>{tag('measured')} {counted(len(rows), 'event')}. Bells labelled by hand: {bells}.</p>"
        f"{_picture(files.timeline, 'Scores over time with the labelled bells shaded')}"
        f"{details(f'All {len(rows)} events as a table', events)}"
    )


def _verifications(result: DemoResult) -> str:
    parts = []
    for report in result.verifications:
        rows = [
            (f"{item.artefact}, {item.engine}", "ok" if item.passed else "PAST ITS TOLERANCE",
             "; ".join(f"{c.metric} {c.value:.4g} ({c.direction} {c.limit:g})" for c in item.checks),
             worst_stress(item))
            for item in report.artefacts
        ]  # fmt: skip
        header = ("artefact, engine", "verdict", "checks (limit)", "worst stress stream")
        said = f"{report.seconds:.0f} s of {report.material} against the {report.reference}, {report.machine}"
        parts.append(
            f"<h3>{text(report.bundle)}</h3><p>{tag('measured')} {text(said)}.</p>{table(header, rows, '', 9)}"
        )
    return "".join(parts) + "<p class='note'>mil-fp16 emulates half precision; it is not Apple's hardware.</p>"


def _bundles(result: DemoResult) -> str:
    rows = [
        (f"{path.name}, {a.id}", f"{a.size_bytes / 1e6:.2f}", a.precision.weights, a.precision.compute)
        for path in result.bundles
        for a in Bundle.open(path).manifest.artefacts
    ]
    return f"<p>{tag('counted')}</p>{table(('bundle, artefact', 'MB', 'weights', 'compute'), rows)}"


def worst_stress(item: ArtefactReport) -> str:
    """The stress stream with the largest error, as text."""
    if not item.stress:
        return "not run"
    if hasattr(item.figures, "snr_db"):
        worst = min(item.stress, key=lambda s: s.figures.metrics()["snr_db"])
        return f"{worst.stream}: {worst.figures.metrics()['snr_db']:.1f} dB"
    worst = max(item.stress, key=lambda s: s.figures.metrics()["score_max_abs_error"])
    return f"{worst.stream}: {worst.figures.metrics()['score_max_abs_error']:.1e}"


def shown(metric: Metric) -> str:
    """A metric's value, or why there is none."""
    if metric.value is None:
        return f"absent: {metric.absent_reason}"
    return f"{round(metric.value, 2) + 0.0:.2f}"  # adding 0.0 makes -0.00 into 0.00


def _picture(path: Path, alt: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img class='picture' alt='{text(alt)}' src='data:image/png;base64,{data}'>"
