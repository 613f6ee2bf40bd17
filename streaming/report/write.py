"""`hearpack report`: files of runs, cold starts and advice in, one HTML page out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.common.documents import DocumentKind
from models.common.errors import UsageError
from models.common.files import atomic_file
from streaming.measure.cold_start import read_cold_start
from streaming.report.data import Data, dump, gather
from streaming.report.page import page
from streaming.runs.load import load_run

_ADVICE = DocumentKind(
    "hearpack-advice/1",
    "advice",
    not_json="cut off or no JSON (line {line}: {message}); advise again",
    other_schema="expected advice ({expected}); make it with: hearpack advise BUNDLE... -o FILE",
    invalid="not advice: {where}: {message}",
)


def write_report(
    runs: Sequence[Path],
    output: Path,
    *,
    cold_starts: Sequence[Path] = (),
    advices: Sequence[Path] = (),
    data_file: Path | None = None,
    command: Sequence[str] = (),
) -> Data:
    """Read everything, draw, write: the page appears whole or not at all.

    Args:
        runs: runs' folders; the first is A, the others are compared with it.
        output: the .html to write.
        cold_starts: files of `hearpack coldstart -o`.
        advices: files of `hearpack advise -o`.
        data_file: where the data behind the page go as JSON, if anywhere.
        command: the command line, to stand in the page.

    Returns:
        the data behind the page.

    Raises:
        UsageError: nothing to report, a file that is none of these or cut off, or another ending than .html.
        OutputError: the page cannot be written.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output: a report is a page, expected NAME.html, got {output.name!r}")
    data = gather(
        [load_run(folder) for folder in runs],
        [read_cold_start(file) for file in cold_starts],
        [read_advice(file) for file in advices],
        command,
    )
    html = page(data)
    with atomic_file(output) as file:
        file.write(html.encode())
    if data_file is not None:
        with atomic_file(data_file) as file:
            file.write(dump(data).encode())
    return data


def read_advice(path: Path) -> Data:
    """Read what `hearpack advise -o` wrote.

    Raises:
        UsageError: not there, cut off, or another file.
    """
    return _ADVICE.read(path, dict)
