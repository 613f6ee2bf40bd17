"""Label files as rows: which form a text is in, and what each line says. Nothing is checked against a recording.

Tables (CSV, TSV, semicolons or spaces) with a header are read by its names, whatever their order: DCASE and sed_eval,
AudioSet strong, ESC-50, BIDS events, Raven selections, what `hearpack run -o` writes. Without a header: onset, offset,
label (Audacity's label track), or file[, scene], onset, offset, label (sed_eval). WebVTT, SRT and Praat's TextGrid too.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import UsageError
from models.common.files import read_file

# Names of columns without their unit, the surer first; see _plain_name.
_ONSET = (
    "onset",
    "onset_time",
    "start",
    "start_time",
    "begin",
    "begin_time",
    "event_onset",
    "event_start",
    "tmin",
    "from",
)
_OFFSET = ("offset", "offset_time", "end", "end_time", "stop", "stop_time", "event_offset", "event_end", "tmax", "to")
_DURATION = ("duration", "dur", "length", "event_duration", "delta_time")
_LABEL = (
    *("label", "labels", "event_label", "sound_event", "class_label", "class_name", "tag", "tags", "class", "category"),
    *("trial_type", "annotation", "species", "common_name", "display_name", "event", "name", "text", "description"),
)
_FILE = (
    *("filename", "file", "file_name", "filepath", "audio_filename", "audio", "recording", "segment_id", "ytid"),
    *("youtube_id", "begin_file", "begin_path", "path"),
)
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("sample", "samples", "frame", "frames"), math.nan),
}
_TRUTHS = {"true": True, "false": False}
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
_CUE = re.compile(rf"^\s*({_CLOCK.pattern})\s*-->\s*({_CLOCK.pattern})(?:\s.*)?$")
_GRID_TOKEN = re.compile(r'"((?:[^"]|"")*)"|\[[^\]]*\]|<\w+>|(?<![\w.])(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.])')
EXPECTED = (
    "expected onset,offset,label with times in seconds, or a header that names such columns, WebVTT, SRT or a TextGrid"
)


@dataclass(frozen=True)
class LabelRow:
    """What a line says.

    Attributes:
        line: its number, from 1.
        begin_s, end_s: seconds; end is begin for a point, and None for the whole recording (a table without times).
        label: its name; None where the line names none.
        file: recording it belongs to, if the line says so.
        holds: False where the line says that the label is not there.
    """

    line: int
    begin_s: float
    end_s: float | None
    label: str | None
    file: str | None = None
    holds: bool = True


@dataclass(frozen=True)
class _Column:
    """Where a table has something, and in which unit."""

    index: int
    unit_s: float = 1.0


@dataclass(frozen=True)
class _Header:
    onset: _Column | None
    offset: _Column | None
    duration: _Column | None
    label: _Column | None
    file: _Column | None
    columns: int


def read_rows(path: Path) -> tuple[LabelRow, ...]:
    """The rows of a label file in any of the forms.

    Raises:
        UsageError: it cannot be read, or a line is none of its form.
    """
    text = _text(path)
    if text.startswith("WEBVTT") or any(_CUE.match(line) for line in text.splitlines()):
        return tuple(_cues(path, text))
    if '"ooTextFile"' in text[:200] and "TextGrid" in text[:400]:
        return tuple(_text_grid(path, text))
    return tuple(_table(path, text))


def _text(path: Path) -> str:
    try:
        data = read_file(path)
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # Audacity and Excel on Windows, Praat
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: labels cannot be read: {exc}; expected text in UTF-8") from exc
    if "\0" in text:
        raise UsageError(f"{path}: labels cannot be read: holds zero bytes; expected text in UTF-8")
    return text


def _cues(path: Path, text: str) -> Iterator[LabelRow]:
    """WebVTT and SRT: a line of times, then lines of text up to an empty one."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        cue = _CUE.match(line)
        if cue is None:
            if "-->" in line:
                raise UsageError(f"{path}, line {at + 1}: expected 00:00:01.000 --> 00:00:02.500, got {line!r}")
            continue
        said = []
        for following in lines[at + 1 :]:
            if not following.strip() or "-->" in following:
                break
            said.append(re.sub(r"<[^>]*>", "", following).strip())
        begin, end = (_seconds(cue.group(n)) for n in (1, 5))
        yield LabelRow(at + 1, begin, end, " ".join(said) or None)


def _text_grid(path: Path, text: str) -> Iterator[LabelRow]:
    """Praat's TextGrid, long or short: the same values in the same order. Intervals without text are silence."""
    found = [(m.start(), m.group(1), m.group(2)) for m in _GRID_TOKEN.finditer(text)]
    tokens = [token for token in found if token[1] is not None or token[2] is not None]
    at = 2  # the file's type and the object's class
    lines = 0
    passed = 0

    def take(quoted: bool) -> tuple[str, int]:
        nonlocal at, lines, passed
        if at >= len(tokens) or (tokens[at][1] is not None) != quoted:
            raise UsageError(f"{path}: is a TextGrid that ends too early or is damaged; save it again from Praat")
        place, string, number = tokens[at]
        at += 1
        lines += text.count("\n", passed, place)
        passed = place
        return (string or "").replace('""', '"').strip() if quoted else number or "", lines + 1

    def number() -> float:
        return float(take(False)[0])

    number(), number()  # the whole recording's begin and end
    for _ in range(int(number())):
        kind = take(True)[0]
        take(True), number(), number()  # the tier's name, begin and end
        for _ in range(int(number())):
            begin = number()
            end = number() if kind == "IntervalTier" else begin
            label, line = take(True)
            if label:
                yield LabelRow(line, begin, end, label)


