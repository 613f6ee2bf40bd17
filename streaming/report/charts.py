"""Charts for the report: inline SVG shapes that stretch with the page, and HTML text beside them that does not.

A plot's SVG has a box of 1000 x 1000 units and is stretched to whatever the page gives it (strokes keep their width),
so that a chart fills a phone and a desktop alike; tick labels are HTML, placed by percent, and stay readable. Colours
are CSS classes (streaming/report/report.css), so that light and dark need no second chart. No script, no library.
"""

from __future__ import annotations

import base64
import html
import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from streaming.metrics.intervals import digits

BOX = 1000.0
COLOURS = 12  # classes c0 to c11
_CLOCK_STEPS_S = (30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 14_400)
_MAGMA = ((0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122), (229, 80, 100), (251, 135, 97),
          (254, 194, 135), (252, 253, 191))  # fmt: skip  # nine points of a dark-to-light ramp


def text(value: object) -> str:
    """Anything as HTML text."""
    return html.escape(str(value), quote=True)


@dataclass(frozen=True)
class Axis:
    """A range of a plot and what its ticks say.

    Attributes:
        low, high: the range; low < high, and both above 0 if logarithmic.
        ticks: (value, label).
        title: quantity and unit.
        log: whether decades are equally long.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str = ""
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, 0 at low and 1 at high; clipped."""
        if self.log:
            value, low, high = math.log(max(value, 1e-12)), math.log(self.low), math.log(self.high)
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))


_FLAT = Axis(0.0, 1.0, ())  # of strips


def linear_axis(low: float, high: float, title: str = "", count: int = 5) -> Axis:
    """An axis with round ticks inside its range.

    Raises:
        UsageError: the range is empty or not finite.
    """
    if not math.isfinite(high - low) or high < low:
        raise UsageError(f"axis: expected a finite range, got {low} to {high}")
    if high - low <= 1e-12 * max(1.0, abs(low), abs(high)):
        high = low + max(1.0, 1e-6 * abs(low))
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    places = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if step / power == 2.5 else 0))
    ticks = tuple((k * step, f"{k * step:.{places}f}") for k in range(first, last + 1))
    return Axis(low, high, ticks, title)


def time_axis(end_s: float, of: str = "", count: int = 4) -> Axis:
    """Time from zero: seconds, from three minutes on min:s, from three hours on h:min; whole steps of a clock.

    Args:
        end_s: where it ends, seconds.
        of: what the time is of, for the title.
        count: steps at most, of a clock: five labels fit beside each other on a phone.
    """
    if end_s < 180.0:
        return linear_axis(0.0, end_s, f"s {of}".strip(), 6)
    days = 86_400 * math.ceil(end_s / (86_400 * count))
    step = next((s for s in _CLOCK_STEPS_S if s * (count + 0.5) >= end_s), days)
    high, low, unit = (3600, 60, "h:min") if end_s >= 10_800.0 else (60, 1, "min:s")
    ticks = tuple((float(t), f"{t // high}:{t % high // low:02d}") for t in range(0, math.floor(end_s) + 1, step))
    return Axis(0.0, end_s, ticks, f"{unit} {of}".strip())


def log_axis(low: float, high: float, title: str = "") -> Axis:
    """A logarithmic axis over whole decades that hold the range; both above 0."""
    if not 0.0 < low <= high < math.inf:
        raise UsageError(f"axis: expected a range above 0, got {low} to {high}")
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9)
    last = max(last, first + 1)
    every = math.ceil((last - first + 1) / 5)  # five labels fit beside each other on a phone
    ticks = tuple((10.0**k, f"{10.0**k:g}" if (k - first) % every == 0 else "") for k in range(first, last + 1))
    return Axis(10.0**first, 10.0**last, ticks, title, log=True)


def _xy(x: float, y: float) -> str:
    return f"{x * BOX:.1f},{(1.0 - y) * BOX:.1f}"


def line(x: Axis, y: Axis, points: Sequence[tuple[float, float]], style: str) -> str:
    """A line through points."""
    joined = " ".join(_xy(x.at(a), y.at(b)) for a, b in points)
    return f'<polyline class="{style}" points="{joined}"/>'


def steps(x: Axis, y: Axis, points: Sequence[tuple[float, float]], style: str) -> str:
    """A line that holds each value until the next point."""
    doubled = []
    for index, (a, b) in enumerate(points):
        if index:
            doubled.append((a, points[index - 1][1]))
        doubled.append((a, b))
    return line(x, y, doubled, style)


def band(x: Axis, y: Axis, at: Sequence[float], low: Sequence[float], high: Sequence[float], style: str) -> str:
    """The area between two curves."""
    upper = [_xy(x.at(a), y.at(b)) for a, b in zip(at, high, strict=True)]
    lower = [_xy(x.at(a), y.at(b)) for a, b in zip(at, low, strict=True)]
    return f'<polygon class="{style}" points="{" ".join(upper + lower[::-1])}"/>'


