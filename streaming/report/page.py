"""The report as one HTML page: drawn from `report_data` alone, self-contained, without script, font or network.

The page forbids itself every request (Content-Security-Policy); pictures are inline. Its data are at its end as JSON.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from models.common.version import __version__
from streaming.metrics.intervals import digits
from streaming.report.charts import BarPart, BarRow, bar_rows, details, legend, linear_axis, short, table, tag, text
from streaming.report.data import Data, dump
from streaming.report.run_sections import Section, run_sections

_STYLE_FILE = Path(__file__).with_name("report.css")
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


KINDS = (
    f'<p class="note">{tag("measured")} read from a clock or a meter of the machine that made this page. '
    f"{tag('modelled')} a measurement or an assumption, times a device profile's figures. {tag('counted')} exact.</p>"
)


def page(data: Data) -> str:
    """The whole page."""
    several = len(data["runs"]) > 1
    groups: list[tuple[str, list[Section]]] = []
    compared = [Section(f"compare-{c['b']}", f"{c['a']} against {c['b']}", f"Run {c['a']} against run {c['b']}",
                        _comparison(c)) for c in data["comparisons"]]  # fmt: skip
    groups.append(("Compared", compared))
    groups += [(f"Run {run['name']}" if several else "Run", run_sections(run, several)) for run in data["runs"]]
    colds = [(short(cold["bundle"]), _cold_start(cold)) for cold in data["cold_starts"]]
    apart = [
        Section(f"cold-{n}", f"Cold start, {name}", f"Cold start of {name}", inner)
        for n, (name, inner) in enumerate(colds)
    ]
    apart += [Section(f"advice-{n}", "Which buffer", "Which buffer", _advice(a)) for n, a in enumerate(data["advice"])]
    groups.append(("More", apart))
    return sheet(_title(data), _lead(data), groups, data["command"], dump(_without_pictures(data)))


def sheet(
    title: str, lead: str, groups: Sequence[tuple[str, Sequence[Section]]], command: Sequence[str], data: str
) -> str:
    """A page of sections under a line of links.

    Args:
        title: in words.
        lead: HTML below the title.
        groups: sections by the name of their line of links; without sections a group is left out.
        command: how the page was made, as words.
        data: JSON of what the page shows.
    """
    groups = [(name, sections) for name, sections in groups if sections]
    body = "".join(
        f'<section id="{s.key}"><h2>{text(s.title)}</h2>{s.inner}</section>' for _, sections in groups for s in sections
    )
    stored = data.replace("<", "\\u003c")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        "<meta name='color-scheme' content='light dark'>\n"
        f"<title>{text(title)}</title>\n<style>{_STYLE_FILE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body><header><h1>{text(title)}</h1>{lead}"
        f'<nav aria-label="Sections">{_links(groups)}</nav></header>\n<main>{body}</main>\n'
        f'<footer><p class="note">hearpack {text(__version__)}. Made with: <code>'
        f"{text(shlex.join(command))}</code></p></footer>\n"
        f'<script type="application/json" id="report-data">{stored}</script></body></html>\n'
    )


def _links(groups: Sequence[tuple[str, Sequence[Section]]]) -> str:
    """One line of links for each run, one for cold starts and advice."""
    lists = []
    for name, sections in groups:
        links = "".join(f'<li><a href="#{s.key}">{text(s.link)}</a></li>' for s in sections)
        lists.append(f'<ul><li class="g">{text(name)}</li>{links}</ul>')
    return "".join(lists)


def _without_pictures(data: Data) -> Data:
    runs = [
        {**run, "spectrogram": None if run["spectrogram"] is None else {**run["spectrogram"], "png": "in the page"}}
        for run in data["runs"]
    ]
    return {**data, "runs": runs}


def _title(data: Data) -> str:
    names = list(dict.fromkeys(short(run["record"]["bundle"]) for run in data["runs"]))
    names = names or list(dict.fromkeys(short(c["bundle"]) for c in data["cold_starts"]))
    return f"{', '.join(names)}: simulator report" if names else "Simulator report"


def _lead(data: Data) -> str:
    said = []
    for run in data["runs"]:
        r = run["record"]
        name = f"Run {run['name']}: " if len(data["runs"]) > 1 else ""
        said.append(
            f'<p class="lead">{text(name)}{text(r["artefact"])} on {text(r["engine"])}, {r["simulated_s"]:.1f} s of '
            f"{text(r['audio']['name'])} on the {text(r['clock'])} clock as {text(r['profile']['title'])} hears it.</p>"
        )
    return "".join(said) + KINDS


def _comparison(found: Data) -> str:
    a, b = found["a"], found["b"]
    parts = [f"<p>{tag(found['kind'])}</p>" if found["kind"] != "mixed" else ""]
    if found["apart"]:
        parts.append(table(("what differs", f"run {a}", f"run {b}"), found["apart"], "", 9))
    else:
        parts.append("<p>Both runs were made alike: differences are the machine's noise.</p>")
    if found["why_not"]:
        parts.append(f"<p><strong>{text(found['why_not'])}.</strong></p>")
    if found["figures"]:
        cells = [
            (f["figure"], digits(f["a_ms"]), digits(f["b_ms"]), f"{f['difference_ms']:+.3f}",
             f"{f['low_ms']:+.3f} to {f['high_ms']:+.3f}", _verdict(f, b))
            for f in found["figures"]
        ]  # fmt: skip
        header = ("figure, ms", f"run {a}", f"run {b}", f"{b} - {a}", "95 % interval", "")
        parts.append(table(header, cells, "Block bootstrap over the ledger's entries"))
        parts.append(_forest(found))
    rows = [(c["figure"].replace("_", " "), f"{c['a']:,}", f"{c['b']:,}") for c in found["counts"]]
    parts.append(table(("counted", f"run {a}", f"run {b}"), rows, "Counts"))
    return "".join(parts)


def _verdict(figure: Data, b: str) -> str:
    if not figure["shown"]:
        return "no difference shown"
    return f"{b} slower" if figure["difference_ms"] > 0 else f"{b} faster"


def _forest(found: Data) -> str:
    """Differences as dots with their intervals, in percent of A, zero in the middle."""
    shares = []
    for f in found["figures"]:
        scale = 100.0 / f["a_ms"] if f["a_ms"] > 0 else 0.0
        shares.append((f, f["low_ms"] * scale, f["difference_ms"] * scale, f["high_ms"] * scale))
    least, most = min(-1.0, *(low for _, low, _, _ in shares)), max(1.0, *(high for _, _, _, high in shares))
    edge = 0.04 * (most - least)
    x = linear_axis(
        least - edge, most + edge, f"{found['b']} - {found['a']} in percent of {found['a']}, 95 % interval", 6
    )
    dot = (most - least) / 240.0
    rows = [
        BarRow(
            f["figure"],
            (
                BarPart(low, high, "c1 soft2" if f["shown"] else "c7 soft2", f"{low:+.1f} to {high:+.1f} %"),
                BarPart(middle - dot, middle + dot, "c1" if f["shown"] else "c7", f"{middle:+.1f} %"),
            ),
            f"{middle:+.1f} %",
        )
        for f, low, middle, high in shares
    ]
    return bar_rows(rows, x, "Differences: " + "; ".join(f"{r.label} {r.figure}" for r in rows))


_BAR_COLOURS = {"interpreter": "c7", "imports": "c7", "runtime_imported": "c7", "first_decision": "c2"}


def _cold_start(cold: Data) -> str:
    conditions = cold["conditions"]
    kinds = legend(
        [("c7", "Python and imports: a phone app has its own instead"), ("c0", "this bundle's load"), ("c2", "stream")]
    )
    header = ("figure", *(c["name"] for c in conditions))
    cells = [(head, *(shown(c[key]) for c in conditions)) for head, key, shown in _COLD_FIGURES]
    calls = [
        (f"call {n + 1}", *(digits(c["calls_ms"][n]["median"]) for c in conditions))
        for n in range(len(conditions[0]["calls_ms"]))
    ]
    names = ("ms, medians", *(c["name"] for c in conditions))
    notes = [f"Note: {limit}." for limit in cold["limits"]]
    said = "".join(f"<li>{text(line)}</li>" for line in (*cold["advice"], *notes))
    others = "".join(f"<h3>{text(c['name'])}</h3>{_waterfall(c)}" for c in conditions[1:])
    return (
        f"<p>{tag('measured')} {text(cold['artefact'])} on {text(cold['runtime'])}, {cold['runs']} fresh processes for "
        f"each state of the caches; {text(cold['machine'])}. Drawn: {text(conditions[0]['name'])}, medians.</p>"
        f"{_waterfall(conditions[0])}{kinds}{table(header, cells, 'Median (quartiles)')}"
        f"{details('The other states of the caches', others)}"
        f"{details('Calls 1 to 10', table(names, calls, 'Calls after the load'))}"
        f"<h3>What follows</h3><ul class='plain'>{said}</ul>"
    )


def _waterfall(condition: Data) -> str:
    bars = condition["bars"]
    x = linear_axis(0.0, max(bar["end_ms"] for bar in bars) * 1.01, "ms since the launch of the process", 6)
    rows = []
    for bar in bars:
        title = f"{bar['begin_ms']:.1f} to {bar['end_ms']:.1f} ms"
        piece = BarPart(bar["begin_ms"], bar["end_ms"], _BAR_COLOURS.get(bar["name"], "c0"), title)
        rows.append(BarRow(bar["title"], (piece,), f"{digits(bar['duration']['median'])} ms"))
    return bar_rows(rows, x, "Waterfall of a cold start. " + "; ".join(f"{row.label}: {row.figure}" for row in rows))


def _spread(s: Mapping[str, float]) -> str:
    return f"{s['median']:.1f} ({s['p25']:.1f} to {s['p75']:.1f})"


_COLD_FIGURES: tuple[tuple[str, str, Callable[[Mapping[str, float]], str]], ...] = (
    ("ready = audio lost, ms", "ready_ms", _spread),
    ("on a processor, ms", "ready_cpu_ms", lambda s: f"{s['median']:.1f}"),
    ("loading, ms", "loading_ms", _spread),
    ("call 1, ms", "first_call_ms", lambda s: digits(s["median"])),
    ("calls 6 to 10, ms", "steady_call_ms", lambda s: digits(s["median"])),
    ("first decision, ms", "first_decision_ms", _spread),
    ("peak memory, MB", "peak_memory_bytes", lambda s: f"{s['median'] / 1e6:.1f}"),
)
_ADVICE_FIGURES = (
    ("hop, ms", "buffer_ms", "g"),
    ("load", "load", ".1%"),
    ("p99 of hop", "p99_of_hop", ".0%"),
    ("delay p50, ms", "delay_p50_ms", ".1f"),
    ("delay p95, ms", "delay_p95_ms", ".1f"),
    ("late calls", "misses", ","),
    ("dropped", "dropped", ","),
    ("dry", "underruns", ","),
)


def _advice(advised: Data) -> str:
    lead = (
        f"<p>{tag('modelled')} {advised['seconds']:g} s each on the virtual clock: compute times of "
        f"{text(advised['machine'])}, times each device's figures, many of them assumptions.</p>"
    )
    parts = [lead]
    header = ("", *(head for head, _, _ in _ADVICE_FIGURES), "the device's own", "")
    for device in advised["devices"]:
        found = device["candidates"]
        x = linear_axis(0.0, max(c["delay_p95_ms"] for c in found) * 1.02, "ms of delay, p95", 5)
        rows, cells = [], []
        for number, c in enumerate(found):
            name = f"{short(c['bundle'])} {c['artefact']}"
            clean = not c["misses"] and c["dropped"] <= c["own_dropped"] and c["underruns"] <= c["own_underruns"]
            chosen = number == device["recommended"]
            colour = "c2" if chosen else "c7" if clean else "c1"
            verdict = "recommended" if chosen else "clean" if clean else "in trouble"
            delay = f"{c['delay_p95_ms']:.1f} ms, load {c['load']:.1%}"
            rows.append(BarRow(name, (BarPart(0.0, c["delay_p95_ms"], colour, verdict),), delay))
            figures = (format(c[key], spec) for _, key, spec in _ADVICE_FIGURES)
            cells.append((name, *figures, f"{c['own_dropped']:,}, {c['own_underruns']:,}", verdict))
        title = found[0]["device_title"]
        alt = f"Delay on {title}: " + "; ".join(f"{row.label} {row.figure}" for row in rows)
        parts.append(f"<h3>{text(title)}</h3>{bar_rows(rows, x, alt)}<p>{text(device['why'])}</p>")
        parts.append(details("As a table", table(header, cells, title)))
    in_trouble = "late calls, or losses that the device alone would not have"
    parts.append(legend([("c2", "recommended"), ("c7", "ran clean"), ("c1", in_trouble)]))
    return "".join(parts)
