"""What a run of `hearpack batch` is: net, inputs, shards; written down, so that two runs are never mixed."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearpack.batch.inputs import Item
from models.common.errors import OutputError, UsageError, first_line
from models.common.files import cannot_write, write_atomic
from models.common.hashing import sha256_bytes
from models.common.parsing import parse_json
from models.common.temporary import sweep
from models.common.version import __version__

RUN_FILE, ITEMS_FILE, WORK_FOLDER = "run.json", "items.jsonl", "work"
AUDIO_FORMATS = ("wav", "flac")


@dataclass(frozen=True)
class Shard:
    """Recordings that are worked off together and whose rows appear together.

    Attributes:
        number: from 0.
        items: its recordings.
        given_up: positions in `items` of recordings on which workers died; their rows say so.
        keep: whether good rows that are there stay (`--retry-failed`).
    """

    number: int
    items: tuple[Item, ...]
    given_up: tuple[int, ...] = ()
    keep: bool = False


@dataclass(frozen=True)
class Done:
    """What a worker tells of a finished shard.

    Attributes:
        number: of the shard.
        files, failed: recordings, and those whose row has a reason instead of a result.
        audio_s, compute_s: seconds of sound, and seconds in the net.
    """

    number: int
    files: int
    failed: int
    audio_s: float
    compute_s: float


@dataclass(frozen=True)
class Job:
    """All that a worker has to know.

    Attributes:
        bundle: its folder.
        artefact, engine: what computes, on what.
        output: the folder of the run.
        scores: labels kept of every window, the best first; 0 for none.
        audio: one of AUDIO_FORMATS.
        run: the run's digest.
    """

    bundle: str
    artefact: str
    engine: str
    output: str
    scores: int
    audio: str
    run: str = ""


@dataclass(frozen=True)
class RunFacts:
    """What decides the rows of a run: where two differ, they do not go into one folder."""

    bundle: str
    bundle_sha256: str
    artefact: str
    artefact_sha256: str
    engine: str
    engine_version: str
    hearpack: str
    scores: int
    audio: str
    files_per_shard: int
    items: int
    items_sha256: str

    @property
    def digest(self) -> str:
        """Of all of it, 16 hex digits."""
        return sha256_bytes(json.dumps(dataclasses.asdict(self), sort_keys=True).encode())[:16]


@dataclass(frozen=True)
class Seen:
    """How far a run is.

    Attributes:
        files, failed, audio_s: of this run's folder, earlier runs included.
        total: files in all.
        now: files of this run.
        seconds: since it began.
    """

    files: int
    failed: int
    audio_s: float
    total: int
    now: int
    now_audio_s: float
    seconds: float

    @property
    def times_real_time(self) -> float:
        """Seconds of sound worked off in a second."""
        return self.now_audio_s / max(self.seconds, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left at this pace; None before the first shard."""
        return None if not self.now else (self.total - self.files) * self.seconds / self.now


@contextlib.contextmanager
def alone(output: Path) -> Iterator[Path]:
    """Have a run's folder to oneself.

    Yields:
        a folder for workers' notes, empty.

    Raises:
        OutputError: it cannot be written, or another process works there.
    """
    work = output / WORK_FOLDER
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (output / ".lock").open("w")
    except OSError as exc:
        raise cannot_write(exc, output, "choose another folder with --output") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise OutputError(f"{output}: another hearpack batch works in it; wait for it, or choose another") from exc
        for note in work.iterdir():
            note.unlink(missing_ok=True)
        for folder in (*output.glob("files/*"), *output.glob("audio/*")):
            sweep(folder)  # what a kill left
        try:
            yield work
        finally:
            for note in work.iterdir():
                note.unlink(missing_ok=True)
            if not (output / RUN_FILE).exists():  # nothing was begun: leave nothing
                with contextlib.suppress(OSError):
                    work.rmdir()
                    (output / ".lock").unlink()
                    output.rmdir()