def box(x: Axis, y: Axis, begin: float, end: float, low: float, high: float, style: str, title: str = "") -> str:
    """A rectangle of at least a hair's width, with a title that a pointer shows."""
    left, right = x.at(begin) * BOX, x.at(end) * BOX
    top, bottom = (1.0 - y.at(high)) * BOX, (1.0 - y.at(low)) * BOX
    titled = f"<title>{text(title)}</title>" if title else ""
    width, height = max(right - left, 1.5), max(bottom - top, 1.5)
    return (
        f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}">{titled}</rect>'
    )


def vertical(x: Axis, value: float, style: str) -> str:
    """A line from bottom to top."""
    at = x.at(value) * BOX
    return f'<line class="{style}" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{BOX:g}"/>'


def horizontal(y: Axis, value: float, style: str) -> str:
    """A line from left to right."""
    at = (1.0 - y.at(value)) * BOX
    return f'<line class="{style}" y1="{at:.1f}" y2="{at:.1f}" x1="0" x2="{BOX:g}"/>'


def plot(shapes: Sequence[str], x: Axis, y: Axis, alt: str, height_px: int = 180, image: str = "") -> str:
    """A chart: shapes, grid, tick labels and axis titles.

    Args:
        shapes: SVG of the functions above, drawn in this order.
        x, y: the axes.
        alt: what a reader who does not see it should know.
        height_px: of the plot itself.
        image: a data URI drawn below the shapes, over the whole plot.
    """
    if image:  # it has its own texture instead of a grid
        below = [f'<image href="{image}" x="0" y="0" width="{BOX:g}" height="{BOX:g}" preserveAspectRatio="none"/>']
    else:
        below = [horizontal(y, value, "grid") for value, _ in y.ticks]
        below += [vertical(x, value, "grid") for value, _ in x.ticks]
    y_ticks = "".join(
        f'<span class="ty" style="bottom:{100 * y.at(value):.2f}%">{text(label)}</span>' for value, label in y.ticks
    )
    return (
        f'<div class="plot"><div class="yt">{text(y.title)}</div>'
        f'<div class="area" style="height:{height_px}px">{y_ticks}'
        f'<svg role="img" aria-label="{text(alt)}" viewBox="0 0 {BOX:g} {BOX:g}" preserveAspectRatio="none">'
        f"<title>{text(alt)}</title>{''.join(below)}{''.join(shapes)}</svg></div>"
        f'<div class="xs">{_x_ticks(x)}</div><div class="xt">{text(x.title)}</div></div>'
    )


def _x_ticks(x: Axis) -> str:
    """Labels under their ticks; at the ends they lean inwards so that they do not leave the page."""
    drawn = []
    for value, label in x.ticks:
        at = x.at(value)
        side = "first" if at < 0.02 else "last" if at > 0.98 else "mid"
        if label:
            drawn.append(f'<span class="tx {side}" style="left:{100 * at:.2f}%">{text(label)}</span>')
    return "".join(drawn)


@dataclass(frozen=True)
class BarPart:
    """One piece of a bar: where it begins and ends on the axis, its colour class and its title."""

    begin: float
    end: float
    style: str
    title: str


@dataclass(frozen=True)
class BarRow:
    """A labelled bar of parts, with a figure at its right."""

    label: str
    parts: tuple[BarPart, ...]
    figure: str


def bar_rows(rows: Sequence[BarRow], x: Axis, alt: str, limit: float | None = None) -> str:
    """Horizontal bars on one axis, label left (above on a phone), figure right; `limit` is marked in every bar."""
    drawn = []
    for row in rows:
        shapes = [vertical(x, value, "grid") for value, _ in x.ticks]
        shapes += [box(x, _FLAT, p.begin, p.end, 0.12, 0.88, p.style, p.title) for p in row.parts]
        shapes += [] if limit is None else [vertical(x, limit, "limit")]
        drawn.append(
            f'<div class="bl">{text(row.label)}</div><div class="bb"><svg aria-hidden="true" viewBox="0 0 {BOX:g} '
            f'{BOX:g}" preserveAspectRatio="none">{"".join(shapes)}</svg></div><div class="bf">{text(row.figure)}</div>'
        )
    return (
        f'<div class="bars" role="img" aria-label="{text(alt)}">{"".join(drawn)}'
        f'<div class="bl empty"></div><div class="xs">{_x_ticks(x)}</div><div class="bf empty"></div>'
        f'<div class="bl empty"></div><div class="xt">{text(x.title)}</div><div class="bf empty"></div></div>'
    )


