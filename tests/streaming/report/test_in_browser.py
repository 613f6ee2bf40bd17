"""The report in a real headless Chromium: nothing logged, no request, no sideways scrolling on a phone."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streaming.report.write import report
from tools.browser import NAMES, Browser, Seen, find_browser

PATH = find_browser()
# Contrast of text against what is behind it, as WCAG 2 counts it, for every element that holds text itself.
LOW_CONTRAST = """(() => {
  const channel = v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
  const light = c => .2126 * channel(c[0]) + .7152 * channel(c[1]) + .0722 * channel(c[2]);
  const rgb = s => s.match(/[\\d.]+/g).map(Number);
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > .99) return c; } return [255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg, script')) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) low.push(`${e.className || e.tagName}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(low)];
})()"""
OUTSIDE = """[...document.querySelectorAll('main *')]
  .filter(e => !e.closest('.scroll, svg, pre') && e.getClientRects().length)
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.className || e.tagName)"""
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('body *')]
  .filter(e => !e.closest('svg, script') && e.getClientRects().length)
  .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
  .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
# Tick labels of one axis that touch each other.
TOUCHING = """[...document.querySelectorAll('.xs')].flatMap(axis => {
  const boxes = [...axis.children].map(e => [e.getBoundingClientRect(), e.textContent]);
  boxes.sort((a, b) => a[0].left - b[0].left);
  return boxes.slice(1).filter(([box], k) => box.left < boxes[k][0].right).map(([, label]) => label);
})"""
SCHEME = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if PATH is None:
        if os.environ.get("CI"):
            pytest.fail(f"no Chromium in CI: .ci/run installs it, but none of {', '.join(NAMES)} is on PATH")
        pytest.skip("no Chromium: the report is not looked at in a real browser (apt-get install chromium)")
    with Browser(PATH) as started:
        yield started


@pytest.fixture
def page(make_run: Callable[..., Path], hour_run: Path, tmp_path: Path) -> dict[str, Path]:
    runs = [make_run("a"), make_run("b", seed=2, slower=3.0)]
    pages = {name: tmp_path / f"{name}.html" for name in ("compared", "heard", "hour")}
    report(*runs, output=pages["compared"])
    report(make_run("c", "classifier"), output=pages["heard"])
    report(hour_run, output=pages["hour"])
    return pages


def pixels(png: bytes) -> set[bytes]:
    """A few rows of a screenshot, undecoded but for zlib: enough to tell a blank one."""
    data, position = b"", 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        if png[position + 4 : position + 8] == b"IDAT":
            data += png[position + 8 : position + 8 + length]
        position += 12 + length
    raw = zlib.decompress(data)
    return {raw[i : i + 3] for i in range(0, len(raw) - 3, 997)}


def test_the_page_is_quiet_fits_and_can_be_read(browser: Browser, page: dict[str, Path]) -> None:
    for name, file in page.items():
        backgrounds = set()
        for width in (360, 1200):
            for dark in (False, True):
                scripts = (LOW_CONTRAST, OUTSIDE, SMALLEST_TEXT, TOUCHING, SCHEME)
                seen: Seen = browser.look(file, width, dark=dark, scripts=scripts)
                where = f"{name} at {width} px, {'dark' if dark else 'light'}"
                assert seen.log == (), where
                assert seen.requests == (), where
                assert seen.scroll_width <= seen.client_width == width, where
                low, outside, smallest, touching, background = seen.results
                assert low == [], where
                assert outside == [], where
                assert smallest >= 11.0, where
                assert touching == [], where
                backgrounds.add(background)
                assert len(pixels(seen.png)) > 50, where
        assert len(backgrounds) == 2, "light and dark look alike"


def test_the_browser_would_have_noticed(browser: Browser, tmp_path: Path) -> None:
    """The check itself can fail: a page with an error, a request and a wide box is caught."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><meta name='viewport' content='width=device-width'><title>x</title>"
        "<body style='color:#999;background:#fff'>grey<div style='width:900px'>x</div>"
        "<img src='http://127.0.0.1:9/x.png'><script>console.error('oh'); nothing.at.all</script>"
    )
    seen = browser.look(bad, 360, scripts=(LOW_CONTRAST,))
    assert any("oh" in message for message in seen.log)
    assert any("exception" in message for message in seen.log)
    assert seen.requests == ("http://127.0.0.1:9/x.png",)
    assert seen.scroll_width > seen.client_width
    assert seen.results[0] != []
