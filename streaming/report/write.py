"""`hearpack report`: files of runs, cold starts and advice in, one HTML page out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import UsageError
from models.common.files import save_text
from streaming.advice.advise import read_advice
from streaming.measure.cold_start import ColdStart, read_cold_start
from streaming.report.data import Data, dump, gather
from streaming.report.page import page
from streaming.runs.compare import Comparison
from streaming.runs.load import load_run
from streaming.runs.record import RunRecord


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Attributes:
        page: the .html.
        runs: records of the runs; the first is A.
        comparisons: of B, C and so on with A.
        cold_starts: their measurements.
        data: everything behind the page, as JSON's types.
    """

    page: Path
    runs: tuple[RunRecord, ...]
    comparisons: tuple[Comparison, ...]
    cold_starts: tuple[ColdStart, ...]
    data: Data


def report(
    *runs: str | Path,
    output: str | Path,
    cold_starts: Sequence[str | Path] = (),
    advices: Sequence[str | Path] = (),
    data: str | Path | None = None,
    command: Sequence[str] = ("hearpack.report",),
) -> Report:
    """One HTML page, without script or network, of what the simulator and its tools wrote.

    Args:
        runs: folders of `hearpack simulate`; the first is A, the others are compared with it.
        output: the .html to write; it appears whole or not at all.
        cold_starts: files of `hearpack coldstart -o`.
        advices: files of `hearpack advise -o`.
        data: where the data behind the page go as JSON, if anywhere.
        command: how the page was asked for; its foot shows it.

    Returns:
        what the page shows.

    Raises:
        UsageError: nothing to report, a file that is none of these or cut off, or another ending than .html.
        OutputError: the page cannot be written.
    """
    file = Path(output)
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output: a report is a page, expected NAME.html, got {file.name!r}")
    loaded = [load_run(Path(folder)) for folder in runs]
    starts = tuple(map(read_cold_start, cold_starts))
    advised = [json.loads(read_advice(advice).dump()) for advice in advices]
    found, comparisons = gather(loaded, starts, advised, command)
    save_text(file, page(found))
    if data is not None:
        save_text(data, dump(found))
    return Report(file, tuple(run.record for run in loaded), comparisons, starts, found)