def _table(path: Path, text: str) -> Iterator[LabelRow]:
    lines = text.splitlines()
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith(("#", "\\"))), "")
    delimiter = next((d for d in "\t;," if d in first), " ")
    header: _Header | None = None
    begun = False
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("\\"):  # Audacity puts a label's frequencies into a row of their own
            continue
        cells = _cells(line, delimiter)
        if not begun and not any(map(is_number, cells)):
            header = _header(path, number, [cell.lstrip("# ") for cell in cells])
            begun = header is not None
            if begun or line.lstrip().startswith("#"):
                continue
            raise UsageError(f"{path}, line {number}: {EXPECTED}; got {line.strip()!r}")
        if line.lstrip().startswith("#"):
            continue
        begun = True
        yield _named(path, number, cells, header) if header is not None else _by_place(path, number, cells)


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        cells = line.split(maxsplit=2)  # a label may have spaces
    else:
        try:
            cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            cells = line.split(delimiter)
    return [cell.strip() for cell in cells]


def _plain_name(cell: str) -> tuple[str, float]:
    """'Begin Time (s)' -> ('begin_time', 1.0): a column's name without its unit, and the unit in seconds."""
    words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", cell).lower()) if word]
    if len(words) > 1 and words[-1] in _UNITS:
        return "_".join(words[:-1]), _UNITS[words[-1]]
    return "_".join(words), 1.0


def _header(path: Path, line: int, cells: Sequence[str]) -> _Header | None:
    """What a first line without a number names; None where it names nothing that is known."""
    names = [_plain_name(cell) for cell in cells]

    def column(known: tuple[str, ...]) -> _Column | None:
        places = [
            (known.index(name), math.isnan(unit), at, unit) for at, (name, unit) in enumerate(names) if name in known
        ]
        if not places:
            return None
        _, _, at, unit = min(places)
        return _Column(at, unit)

    onset, offset, duration, label, file = map(column, (_ONSET, _OFFSET, _DURATION, _LABEL, _FILE))
    header = _Header(onset, offset, duration, label, file, len(cells))
    where = f"{path}, line {line}: the header {','.join(cells)!r}"
    times = [c for c in (header.onset, header.offset or header.duration) if c is not None]
    if any(math.isnan(c.unit_s) for c in times):
        raise UsageError(f"{where} gives times in samples; expected seconds: divide them by the sample rate")
    if header.onset is not None and len(times) < 2:
        raise UsageError(f"{where} names an onset but neither an offset nor a duration; add one")
    if header.onset is None and (header.offset is not None or header.duration is not None):
        raise UsageError(f"{where} names no onset; expected a column of that name")
    if header.onset is None and (header.file is None or header.label is None):
        return None
    return header


def _named(path: Path, number: int, cells: list[str], header: _Header) -> LabelRow:
    """A row under a header."""
    if len(cells) > header.columns and header.label is not None and header.label.index == header.columns - 1:
        cells = [*cells[: header.label.index], ", ".join(cells[header.label.index :])]  # a label with a comma

    def cell(column: _Column | None) -> str | None:
        value = cells[column.index] if column is not None and column.index < len(cells) else ""
        return None if value.lower() in ("", "n/a") else value

    def seconds(column: _Column) -> float:
        value = cell(column)
        if value is None or not is_number(value):
            what = "nothing" if value is None else repr(value)
            raise UsageError(f"{path}, line {number}: expected a time in column {column.index + 1}, got {what}")
        return _seconds(value) * column.unit_s

    label, file = cell(header.label), cell(header.file)
    if header.onset is None:
        return LabelRow(number, 0.0, None, label, file)
    begin = seconds(header.onset)
    if header.offset is not None:
        end = seconds(header.offset)
    else:
        end = begin + seconds(header.duration) if header.duration is not None else begin
    return LabelRow(number, begin, end, label, file)


def _by_place(path: Path, number: int, cells: list[str]) -> LabelRow:
    """A row of a table without a header."""
    numbers = [is_number(cell) for cell in cells]
    file = None
    for lead in (1, 2):  # sed_eval: the file, or the file and the scene, before the times
        if len(cells) >= lead + 3 and numbers[: lead + 2] == [False] * lead + [True] * 2:
            file, cells, numbers = cells[0], cells[lead:], numbers[lead:]
            break
    if len(cells) < 2 or not all(numbers[:2]):
        raise UsageError(f"{path}, line {number}: {EXPECTED}; got {','.join(cells)!r}")
    begin, end = map(_seconds, cells[:2])
    if len(cells) >= 4 and cells[3].lower() in _TRUTHS:
        return LabelRow(number, begin, end, None, file, _TRUTHS[cells[3].lower()])
    return LabelRow(number, begin, end, ", ".join(cell for cell in cells[2:] if cell) or None, file)


def is_number(cell: str) -> bool:
    """Whether a cell is a finite number, with a point or a comma, or a time such as 1:02.5."""
    try:
        return math.isfinite(_seconds(cell))
    except ValueError:
        return False


def _seconds(cell: str) -> float:
    clock = _CLOCK.fullmatch(cell.strip())
    if clock is not None:
        hours, minutes, seconds = clock.groups()
        return 3600.0 * int(hours or 0) + 60.0 * int(minutes) + float(seconds.replace(",", "."))
    return float(cell.replace(",", ".") if re.fullmatch(r"\s*-?\d+,\d+\s*", cell) else cell)
