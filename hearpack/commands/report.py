"""`hearpack report`: runs, cold starts and advice as one page that needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from hearpack.commands.shared import JsonOption, print_json, say


def report(
    runs: list[Path] = typer.Argument(None, metavar="RUN...", help="Folders of hearpack simulate; the first is A."),
    output: Path = typer.Option(Path("report.html"), "--output", "-o", help="The page to write."),
    coldstart: list[Path] = typer.Option([], help="Files of hearpack coldstart -o; may be given several times."),
    advice: list[Path] = typer.Option([], help="Files of hearpack advise -o; may be given several times."),
    data: Path | None = typer.Option(None, help="Write the data behind the page to this JSON file too."),
    json_output: bool = JsonOption,
) -> None:
    """Write one self-contained HTML page; two runs or more are compared, with intervals."""
    from streaming.report.write import report as write

    command = ("hearpack", *sys.argv[1:])
    found = write(*(runs or ()), output=output, cold_starts=coldstart, advices=advice, data=data, command=command)
    if json_output:
        print_json(found.data)
        return
    for number, compared in enumerate(found.comparisons, start=1):
        differ = [f.figure for f in compared.figures if f.shown]
        said = compared.why_not or (f"differ in {', '.join(differ)}" if differ else "no difference shown")
        say(f"A against {chr(ord('A') + number)}: {said}")
    say(f"wrote {output} ({output.stat().st_size / 1e3:.0f} kB)")
