"""The report's sections of one run: what came of it, stream, computing time, delay, rings, provenance."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from streaming.core.event_times import event_span
from streaming.metrics.intervals import digits
from streaming.report.charts import (
    COLOURS,
    Axis,
    BarPart,
    BarRow,
    band,
    bar_rows,
    curves,
    details,
    horizontal,
    lanes,
    legend,
    line,
    linear_axis,
    log_axis,
    ms,
    plot,
    steps,
    table,
    tag,
    text,
    tiles,
    time_axis,
    vertical,
)
from streaming.report.data import Data, part_order

# What a reader sees for the parts of a delay (streaming.runs.record.PARTS).
PART_TITLES = {
    "input_route": "input route",
    "capture_block": "capture block",
    "resampler": "resampler",
    "ring_wait": "wait in the ring",
    "framing": "framing",
    "model_delay": "model's own delay",
    "compute": "compute",
    "output_resampler": "output resampler",
    "playout_prefill": "playout prefill",
    "output_route": "output route",
    "smoothing": "smoothing",
    "hysteresis": "hysteresis",
}
_PART_COLOURS = {name: f"c{number % COLOURS}" for number, name in enumerate(PART_TITLES)}


@dataclass(frozen=True)
class Section:
    """One part of the page: its anchor, its name in the list of links, its title, and what is inside."""

    key: str
    link: str
    title: str
    inner: str


def run_sections(run: Data, several: bool) -> list[Section]:
    """Everything about one run, in the order in which a reader asks."""
    parts = [
        ("summary", "keeps up?", "Does it keep up?", _tiles(run)),
        ("stream", "stream", "The stream", _stream(run)),
        ("compute", "computing time", "Computing time", _compute(run)),
        ("delay", "delay", "Where the delay comes from", _ledger(run)),
        ("rings", "rings", "Rings and drops", _rings(run)),
        ("made", "how it was made", "How it was made", _made(run)),
    ]
    name = f"Run {run['name']}: " if several else ""
    return [
        Section(f"{key}-{run['name']}", link, name + (title.lower() if several else title), inner)
        for key, link, title, inner in parts
        if inner
    ]


def _tiles(run: Data) -> str:
    r, kind = run["record"], run["delay_kind"]
    counts = r["counts"]
    hop_ns = 1e9 * r["hop_samples"] / r["model_rate_hz"]
    late, dropped = counts["misses"], counts["dropped"]
    figures = [
        ("Late calls", f"{late:,}", f"of {counts['calls']:,} calls", kind, late == 0),
        ("Samples dropped", f"{dropped:,}", f"of {counts['written']:,} written", "counted", dropped == 0),
    ]
    if r["compute"]:
        own = r["compute"][0]
        share = own["quantiles"]["p99"] / hop_ns
        figures.append(("Compute, p99", f"{ms(own['quantiles']['p99'])} <small>ms</small>",
                      f"{share:.1%} of the hop of {ms(hop_ns)} ms", own["provenance"], share < 1.0))  # fmt: skip
    for entry in r["ledger"][-1:]:
        total = entry["total"]
        figures.append((f"Delay of {_one(entry['kind'])}, p50", f"{ms(total['p50'])} <small>ms</small>",
                      f"p99 {ms(total['p99'])}, most {ms(total['max'])} ms", kind, None))  # fmt: skip
    if r["task"] == "classifier":
        figures.append(("Events", f"{len(r['events']):,}", f"in {r['simulated_s']:.1f} s", "counted", None))
    if r["playout"] is not None:
        underruns, missing = r["playout"]["underruns"], r["playout"]["underrun"]
        figures.append(("Playout underruns", f"{underruns:,}", f"{missing:,} samples missing", kind, underruns == 0))
    check = r["delay_check"]
    if check is not None:
        figures.append(("Self-test of the ledger", f"{_apart(check)} <small>samples</small>",
                      f"apart, {check['method']} in a run of its own, limit {check['limit_samples']:g}",
                      "counted", check["passed"]))  # fmt: skip
    ended = ""
    if r["ended"] != "finished":
        why = r["message"] if r["ended"] == "interrupted" else f"error: {r['message']}"
        ended = f'<p class="v bad">Ended early: {text(why)}</p>'
    mood = "good" if run["verdict"]["keeps_up"] else "bad"
    judged = f'<p class="v {mood}">{text(run["verdict"]["sentence"].capitalize())}.</p>'
    return f"{ended}{judged}{tiles(figures)}"


def _stream(run: Data) -> str:
    r, envelope, picture, scores = run["record"], run["envelope"], run["spectrogram"], run["scores"]
    end = max(envelope["end_s"], (picture or {}).get("end_s", 0.0), (scores or {"at_s": [0.0]})["at_s"][-1], 0.001)
    x = time_axis(end, "of the model's stream")
    parts = []
    if envelope["at_s"]:
        peak = max(0.01, -min(envelope["low"]), max(envelope["high"]))
        y = linear_axis(-peak, peak, "sample value", 4)
        shape = band(x, y, envelope["at_s"], envelope["low"], envelope["high"], "c7")
        marks = [vertical(x, f["stream_s"], "mark") for f in run["faults"] if f["stream_s"] is not None]
        faults = f", {len(marks):,} of {r['faults_total']:,} faults marked" if marks else ""
        parts.append(plot([shape, *marks], x, y, f"Waveform of {r['audio']['name']}, peak {peak:.3g}{faults}", 90))
    if picture is not None:
        y = linear_axis(0.0, picture["top_khz"], f"kHz (black: {picture['range_db']:g} dB below the loudest)", 4)
        alt = f"Spectrogram of what the model heard, 0 to {picture['top_khz']:g} kHz"
        parts.append(plot([], x, y, alt, 150, picture["png"]))
    if scores is not None:
        parts.append(_scores(scores, x))
        rows = [
            (name, f"{max(values):.3f}", f"{scores['at_s'][values.index(max(values))]:.2f}")
            for name, values in zip(scores["labels"], scores["values"], strict=True)
        ]
        header = ("label", "highest", "of the window that ends at, s")
        parts.append(details("Scores as a table", table(header, rows, "Scores of the labels drawn")))
        if scores["others"] > 0:
            parts.append(f'<p class="note">{scores["others"]} more labels had events; all are in the table.</p>')
    parts.append(_events(r, scores, x))
    return "".join(parts)


def _scores(scores: Data, x: Axis) -> str:
    """Lines in one plot; strips below each other where a point is several windows and lines would tangle."""
    peaks = ", ".join(f"{n} up to {max(v):.2f}" for n, v in zip(scores["labels"], scores["values"], strict=True))
    alt = f"Scores over time: {peaks}"
    if scores["windows"] > len(scores["at_s"]):
        rows = [(n, f"c{k}", v) for k, (n, v) in enumerate(zip(scores["labels"], scores["values"], strict=True))]
        most = math.ceil(scores["windows"] / len(scores["at_s"]))
        return f'<div class="yt">score, 0 to 1; the highest of up to {most} windows</div>' + curves(
            rows, scores["at_s"], x, alt
        )
    y = linear_axis(0.0, 1.0, "score", 4)
    lines = [
        line(x, y, list(zip(scores["at_s"], values, strict=True)), f"c{number}")
        for number, values in enumerate(scores["values"])
    ]
    return plot(lines, x, y, alt, 150) + legend([(f"c{number}", name) for number, name in enumerate(scores["labels"])])


def _events(r: Data, scores: Data | None, x: Axis) -> str:
    if r["task"] != "classifier":
        return ""
    if not r["events"]:
        return "<p>No event.</p>"
    rate = r["model_rate_hz"]
    names = [n for n in (scores or {"labels": []})["labels"] if any(e["label"] == n for e in r["events"])]
    hop = r["hop_samples"]
    events = [
        (e, *(sample / rate for sample in event_span(e["onset_sample"], e["offset_sample"], hop, r["buffer_samples"])))
        for e in r["events"]
    ]
    rows = []
    for number, name in enumerate(names):
        spans = [
            (begin, end, f"{begin:.2f} s, {e['confidence']:.2f}") for e, begin, end in events if e["label"] == name
        ]
        rows.append((name, f"c{number}", spans))
    header = ("label", "onset s", "offset s", "confidence", "reported after ms")
    cells = []
    for e, begin, end in events:
        heard = (begin, end) if e["onset_s"] is None else (e["onset_s"], e["offset_s"])
        times = (f"{seconds:.2f}" for seconds in heard)
        cells.append((e["label"], *times, f"{e['confidence']:.3f}", ms(e["delay_ns"])))
    said = (
        "Events, at the time at which their sound was captured; drawn on the model's stream, which lost audio shortens"
    )
    drawn = lanes(rows, x, f"{len(r['events']):,} events of {len(names)} labels over time") if rows else ""
    return f"<h3>Events</h3>{drawn}" + details(f"All {len(cells):,} events as a table", table(header, cells, said))


def _compute(run: Data) -> str:
    r = run["record"]
    if not r["compute"]:
        return ""
    hop_ns = 1e9 * r["hop_samples"] / r["model_rate_hz"]
    lowest = min(c["quantiles"]["p50"] for c in r["compute"]) / 1e6
    highest = max([c["quantiles"]["max"] for c in r["compute"]] + [hop_ns]) / 1e6
    lead = (
        f"<p>Each bar ends at the slowest call; its shade changes at p50, p95 and p99. A call has the hop's "
        f"{ms(hop_ns)} ms (dashed). Processors slow down between paced calls: back-to-back ones promise too much.</p>"
    )
    parts = [lead]
    x = log_axis(max(lowest, 1e-4), highest, "ms per call, logarithmic")
    for kind in ("measured", "modelled"):
        chosen = [c for c in r["compute"] if c["provenance"] == kind]
        if not chosen:
            continue
        rows = []
        for c in chosen:
            q = {k: v / 1e6 for k, v in c["quantiles"].items() if k != "count"}
            colour = "c5" if c["pacing"] == "back_to_back" else "c0"
            pieces = (BarPart(x.low, q["p50"], f"{colour} soft1", f"p50 {digits(q['p50'])} ms"),
                      BarPart(q["p50"], q["p95"], f"{colour} soft2", f"p95 {digits(q['p95'])} ms"),
                      BarPart(q["p95"], q["p99"], f"{colour} soft3", f"p99 {digits(q['p99'])} ms"),
                      BarPart(q["p99"], q["max"], f"{colour} soft4", f"most {digits(q['max'])} ms"))  # fmt: skip
            rows.append(BarRow(c["label"], pieces, f"p99 {digits(q['p99'])} ms"))
        cells = [
            (c["label"], c["pacing"].replace("_", " "), f"{c['quantiles']['count']:,}",
             *_quantiles(c["quantiles"]))
            for c in chosen
        ]  # fmt: skip
        alt = "; ".join(f"{row.label}: {row.figure}" for row in rows)
        header = ("times", "called", "calls", "p50 ms", "p95 ms", "p99 ms", "max ms")
        parts.append(
            f"<h3>{kind.capitalize()} {tag(kind)}</h3>"
            f"{bar_rows(rows, x, alt, hop_ns / 1e6)}{table(header, cells, '', 2)}"
        )
    return "".join(parts)


def _ledger(run: Data) -> str:
    r, kind = run["record"], run["delay_kind"]
    if not r["ledger"]:
        return ""
    most = max(sum(entry["mean_parts"].values()) for entry in r["ledger"]) / 1e6
    x = linear_axis(0.0, most * 1.02, "ms, means of the parts: they add up to the mean delay", 6)
    rows, tables, seen = [], [], []
    for entry in r["ledger"]:
        at, pieces = 0.0, []
        for name in part_order(list(entry["mean_parts"])):
            value = entry["mean_parts"][name] / 1e6
            title = f"{PART_TITLES[name]}: {digits(value)} ms"
            pieces.append(BarPart(at, at + value, _PART_COLOURS[name], title))
            at += value
            if name not in seen and value > 0:
                seen.append(name)
        rows.append(BarRow(_one(entry["kind"]), tuple(pieces), f"{digits(at)} ms"))
        cells = [
            (PART_TITLES[n], ms(entry["mean_parts"][n]), *_quantiles(entry["parts"][n]))
            for n in part_order(list(entry["parts"]))
        ]
        total = entry["total"]
        cells.append(("total", ms(total["mean"]), *_quantiles(total)))
        header = ("part", "mean ms", "p50 ms", "p95 ms", "p99 ms", "max ms")
        tables.append(table(header, cells, f"Delay of {_one(entry['kind'])}, {total['count']:,} entries"))
    alt = "Mean delay by part. " + "; ".join(f"{row.label}: {row.figure}" for row in rows)
    shown = legend([(_PART_COLOURS[n], PART_TITLES[n]) for n in part_order(seen)])
    check = r["delay_check"]
    said = ""
    if check is not None:
        verdict = "agree" if check["passed"] else "DISAGREE: an error of ours"
        said = (
            f"<p>Self-test with a probe ({text(check['method'])}) in a run of its own: the ledger says "
            f"{ms(check['ledger_ns'])} ms, the audio {ms(check['measured_ns'])} ms, {_apart(check)} samples apart "
            f"(limit {check['limit_samples']:g}): they {verdict}.</p>"
        )
    return f"<p>{tag(kind)}</p>{bar_rows(rows, x, alt)}{shown}{said}{details('Every part as a table', ''.join(tables))}"


def _quantiles(times: Data) -> list[str]:
    return [ms(times[q]) for q in ("p50", "p95", "p99", "max")]


def _one(kind: str) -> str:
    """A ledger entry's kind with its article."""
    return f"an {kind}" if kind == "event" else f"a {kind}"


