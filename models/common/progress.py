"""How long work tells of itself: a function of what is done and how much of it (0 to 1)."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]


def silent(_what: str, _fraction: float) -> None:
    """A progress function that says nothing."""
