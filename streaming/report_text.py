"""How figures and names are written in a report."""

from __future__ import annotations

import math


def short(bundle: str) -> str:
    """A bundle's name without its ending."""
    return bundle.removesuffix(".hearpack")


def tag(kind: str) -> str:
    """The mark that says where a figure comes from."""
    return f'<span class="tag {kind}">{kind}</span>'


def ms(ns: float) -> str:
    """Nanoseconds as milliseconds with three significant digits."""
    return digits(ns / 1e6)


def digits(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"
