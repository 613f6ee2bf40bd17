"""How figures and names are written in a report."""

from __future__ import annotations

from streaming.metrics.intervals import digits


def short(bundle: str) -> str:
    """A bundle's name without its ending."""
    return bundle.removesuffix(".hearpack")


def tag(kind: str) -> str:
    """The mark that says where a figure comes from."""
    return f'<span class="tag {kind}">{kind}</span>'


def ms(ns: float) -> str:
    """Nanoseconds as milliseconds with three significant digits."""
    return digits(ns / 1e6)