def _apart(check: Data) -> str:
    """The mismatch in samples; a hair below nothing is nothing."""
    return f"{round(check['mismatch_samples'], 2) + 0.0:+.2f}"


def _rings(run: Data) -> str:
    r, parts = run["record"], []
    for title, ring in (("Capture ring", r["ring"]), ("Playout ring", r["playout"])):
        if ring is None:
            continue
        rate, points = ring["rate_hz"], ring["occupancy"]
        high = 1000.0 * ring["high_water_samples"] / rate
        capacity = 1000.0 * ring["capacity_samples"] / rate
        fits = capacity <= 4.0 * max(high, 1e-9)
        y = linear_axis(0.0, max(capacity if fits else high, 0.1) * 1.08, "ms held", 4)
        end = max(r["simulated_s"], points[-1]["time_ns"] / 1e9 if points else 0.0, 0.001)
        x = time_axis(end)
        at = [p["time_ns"] / 1e9 for p in points] + [end]
        low, top = (
            [1000.0 * p[k] / rate for p in points] + [1000.0 * points[-1][k] / rate] if points else [0.0]
            for k in ("low", "high")
        )
        shapes = [band(x, y, at, low, top, "c0 soft"), steps(x, y, list(zip(at, top, strict=True)), "c0")]
        if fits:
            shapes.append(horizontal(y, capacity, "limit"))
        shapes += [vertical(x, f["time_ns"] / 1e9, "mark") for f in run["faults"]]
        alt = f"{title}: at most {digits(high)} ms held of {digits(capacity)} ms"
        said = f"At most {digits(high)} ms ({ring['high_water_samples']:,} samples) held"
        parts.append(f"<h3>{title}</h3><p>{said}; it has room for {digits(capacity)} ms.</p>")
        parts.append(plot(shapes, x, y, alt, 110))
    counts = r["counts"]
    cells = [(name.replace("_", " "), f"{value:,}") for name, value in counts.items()]
    parts.append(
        details("All counts as a table", table(("counted", "number"), cells, "Counts; written = read + held + dropped"))
    )
    if run["fault_kinds"] or r["injected"]:
        rows = [("put in", "", "", "", words) for words in r["injected"]]
        rows += [
            (k["kind"].replace("_", " "), f"{k['count']:,}", f"{k['first_s']:.3f}", f"{k['samples']:,}", k["detail"])
            for k in run["fault_kinds"]
        ]
        header = ("kind", "number", "first at s", "samples", "what")
        parts.append(f"<h3>Faults</h3>{table(header, rows, _shown_faults(run).capitalize(), 9)}")
    return "".join(parts)


