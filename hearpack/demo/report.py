"""The demonstration's report: one HTML file that needs no network, and the same figures as JSON."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import math
from pathlib import Path
from typing import Any

from converters.verify import ArtefactReport, VerifyReport
from hearpack.demo.figures import score_timeline, spectrograms
from hearpack.demo.run import DemoResult, Enhancement, run_all
from models.common.files import write_atomic
from models.common.progress import Progress, silent
from runtimes.bundle import Bundle
from streaming.files.wav import read_wav
from streaming.metrics.quality import Metric

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #8884; white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
.bad { color: #c22; font-weight: 600; }
"""


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


def _row(cells: list[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _table(header: list[str], rows: list[list[str]]) -> str:
    return "<table>" + _row([html.escape(h) for h in header], "th") + "".join(_row(r) for r in rows) + "</table>"


def _page(result: DemoResult, files: DemoFiles) -> str:
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>hearpack demo</title><style>{_STYLE}</style><h1>hearpack demo</h1>",
        "<h2>Bundles</h2>",
        _bundle_table(result),
        "<h2>Against the PyTorch original</h2>",
        *(_verification(v) for v in result.verifications),
        "<h2>Enhancers: speech in a real street</h2>",
        _quality_table(result.enhancements),
        _picture(files.spectrogram, "Spectrogram before and after the enhancer"),
        "<h2>Classifier: the street, with bicycle bells</h2>",
        _event_table(result),
        _picture(files.timeline, "Scores over time with the labelled bells shaded"),
        "</html>\n",
    ]
    return "\n".join(parts)


def _bundle_table(result: DemoResult) -> str:
    rows = []
    for path in result.bundles:
        for artefact in Bundle.open(path).manifest.artefacts:
            size = f"{artefact.size_bytes / 1e6:.2f} MB"
            rows.append([path.name, artefact.id, size, artefact.precision.weights, artefact.precision.compute])
    return _table(["bundle", "artefact", "size", "weights", "compute"], rows)


def _verification(report: VerifyReport) -> str:
    caption = (
        f"{report.bundle}: {report.seconds:.0f} s of {report.material} against the {report.reference}, {report.machine}"
    )
    rows = [_verification_row(item) for item in report.artefacts]
    header = ["artefact", "engine", "checks (measured, limit)", "worst stress stream", "verdict"]
    note = "<p>mil-fp16 emulates half precision; it is not Apple's hardware.</p>"
    return f"<h3>{html.escape(caption)}</h3>" + _table(header, rows) + note


def _verification_row(item: ArtefactReport) -> list[str]:
    checks = "<br>".join(f"{c.metric} {c.value:.4g} ({c.direction} {c.limit:g})" for c in item.checks)
    verdict = "ok" if item.passed else "<span class='bad'>past its tolerance</span>"
    return [item.artefact, item.engine, checks, worst_stress(item), verdict]


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


def _quality_table(enhancements: tuple[Enhancement, ...]) -> str:
    rows = [
        [e.model, f"{e.snr_db:g} dB", m.name, m.unit, html.escape(shown(m)), html.escape(shown(after))]
        for e in enhancements
        for m, after in zip(e.before, e.after, strict=True)
    ]
    return _table(["enhancer", "mixed at", "metric", "unit", "before", "after"], rows)


def _event_table(result: DemoResult) -> str:
    timeline = result.timeline
    rows = []
    for event in timeline.events:
        times = [f"{event.onset_s:.2f} s", f"{event.offset_s:.2f} s"]
        rows.append([*times, f"{event.confidence:.2f}", html.escape(event.label)])
    bells = ", ".join(f"{begin:.2f}–{end:.2f} s" for begin, end in timeline.labelled)
    return f"<p>Bells labelled by hand: {bells}.</p>" + _table(["onset", "offset", "confidence", "label"], rows)


def _picture(path: Path, alt: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<p><img alt='{html.escape(alt)}' src='data:image/png;base64,{data}'></p>"