def list_items(items: Iterable[Item], output: Path) -> tuple[int, str, Path]:
    """Write the list of a run's recordings aside.

    Returns:
        how many; the list's sha256; the file, to be put in its place or removed.
    """
    digest, count = hashlib.sha256(), 0
    try:
        with tempfile.NamedTemporaryFile("wb", dir=output / WORK_FOLDER, delete=False) as stream:
            for item in items:
                line = json.dumps(item, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
                digest.update(line)
                stream.write(line)
                count += 1
    except OSError as exc:
        raise cannot_write(exc, output, "choose another folder with --output") from exc
    return count, digest.hexdigest(), Path(stream.name)


def begin(output: Path, facts: RunFacts, listed: Path) -> bool:
    """Begin a run, or go on with it.

    Args:
        output: its folder.
        facts: what it is.
        listed: its list of recordings.

    Returns:
        whether it goes on.

    Raises:
        UsageError: another run is in the folder; says what differs.
        OutputError: its run.json is damaged.
    """
    file = output / RUN_FILE
    if file.is_file():
        there = read_run(output)
        mine = dataclasses.asdict(facts)
        other = [name for name in mine if there.get(name) != mine[name]]
        if other:
            name = other[0]
            raise UsageError(
                f"{output}: holds another run: its {name} is {there.get(name)!r:.60}, now it is {mine[name]!r:.60}"
                f"{f' ({len(other) - 1} more differ)' if len(other) > 1 else ''}; choose another folder with --output"
            )
        listed.unlink(missing_ok=True)
        return True
    listed.replace(output / ITEMS_FILE)
    write_atomic(file, json.dumps({"schema": 1, **dataclasses.asdict(facts)}, indent=1, sort_keys=True) + "\n")
    return False


def read_run(output: Path) -> dict[str, Any]:
    """The facts of a run's folder. Raises OutputError."""
    file = output / RUN_FILE
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise OutputError(f"{file}: cannot be read: {first_line(exc)}; remove the folder, or choose another") from exc
    if not isinstance(found, dict):
        raise OutputError(f"{file}: expected an object, got {type(found).__name__}; remove the folder")
    return found


def shards(output: Path, files_per_shard: int, skip: bytearray) -> Iterator[Shard]:
    """The shards of a run that are not marked in `skip`, in order; memory does not grow with their number."""
    with (output / ITEMS_FILE).open("rb") as stream:
        number, lines = 0, []
        for line in stream:
            lines.append(line)
            if len(lines) == files_per_shard:
                if not marked(skip, number):
                    yield _shard(number, lines)
                number, lines = number + 1, []
        if lines and not marked(skip, number):
            yield _shard(number, lines)


def _shard(number: int, lines: list[bytes]) -> Shard:
    return Shard(number, tuple(Item(*json.loads(line.decode("utf-8", "surrogatepass"))) for line in lines))


def mark(skip: bytearray, number: int) -> None:
    """Mark a shard in a map of a bit each."""
    byte = number >> 3
    if byte >= len(skip):
        skip.extend(bytes(byte + 1 - len(skip)))
    skip[byte] |= 1 << (number & 7)


def marked(skip: bytearray, number: int) -> bool:
    """Whether `mark` did."""
    return number >> 3 < len(skip) and bool(skip[number >> 3] & 1 << (number & 7))


def facts_of(job: Job, bundle: tuple[str, str, str], engine_version: str, shape: tuple[int, int, str]) -> RunFacts:
    """The facts of a job; `bundle` is (name, sha256 of its manifest, sha256 of the artefact), `shape` is (files a
    shard, recordings, sha256 of their list)."""
    return RunFacts(
        bundle=bundle[0],
        bundle_sha256=bundle[1],
        artefact=job.artefact,
        artefact_sha256=bundle[2],
        engine=job.engine,
        engine_version=engine_version,
        hearpack=__version__,
        scores=job.scores,
        audio=job.audio,
        files_per_shard=shape[0],
        items=shape[1],
        items_sha256=shape[2],
    )