def _shown_faults(run: Data) -> str:
    """How many faults there were, and how many of them the page counts by kind."""
    total, kept = run["record"]["faults_total"], sum(k["count"] for k in run["fault_kinds"])
    if total == kept:
        return "1 fault" if total == 1 else f"{total:,} faults"
    return f"the first {kept:,} of {total:,} faults"


def _figure(value: object) -> str:
    """A figure of a profile as a reader writes it: 192, 2 to 590, from 0 s 1, from 240 s 1.8."""
    if not isinstance(value, list):
        return str(value)
    if not value:
        return "none"
    if all(isinstance(v, int | float) for v in value):
        return f"{value[0]:g}" if len(set(value)) == 1 else " to ".join(f"{v:g}" for v in value)
    if all(isinstance(v, list) and len(v) == 2 and all(isinstance(x, int | float) for x in v) for v in value):
        return ", ".join(f"from {at:g} s {then:g}" for at, then in value)
    if all(isinstance(v, dict) and {"at_s", "rate_hz", "gap_ms"} <= v.keys() for v in value):
        return ", ".join(f"at {v['at_s']:g} s to {v['rate_hz']:,} Hz, {v['gap_ms']:g} ms lost" for v in value)
    return str(value)


def _made(run: Data) -> str:
    r = run["record"]
    heard = r["audio"]
    parts = [f"<pre><code>{text(shlex.join(r['command']))}</code></pre>"]
    facts = [
        ("bundle", f"{r['bundle']}, {r['artefact']}"),
        ("engine", f"{r['engine']} ({r['engine_detail']})"),
        ("clock, seed, policy", f"{r['clock']}, {r['seed']}, {r['policy'].replace('_', ' ')}"),
        ("compute times", r["calibration"] or "measured in this run"),
        ("audio", f"{heard['name']}, {heard['rate_hz']} Hz, {heard['duration_s']:g} s"),
        ("its sha256", heard["sha256"]),
        ("buffer, hop", f"{r['buffer_samples']}, {r['hop_samples']} samples at {r['model_rate_hz']} Hz"),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(r["versions"].items()))),
    ]
    facts += [(f"search: {name.replace('_', ' ')}", f"{value:g}") for name, value in sorted(r["search"].items())]
    parts.append(table(("setting", "value"), facts, "", 9))
    profile = r["profile"]
    figures = [(name, _figure(f["value"]), f["source"]) for name, f in sorted(profile["figures"].items())]
    parts.append(
        f"<h3>Device profile: {text(profile['title'])}</h3>{table(('figure', 'value', 'source'), figures, '', 9)}"
    )
    return "".join(parts)
