"""What lowerings did, for whoever wants to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from models.graph.builder import Origin

_NOTES: ContextVar[list[tuple[str, Origin]] | None] = ContextVar("notes", default=None)


def note(name: str, origin: Origin) -> None:
    """Remember that an operation was written otherwise."""
    notes = _NOTES.get()
    if notes is not None:
        notes.append((name, origin))


@contextmanager
def noted() -> Iterator[list[tuple[str, Origin]]]:
    """Listen meanwhile.

    Yields:
        what was written otherwise: torch's name of the operation, and where it stands.
    """
    notes: list[tuple[str, Origin]] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)
