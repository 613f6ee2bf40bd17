"""Charts: axes, shapes that stay inside, pictures a decoder accepts, text that cannot break the page."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.common.errors import UsageError
from streaming.report import charts
from streaming.report.charts import Axis, BarPart, BarRow, linear_axis, log_axis, time_axis


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_linear_ticks_are_round_and_inside(low: float, width: float, count: int) -> None:
    axis = linear_axis(low, low + width, "", count)
    assert 1 <= len(axis.ticks) <= 2 * count + 2
    slack = 1e-6 * max(abs(low), width)
    assert all(axis.low - slack <= value <= axis.high + slack for value, _ in axis.ticks)
    labels = [label for _, label in axis.ticks]
    assert len(set(labels)) == len(labels)


def test_known_ticks() -> None:
    assert [t for _, t in linear_axis(0.0, 20.0, "", 5).ticks] == ["0", "5", "10", "15", "20"]
    assert [t for _, t in linear_axis(0.0, 1.0, "", 4).ticks] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    assert [t for _, t in log_axis(0.05, 3.0).ticks] == ["0.01", "0.1", "1", "10"]
    assert [t for _, t in log_axis(0.02, 800.0).ticks] == ["0.01", "", "1", "", "100", ""]
    assert linear_axis(2.0, 2.0).high == 3.0
    for bad in ((1.0, 0.0), (0.0, float("inf")), (-1e308, 1e308)):
        with pytest.raises(UsageError, match="finite range"):
            linear_axis(*bad)
    with pytest.raises(UsageError, match="above 0"):
        log_axis(0.0, 1.0)


def test_long_times_are_read_on_a_clock() -> None:
    assert time_axis(20.0, "of the stream").title == "s of the stream"
    assert [t for _, t in time_axis(20.0).ticks] == ["0", "5", "10", "15", "20"]
    assert [t for _, t in time_axis(3600.0).ticks] == ["0:00", "15:00", "30:00", "45:00", "60:00"]
    assert time_axis(3600.0).title == "min:s"
    assert time_axis(200.0).ticks == ((0.0, "0:00"), (60.0, "1:00"), (120.0, "2:00"), (180.0, "3:00"))
    assert [t for _, t in time_axis(43_200.0).ticks] == ["0:00", "3:00", "6:00", "9:00", "12:00"]
    assert time_axis(43_200.0).title == "h:min"


@given(st.floats(1e-3, 86_400.0))
def test_times_have_few_ticks_of_their_own(end_s: float) -> None:
    axis = time_axis(end_s)
    assert 1 <= len(axis.ticks) <= 8
    assert all(0.0 <= value <= axis.high * (1 + 1e-9) for value, _ in axis.ticks)
    assert len({label for _, label in axis.ticks}) == len(axis.ticks)


def test_places_on_an_axis_are_clipped() -> None:
    axis = linear_axis(0.0, 10.0)
    assert [axis.at(v) for v in (-5.0, 0.0, 2.5, 10.0, 99.0)] == [0.0, 0.0, 0.25, 1.0, 1.0]
    assert log_axis(1.0, 100.0).at(10.0) == pytest.approx(0.5 if log_axis(1.0, 100.0).high == 100.0 else 1 / 3)


def test_shapes_stay_inside_the_box() -> None:
    x, y = linear_axis(0.0, 1.0), linear_axis(0.0, 1.0)
    points = [(-1.0, 5.0), (0.5, 0.5), (9.0, -3.0)]
    drawn = (
        charts.line(x, y, points, "c0")
        + charts.steps(x, y, points, "c0")
        + charts.band(x, y, [0, 2], [-1, 0], [3, 1], "c1")
    )
    numbers = [float(n) for part in re.findall(r'points="([^"]*)"', drawn) for n in re.split(r"[ ,]", part)]
    assert numbers
    assert min(numbers) >= 0.0
    assert max(numbers) <= charts.BOX


def test_text_cannot_break_out() -> None:
    evil = "<script>alert('x')</script>\"&"
    x = linear_axis(0.0, 1.0, evil)
    row = BarRow(evil, (BarPart(0.0, 1.0, "c0", evil),), evil)
    everything = (
        charts.plot([], x, x, evil)
        + charts.bar_rows([row], x, evil)
        + charts.lanes([(evil, "c0", [(0.0, 1.0, evil)])], x, evil)
        + charts.legend([("c0", evil)])
        + charts.table((evil,), [(evil,)], evil)
        + charts.details(evil, "")
    )
    assert "<script" not in everything
    assert everything.count("&lt;script&gt;") >= 10


def test_every_chart_says_what_it_shows() -> None:
    x = Axis(0.0, 1.0, ())
    for drawn in (
        charts.plot([], x, x, "what is seen"),
        charts.bar_rows([], x, "what is seen"),
        charts.lanes([], x, "what is seen"),
    ):
        assert 'role="img"' in drawn
        assert 'aria-label="what is seen"' in drawn


def test_the_picture_is_a_png_that_others_read() -> None:
    pillow = pytest.importorskip(
        "PIL.Image", reason="Pillow is not installed: our PNG is not held against another reader"
    )
    levels = np.array([[0.0, 0.5, 1.0], [1.0, 0.25, 0.0]])
    uri = charts.png(levels)
    assert uri == charts.png(levels)
    image = pillow.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")
    assert image.size == (3, 2)
    assert image.getpixel((0, 0)) == (0, 0, 4)
    assert image.getpixel((0, 1)) == (252, 253, 191)
    brightness = [sum(image.getpixel((column, 0))) for column in range(3)]
    assert brightness == sorted(brightness)
    with pytest.raises(UsageError, match="rows, columns"):
        charts.png(np.zeros((0, 3)))


@given(st.integers(1, 5000), st.integers(1, 700))
def test_columns_cover_everything_once(length: int, most: int) -> None:
    parts = charts.columns(length, most)
    assert len(parts) <= most
    assert [i for a, b in parts for i in range(a, b)] == list(range(length))
