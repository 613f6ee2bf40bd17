"""`hearpack batch`: a bundle over collections, each recording once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from hearpack.batch import local
from hearpack.batch.inputs import expand
from hearpack.batch.job import (
    AUDIO_FORMATS,
    Done,
    Job,
    RunFacts,
    Seen,
    Shard,
    alone,
    begin,
    facts_of,
    list_items,
    mark,
    marked,
    shards,
)
from hearpack.batch.page import write_page
from hearpack.batch.summary import Summary, summarize
from hearpack.batch.table import arrow, done_shards, read_rows, shard_file
from hearpack.batch.work import COUNTED, told
from models.catalog import CATALOG
from models.common.errors import UsageError
from models.common.hashing import sha256_file
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime

FILES_PER_SHARD = 64


@dataclass(frozen=True)
class BatchResult:
    """What a batch gave.

    Attributes:
        output: its folder.
        resumed: whether it went on with what was there.
        seen: its counts and its time.
        summary: of all rows; None where nothing was asked of them.
        page: the summary as HTML.
    """

    output: Path
    resumed: bool
    seen: Seen
    summary: Summary
    page: Path


def batch(
    bundle: Bundle | str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    column: str = "path",
    artefact: str | None = None,
    engine: str | None = None,
    scores: int = 0,
    audio: str = "wav",
    workers: int | None = None,
    files_per_shard: int = FILES_PER_SHARD,
    retry_failed: bool = False,
    progress: Callable[[Seen], None] = lambda _seen: None,
) -> BatchResult:
    """Classify, enhance, separate or embed whole collections with the artefact that ships.

    A run that was stopped, however, goes on when the same call is made again. A recording that cannot be read is a
    row that says why.

    Args:
        bundle: a bundle, its folder, or a catalogue net's name (exported into `output`).
        inputs: see hearpack.batch.inputs.expand.
        output: a folder for one run: files/ with Parquet rows, audio/, run.json, summary.html.
        column: of a list, that holds the paths.
        artefact, engine: as hearpack.run.
        scores: labels kept of every window of a classifier, the best first.
        audio: "wav" (float) or "flac" (24 bits).
        workers: processes; one per core by default.
        files_per_shard: recordings whose rows appear together.
        retry_failed: do the failed rows of a finished run again, too.
        progress: called after every shard.

    Returns:
        counts, and a summary of all rows.

    Raises:
        UsageError: an input matches nothing, or the folder holds another run.
        BundleError, ArtefactError, OutputError, MissingDependencyError: as their names say.
    """
    _check(audio, workers, files_per_shard, scores)
    arrow("parquet")
    output = Path(output)
    with ExitStack() as stack:
        stack.enter_context(alone(output))
        opened = _bundle(bundle, output)
        choice = choose(opened, artefact, engine)
        opened.check_files([choice.artefact])
        with closing(open_runtime(opened, choice)) as runtime:  # before anything is listed: it may not open
            version = f"{runtime.info.engine} {runtime.info.version}"
        labels = len(opened.labels()) if opened.manifest.output_kind == "scores" else 0
        job = Job(
            str(opened.path.absolute()),
            choice.artefact.id,
            choice.engine,
            str(output.absolute()),
            min(scores, labels),
            audio,
        )
        count, digest, listed = list_items(expand([str(i) for i in inputs], column), output)
        stack.callback(listed.unlink, missing_ok=True)
        names = (opened.manifest.name, sha256_file(opened.path / "manifest.json"), choice.artefact.digest)
        facts = facts_of(job, names, version, (files_per_shard, count, digest))
        resumed = begin(output, facts, listed)
        job = replace(job, run=facts.digest)
        counter = _Counter(facts, progress)
        todo = counter.left(output, job, retry_failed)
        for done in local.run(job, todo, workers or _cores()):
            counter.add(done)
        seen = counter.seen()
        summary = summarize(output, opened.manifest)
        page = write_page(output, summary, seen, facts)
    return BatchResult(output, resumed, seen, summary, page)


def _check(audio: str, workers: int | None, files_per_shard: int, scores: int) -> None:
    if audio not in AUDIO_FORMATS:
        raise UsageError(f"--audio: expected one of {', '.join(AUDIO_FORMATS)}, got {audio!r}")
    for name, value, least in (("workers", workers, 1), ("shard-files", files_per_shard, 1), ("scores", scores, 0)):
        if value is not None and value < least:
            raise UsageError(f"--{name}: expected {least} or more, got {value}")


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bundle(bundle: Bundle | str | Path, output: Path) -> Bundle:
    if isinstance(bundle, str) and bundle in CATALOG and not Path(bundle).exists():
        from converters.export import export

        return Bundle.open(export(bundle, output=output / "bundle").path)
    return Bundle.of(bundle)


class _Counter:
    """What is done, and what is left."""

    def __init__(self, facts: RunFacts, progress: Callable[[Seen], None]) -> None:
        self._facts, self._progress = facts, progress
        self._files = self._failed = self._now = 0
        self._audio_s = self._now_audio_s = 0.0
        self._began = time.monotonic()

    def left(self, output: Path, job: Job, retry_failed: bool) -> Iterator[Shard]:
        """Shards that are to be done; counts those that are."""
        skip, keep = bytearray(), bytearray()
        for number in done_shards(output):
            done = told(number, read_rows(shard_file(output, number), job.run, COUNTED))
            if retry_failed and done.failed:
                mark(keep, number)
                continue
            mark(skip, number)
            self._count(done)
        for shard in shards(output, self._facts.files_per_shard, skip):
            yield replace(shard, keep=marked(keep, shard.number))

    def _count(self, done: Done) -> None:
        self._files += done.files
        self._failed += done.failed
        self._audio_s += done.audio_s

    def add(self, done: Done) -> None:
        """A shard is done."""
        self._count(done)
        self._now += done.files
        self._now_audio_s += done.audio_s
        self._progress(self.seen())

    def seen(self) -> Seen:
        """How far it is."""
        seconds = time.monotonic() - self._began
        return Seen(self._files, self._failed, self._audio_s, self._facts.items, self._now, self._now_audio_s, seconds)
