"""What the commands share: where output goes, progress, sizes as text. Data to stdout, progress to stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from models.common.errors import UsageError
from models.common.printable import printable
from models.common.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

    from streaming.files.levels import InputLevel


_NARROWEST = 32  # columns of a terminal that are written for
_EVERY_S = 10.0  # between two lines of progress in a pipe
JsonOption = typer.Option(False, "--json", help="Print the result as JSON on stdout and nothing else.")


def to_plain(value: Any) -> Any:
    """Dataclasses, paths, arrays and pydantic models as JSON's own types."""
    if hasattr(value, "model_dump"):
        return to_plain(value.model_dump(mode="json", by_alias=True, exclude_none=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def print_json(value: Any) -> None:
    """One JSON document on stdout, in ASCII."""
    sys.stdout.write(json.dumps(to_plain(value), indent=2, sort_keys=True, allow_nan=False) + "\n")


def megabytes(count: int) -> str:
    """1,234,567 -> '1.23 MB'."""
    return f"{count / 1e6:.2f} MB"


def say(text: str = "", *, err: bool = False) -> None:
    """A line on stdout or stderr; whatever the text holds is shown, never obeyed."""
    typer.echo(printable(text, lines=True), err=err)


def say_input(level: InputLevel | None, warnings: Iterable[str]) -> None:
    """What a person has to know of an audio file that went in, on stderr: warnings, then a line about its level."""
    for warning in warnings:
        say(f"warning: {warning}", err=True)
    if level is not None:
        say(level.line(), err=True)


def console(*, err: bool = False) -> Console:
    """A console whose texts are shown as they are: no markup, no emoji codes, no escapes; 120 columns into a file."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text, lines=True), **{**options, "markup": False, "emoji": False})

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # hearpack/ending.py says how that ends

    width = None if (sys.stderr if err else sys.stdout).isatty() else 120
    return Plain(width=width, highlight=False, stderr=err, markup=False, emoji=False)


def show_table(heads: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """A table without lines on stdout, every cell whole. Where it is wider than the terminal, the widest columns go
    below the row, a line each."""
    from rich.text import Text

    out = console()
    shown = [[printable(cell) for cell in row] for row in (heads, *rows)]
    title = None if title is None else printable(title)
    for line, style in _table_lines(shown[0], shown[1:], title, out.width):
        out.print(Text(line, style), soft_wrap=True)


def _table_lines(
    heads: Sequence[str], rows: Sequence[Sequence[str]], title: str | None, width: int
) -> Iterator[tuple[str, str]]:
    """Lines of a table, each with its style."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]
    columns = list(range(len(heads)))

    def fits() -> bool:
        return sum(widths[k] for k in columns) + 2 * (len(columns) - 1) <= width

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cells[k] + " " * (widths[k] - cell_len(cells[k])) for k in columns).rstrip()

    while not fits() and len(columns) > 1:
        columns.remove(max(columns[1:], key=lambda k: widths[k]))
    below = [k for k in range(len(heads)) if k not in columns]
    if title is not None:
        yield title, "italic"
    yield line(heads), "bold"
    named = max((cell_len(heads[k]) for k in below), default=0) if len(below) > 1 else 0
    for row in rows:
        yield line(row), ""
        for k in below:
            if row[k]:
                name = heads[k] + " " * (named - cell_len(heads[k]) + 2) if named else ""
                indent = " " * (4 + cell_len(name))
                text = textwrap.fill(row[k], max(_NARROWEST, width), initial_indent=indent, subsequent_indent=indent)
                yield "    " + name + text[len(indent) :], ""


class UsersWords(io.TextIOBase):
    """What code of the user's prints or warns of goes to stderr, once, however often their net is run."""

    def __init__(self) -> None:
        self.said: set[object] = set()
        self.begun = ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            self._once(line, functools.partial(say, line, err=True))
        return len(text)

    @contextlib.contextmanager
    def on_stderr(self) -> Iterator[None]:
        """Hear what is said inside; inside of `progress_bars`, which takes stdout for its own."""
        show = warnings.showwarning

        def show_once(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            tell = functools.partial(show, message, category, filename, lineno, file, line)
            self._once((str(message), filename, lineno), tell)

        warnings.showwarning = show_once
        try:
            with contextlib.redirect_stdout(self):
                yield
        finally:
            warnings.showwarning = show
            self.write("\n" if self.begun else "")

    def _once(self, what: object, tell: Callable[[], None]) -> None:
        if what not in self.said:
            self.said.add(what)
            tell()


@contextlib.contextmanager
def progress_bars(quiet: bool = False) -> Iterator[Progress]:
    """A function (what, fraction 0 to 1) that draws a bar a task on stderr; draws nothing when quiet or piped."""
    if quiet or not sys.stderr.isatty():
        yield _plain_lines(quiet)
        return
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console(err=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, fraction: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(printable(what), total=1.0)
            bars.update(tasks[what], completed=fraction)

        yield report


def _plain_lines(quiet: bool) -> Progress:
    told: dict[str, float] = {}

    def report(what: str, fraction: float) -> None:
        """A line when something begins, and one with its share every `_EVERY_S`."""
        now = time.monotonic()
        if quiet or (what in told and now - told[what] < _EVERY_S):
            return
        say(f"  {what}: {fraction:.0%}" if what in told else f"  {what}", err=True)
        told[what] = now

    return report


def second_of(beside: Path | None, then: Path | None, gate: str, figure: float | None = None) -> Path | None:
    """The second bundle that --beside or --then names; None without one.

    Raises:
        UsageError: both, or an option that is for two bundles without one.
    """
    named = [path for path in (beside, then) if path is not None]
    if not named and not gate and figure is None:
        return None
    if len(named) != 1:
        raise UsageError("--beside and --then each name a second bundle, and --gate needs --beside; give one of them")
    return named[0]