def lanes(rows: Sequence[tuple[str, str, Sequence[tuple[float, float, str]]]], x: Axis, alt: str) -> str:
    """Strips of (begin, end, title) below each other on one axis, each under its name: (name, colour class, spans)."""
    strips = [
        (name, [box(x, _FLAT, begin, end, 0.0, 1.0, f"{style} span", title) for begin, end, title in spans])
        for name, style, spans in rows
    ]
    return _strips(strips, x, alt, "lane")


def curves(rows: Sequence[tuple[str, str, Sequence[float]]], at: Sequence[float], x: Axis, alt: str) -> str:
    """Values 0 to 1 as filled strips below each other, each under its name: (name, colour class, values)."""
    strips = [(name, [band(x, _FLAT, at, [0.0] * len(values), values, style)]) for name, style, values in rows]
    return _strips(strips, x, alt, "lane high")


def _strips(strips: Sequence[tuple[str, Sequence[str]]], x: Axis, alt: str, kind: str) -> str:
    """Shapes below each other on one axis, each strip under its name."""
    grid = "".join(vertical(x, value, "grid") for value, _ in x.ticks)
    drawn = "".join(
        f'<div class="ln">{text(name)}</div><div class="{kind}">'
        f'<svg aria-hidden="true" viewBox="0 0 {BOX:g} {BOX:g}" preserveAspectRatio="none">'
        f"{grid}{''.join(shapes)}</svg></div>"
        for name, shapes in strips
    )
    title = f'<div class="xt">{text(x.title)}</div>' if x.title else ""
    return (
        f'<div class="plot" role="img" aria-label="{text(alt)}">{drawn}<div class="xs">{_x_ticks(x)}</div>{title}</div>'
    )


def legend(items: Sequence[tuple[str, str]]) -> str:
    """(colour class, name) as a line of swatches."""
    swatches = "".join(f'<li><span class="sw {style}"></span>{text(name)}</li>' for style, name in items)
    return f'<ul class="legend">{swatches}</ul>'


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "", numbers_from: int = 1) -> str:
    """A table that scrolls inside itself; columns from `numbers_from` on are set as numbers."""
    head = "".join(f'<th scope="col"{_number(i, numbers_from)}>{text(h)}</th>' for i, h in enumerate(header))
    body = "".join(
        "<tr>" + "".join(f"<td{_number(i, numbers_from)}>{text(cell)}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    titled = f"<caption>{text(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption or header[0])}"><table>{titled}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _number(index: int, numbers_from: int) -> str:
    return ' class="n"' if index >= numbers_from else ""


def details(summary: str, inside: str) -> str:
    """Something that opens on demand: the table behind a chart."""
    return f"<details><summary>{text(summary)}</summary>{inside}</details>"


def columns(length: int, most: int) -> list[tuple[int, int]]:
    """(begin, end) of at most `most` runs of indices that cover `length` values."""
    count = max(1, min(length, most))
    edges = [length * k // count for k in range(count + 1)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


def png(levels: NDArray[np.float64]) -> str:
    """An image of levels 0 to 1 [rows from the top, columns] in the dark-to-light ramp, as a data URI.

    Written here because it is thirty lines, and the same levels must give the same bytes.
    """
    if levels.ndim != 2 or 0 in levels.shape:
        raise UsageError(f"image: expected levels [rows, columns], got shape {list(levels.shape)}")
    index = np.clip(np.rint(levels * 255.0), 0, 255).astype(np.uint8)
    rows, width = index.shape
    anchors = np.array(_MAGMA, np.float64)
    place = np.linspace(0.0, len(anchors) - 1.0, 256)
    ramp = np.stack([np.interp(place, np.arange(len(anchors)), anchors[:, c]) for c in range(3)], axis=1)
    palette = np.rint(ramp).astype(np.uint8).tobytes()
    raw = b"".join(b"\0" + row.tobytes() for row in index)
    header = struct.pack(">IIBBBBB", width, rows, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


def short(bundle: str) -> str:
    """A bundle's name without its ending."""
    return bundle.removesuffix(".hearpack")


def tag(kind: str) -> str:
    """The mark that says where a figure comes from."""
    return f'<span class="tag {kind}">{kind}</span>'


def tiles(figures: Sequence[tuple[str, str, str, str, bool | None]]) -> str:
    """Figures in large type: (title, value as HTML, what is under it, where it comes from, whether it is good)."""
    drawn = []
    for title, value, under, source, good in figures:
        mood = "" if good is None else " good" if good else " bad"
        drawn.append(
            f'<div><dt>{text(title)}</dt><dd><div class="v{mood}">{value}</div><div class="u">{text(under)}</div>'
            f"{tag(source)}</dd></div>"
        )
    return f'<dl class="tiles">{"".join(drawn)}</dl>'


def ms(ns: float) -> str:
    """Nanoseconds as milliseconds with three significant digits."""
    return digits(ns / 1e6)
