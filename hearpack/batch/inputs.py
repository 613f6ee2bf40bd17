"""What a batch reads: folders, globs, lists, tar files and URLs as one stream of items, in an order that stays."""

from __future__ import annotations

import contextlib
import csv
import glob
import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from models.common.errors import AudioError, HearpackError, MissingDependencyError, UsageError, first_line
from models.common.files import cannot_write

# What people have in folders; what cannot be read among them becomes a row that says so.
AUDIO = frozenset(
    "wav flac ogg oga opus mp3 aif aiff aifc au snd w64 rf64 caf m4a aac mp4 wma amr webm".split()  # noqa: SIM905
)
LISTS = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
_PIECE = 1 << 20


class Item(NamedTuple):
    """One recording.

    Attributes:
        path: what rows call it: a file, a URL, or TAR/MEMBER.
        where: the file or URL that holds it.
        offset, size: its bytes in there; size -1 for all of it.
    """

    path: str
    where: str
    offset: int = 0
    size: int = -1

    @property
    def is_plain(self) -> bool:
        """Whether it is a file of this machine, as it is."""
        return self.size < 0 and not is_url(self.where)


def is_url(text: str) -> bool:
    """Whether fsspec has to open it."""
    return "://" in text


def expand(inputs: Sequence[str], column: str = "path") -> Iterator[Item]:
    """Every recording of some inputs, each input's in sorted order.

    Args:
        inputs: folders (with all below), files, globs, lists (.csv, .tsv, .jsonl, .parquet), .tar files, or URLs of
            any of these but lists.
        column: of a list, holds paths or URLs; relative ones are relative to the list.

    Raises:
        UsageError: nothing matches an input, a list cannot be read or has no such column, a URL cannot be opened.
    """
    for text in inputs:
        found = False
        for item in _remote(text) if is_url(text) else _local(text, column):
            found = True
            yield item
        if not found:
            raise UsageError(
                f"{text}: no audio found; expected a folder or glob with audio files ({', '.join(sorted(AUDIO)[:6])} "
                f"and others), a list with a column {column!r}, a .tar or a URL"
            )


def _local(text: str, column: str) -> Iterator[Item]:
    path = Path(text)
    if path.is_dir():
        yield from (_plain(file) for file in _below(path) if is_audio(file.name))
    elif path.suffix.lower() in LISTS and path.is_file():
        yield from _listed(path, column)
    elif path.suffix.lower() == ".tar" and path.is_file():
        yield from _members(text)
    elif path.exists():
        yield _plain(path)
    elif glob.has_magic(text):
        for match in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207  # a pattern may be absolute
            if not Path(match).is_dir():
                yield from _local(match, column)
    else:
        raise UsageError(f"{text}: does not exist; expected a file, a folder, a glob, a list, a .tar or a URL")


def _plain(file: Path) -> Item:
    return Item(str(file), str(file))


def is_audio(name: str) -> bool:
    """Whether a file is audio by its name; hidden ones and what macOS leaves beside (._x.wav) are not."""
    base = name.rsplit("/", 1)[-1]
    return not base.startswith(".") and base.rsplit(".", 1)[-1].lower() in AUDIO


def _below(folder: Path) -> Iterator[Path]:
    """Files of a folder and those below; one folder's names in memory at a time."""
    with os.scandir(folder) as entries:
        here = sorted(entries, key=lambda e: e.name)
    for entry in here:
        if entry.is_dir():
            if not entry.name.startswith("."):
                yield from _below(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


# --- lists --------------------------------------------------------------------------------------------------


def _listed(file: Path, column: str) -> Iterator[Item]:
    try:
        for number, row in enumerate(_rows(file, column), 1):
            value = row.get(column)
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"{file}, row {number}: the column {column!r} holds no path, it holds {value!r:.40}")
            text = value.strip()
            place = text if is_url(text) or Path(text).is_absolute() else str(file.parent / text)
            yield Item(place, place)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as exc:
        if isinstance(exc, HearpackError):
            raise
        raise UsageError(f"{file}: cannot be read as a list: {first_line(exc)}") from exc


def _rows(file: Path, column: str) -> Iterator[Mapping[str, Any]]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet_rows(file, column)
        return
    with file.open(encoding="utf-8-sig", newline="") as stream:
        if suffix == ".jsonl":
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict) or column not in row:
                    raise _no_column(file, column, row if isinstance(row, dict) else (), f", line {number}")
                yield row
            return
        reader = csv.DictReader(stream, delimiter="\t" if suffix == ".tsv" else ",")
        if column not in (reader.fieldnames or ()):
            raise _no_column(file, column, reader.fieldnames or ())
        yield from reader


def _no_column(file: Path, column: str, there: Iterable[object], place: str = "") -> UsageError:
    names = ", ".join(map(str, there)) or "none"
    return UsageError(f"{file}{place}: has no column {column!r}; it has: {names}; name it with --column")


def _parquet_rows(file: Path, column: str) -> Iterator[Mapping[str, Any]]:
    from hearpack.batch.table import arrow

    parquet = arrow("parquet").ParquetFile(file)
    if column not in parquet.schema_arrow.names:
        raise _no_column(file, column, parquet.schema_arrow.names)
    for batch in parquet.iter_batches(columns=[column]):
        yield from batch.to_pylist()


# --- tar files and URLs -------------------------------------------------------------------------------------


def _members(where: str) -> Iterator[Item]:
    """Recordings of a tar that is not packed, where they lie in it (the form of webdataset's shards)."""
    try:
        with _stream(where) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep every header of a large one
                if member.isreg() and is_audio(member.name):
                    yield Item(f"{where}/{member.name}", where, member.offset_data, member.size)
    except (tarfile.TarError, EOFError) as exc:
        raise UsageError(
            f"{where}: is no whole tar file: {first_line(exc)}; a packed one (.tar.gz) has to be unpacked first"
        ) from exc
    except OSError as exc:
        raise UsageError(f"{where}: cannot be read: {first_line(exc)}") from exc


def _remote(text: str) -> Iterator[Item]:
    with _in_words(text):
        from fsspec.core import url_to_fs

        system, path = url_to_fs(text)
        if glob.has_magic(text):
            names = sorted(system.glob(path))
        elif text.startswith(("http://", "https://")) or not system.isdir(path):
            names = [path]
        else:
            names = sorted(system.find(path))
        single = len(names) == 1 and names[0] == path
        urls = [text] if single else [system.unstrip_protocol(name) for name in names]
    for url in urls:
        if url.lower().endswith(".tar"):
            with _in_words(url):
                yield from _members(url)
        elif is_audio(url) or single:
            yield Item(url, url)


@contextlib.contextmanager
def _in_words(url: str) -> Iterator[None]:
    """What file systems say of a URL, as one error of ours: they raise of any kind."""
    try:
        yield
    except HearpackError:
        raise
    except ImportError as exc:
        package = (exc.name or first_line(exc)) if isinstance(exc, ModuleNotFoundError) else first_line(exc)
        raise UsageError(f"{url}: cannot be opened: {package}; install fsspec's package for this scheme") from exc
    except FileNotFoundError as exc:
        raise UsageError(f"{url}: does not exist") from exc
    except Exception as exc:
        raise UsageError(f"{url}: cannot be opened: {type(exc).__name__}: {first_line(exc)}") from exc


def _stream(where: str) -> Any:
    if not is_url(where):
        return Path(where).open("rb")
    try:
        import fsspec
    except ImportError as exc:
        raise MissingDependencyError("fsspec", "batch", "reading URLs") from exc
    return fsspec.open(where, "rb").open()


@contextlib.contextmanager
def opened(item: Item) -> Iterator[Path]:
    """A recording as a file of this machine: itself, or a copy that is gone afterwards.

    Raises:
        AudioError: it is not there, or is cut off.
        OutputError: no space left for the copy.
    """
    if item.is_plain:
        yield Path(item.where)
        return
    suffix = Path(item.path).suffix
    with tempfile.NamedTemporaryFile(suffix=suffix) as copy:
        try:
            with _stream(item.where) as stream:
                held = _copy(item, stream, copy.file)
        except HearpackError:
            raise
        except FileNotFoundError as exc:
            raise AudioError(f"{item.path}: does not exist, or cannot be reached") from exc
        except Exception as exc:  # a file system of fsspec raises of any kind
            raise AudioError(f"{item.path}: cannot be read: {type(exc).__name__}: {first_line(exc)}") from exc
        if item.size >= 0 and held < item.size:
            raise AudioError(f"{item.path}: is truncated: expected {item.size} bytes, got {held}")
        yield Path(copy.name)


def _copy(item: Item, stream: IO[bytes], target: IO[bytes]) -> int:
    if item.offset:
        stream.seek(item.offset)
    left = item.size if item.size >= 0 else 1 << 62
    held = 0
    while left > 0 and (piece := stream.read(min(_PIECE, left))):
        try:
            target.write(piece)
        except OSError as exc:
            raise cannot_write(exc, Path(tempfile.gettempdir()), "set TMPDIR to a folder with more") from exc
        held += len(piece)
        left -= len(piece)
    target.flush()
    return held
