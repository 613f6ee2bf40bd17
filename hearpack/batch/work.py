"""A shard through a net that is open: rows, and audio beside them. The same in every engine."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from hearpack.batch.inputs import Item, opened
from hearpack.batch.job import Done, Job, Shard
from hearpack.batch.table import TIMING, audio_folder, read_rows, schema, shard_file, write_rows
from models.common.errors import AudioError, HearpackError, OutputError, first_line
from models.common.files import atomic_folder, cannot_write
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime
from streaming.core.loop import LoopOutput
from streaming.files.cleaning import clean
from streaming.files.hearing import TimedRuntime, embed, hear
from streaming.files.reader import AudioReader
from streaming.files.wav import WavWriter

Array = NDArray[np.float32]
COUNTED = ("status", "duration_s", TIMING)  # columns that `told` looks at
DEATHS = 3  # of workers on one recording before it is given up
_FLAC_BLOCK = 1 << 16


class Worker:
    """One process's net.

    Args:
        job: what to do.
        began: called with a recording's position before it is worked on.
        still: called before anything is put in its place; does not return where the run is over. Who comes after a
            killed driver removes that driver's temporaries, and what a worker makes of it must not be kept.

    Raises:
        BundleError, ArtefactError, UsageError: the net cannot be opened.
    """

    def __init__(self, job: Job, began: Callable[[Shard, int], None], still: Callable[[], None]) -> None:
        self._job, self._began, self._still = job, began, still
        self._bundle = Bundle.open(job.bundle)
        self._choice = choose(self._bundle, job.artefact, job.engine)
        self._runtime = open_runtime(self._bundle, self._choice)
        self._columns = schema(self._bundle.manifest, job.run)
        self._output = Path(job.output)

    def work(self, shard: Shard) -> Done:
        """Rows and audio of a shard, whole or not at all.

        Raises:
            OutputError: they cannot be written. What is wrong with a recording stands in its row instead.
        """
        file = shard_file(self._output, shard.number)
        kept = self._kept(file, shard)
        audio = audio_folder(self._output, shard.number)
        if not self._bundle.manifest.gives_audio:
            rows = self._rows(shard, kept, None)
        else:
            with atomic_folder(audio) as folder:
                rows = self._rows(shard, kept, folder)
        write_rows(file, rows, self._columns)
        return told(shard.number, rows)

    def close(self) -> None:
        """Release the net."""
        self._runtime.close()

    def _kept(self, file: Path, shard: Shard) -> dict[int, dict[str, Any]]:
        """Rows that stay, by position: those that were good, where only failed ones are tried again."""
        if not shard.keep:
            return {}
        return {at: row for at, row in enumerate(read_rows(file, self._job.run)) if row["status"] == "done"}

    def _rows(self, shard: Shard, kept: dict[int, dict[str, Any]], folder: Path | None) -> list[dict[str, Any]]:
        rows = [self._row(shard, at, kept, folder) for at in range(len(shard.items))]
        self._still()
        return rows

    def _row(self, shard: Shard, at: int, kept: dict[int, dict[str, Any]], folder: Path | None) -> dict[str, Any]:
        item = shard.items[at]
        if at in kept:
            for name in kept[at].get("audio") or ():
                if folder is not None:  # the folder is written anew
                    os.link(self._output / name, folder / Path(name).name)
            return kept[at]
        if at in shard.given_up:
            return _failed(
                item, f"the worker died {DEATHS} times while it was in work (a crash of a library, or memory)"
            )
        self._began(shard, at)
        try:
            with opened(item) as file:
                row = self._done(item, file, self._names(at, item), folder)
        except OutputError:
            raise
        except HearpackError as exc:
            return _failed(item, str(exc))
        except OSError as exc:  # not the recording's fault
            raise cannot_write(exc, self._output, "run again") from exc
        except MemoryError:
            return _failed(item, f"{item.path}: not enough memory for it")
        except Exception as exc:  # a row, not a stop: a million others wait
            return _failed(item, f"a fault of hearpack: {type(exc).__name__}: {first_line(exc)}")
        place = audio_folder(Path(), shard.number)
        return {**row, "audio": [str(place / name) for name in row["audio"]]} if folder is not None else row

    def _names(self, at: int, item: Item) -> list[str]:
        stem = f"{at:05d}-{Path(item.path).stem[:80]}"
        return [f"{stem}.{source}" for source in self._bundle.manifest.sources] or [stem]

    def _done(self, item: Item, file: Path, names: list[str], folder: Path | None) -> dict[str, Any]:
        try:
            before, digest = _stamp(file), _sha256(file)
        except OSError as exc:
            raise AudioError(f"{item.path}: cannot be read: {exc.strerror or exc}") from exc
        runtime = TimedRuntime(self._runtime)
        with AudioReader(file) as reader:
            found = self._through(runtime, reader, names, folder)
            level = reader.level()
            row = {
                "path": item.path,
                "status": "done",
                "sha256": digest,
                "bytes": before[0],
                "sample_rate_hz": reader.sample_rate_hz,
                "channels": reader.channels,
                "duration_s": reader.duration_s,
                "peak_dbfs": level.peak_dbfs,
                "rms_dbfs": level.rms_dbfs,
                "dc": level.dc,
                "clipped_samples": level.clipped_samples,
                "warnings": [w.replace(str(file), item.path) for w in reader.warnings] + list(level.notes),
                "calls": runtime.calls,
                "nan_outputs": runtime.nan_outputs,
                "limited_samples": runtime.limited,
                TIMING: runtime.seconds,
                **found,
            }
        if _stamp(file) != before:
            raise AudioError(f"{item.path}: changed while it was read; run again with --retry-failed")
        return row

    def _through(
        self, runtime: TimedRuntime, reader: AudioReader, names: list[str], folder: Path | None
    ) -> dict[str, Any]:
        manifest = self._bundle.manifest
        rate = manifest.geometry.sample_rate_hz
        if manifest.output_kind == "scores":
            windows: list[LoopOutput] = []
            keep = windows.append if self._job.scores else None
            events, lag = hear(self._bundle, runtime, reader, keep=keep)
            told = [
                {"onset_s": e.onset_s, "offset_s": e.offset_s, "label": e.label, "confidence": e.confidence}
                for e in events
            ]
            return {"events": told, "windows": [_best(w, self._job.scores, lag, rate) for w in windows]}
        if manifest.output_kind == "embedding":
            vectors, ends, lag = embed(manifest, runtime, reader)
            rows = zip(ends.tolist(), vectors, strict=True)
            return {"windows": [{"end_s": (end - lag) / rate, "embedding": vector} for end, vector in rows]}
        wavs = [cast(Path, folder) / f"{name}.wav" for name in names]
        try:
            clean(self._bundle, runtime, reader, wavs, opened=_unsynced)
            return {"audio": [_packed(wav, self._job.audio) for wav in wavs]}
        except BaseException:
            for wav in wavs:
                wav.unlink(missing_ok=True)
            raise


def told(number: int, rows: Sequence[Mapping[str, Any]]) -> Done:
    """What there is to tell of a shard's rows."""
    done = [row for row in rows if row["status"] == "done"]
    audio_s, compute_s = (float(sum(row[name] for row in done)) for name in ("duration_s", TIMING))
    return Done(number, len(rows), len(rows) - len(done), audio_s, compute_s)


def _failed(item: Item, reason: str) -> dict[str, Any]:
    return {"path": item.path, "status": "failed", "reason": reason}


def _stamp(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _best(window: LoopOutput, count: int, lag: int, rate_hz: int) -> dict[str, Any]:
    """The `count` best labels of a window, best first; by index where they are equal."""
    order = np.argsort(-window.values, kind="stable")[:count]
    return {
        "end_s": (window.end_sample - lag) / rate_hz,
        "index": order.astype(np.int16),
        "score": window.values[order],
    }


@contextlib.contextmanager
def _unsynced(path: Path, channels: int, rate_hz: int) -> Iterator[WavWriter]:
    """A .wav in a folder that appears whole: the folder is synced once, at its end."""
    with path.open("wb") as stream:
        writer = WavWriter(path, stream, channels, rate_hz, "FLOAT")
        yield writer
        writer.finish()


def _packed(wav: Path, form: str) -> str:
    """A .wav as the form that was asked for; its name."""
    if form == "wav":
        return wav.name
    packed = wav.with_suffix(".flac")
    with soundfile.SoundFile(wav) as source:
        shape = (source.samplerate, source.channels)
        with soundfile.SoundFile(packed, "w", *shape, "PCM_24", format="FLAC") as target:
            for block in source.blocks(_FLAC_BLOCK, dtype="float32", always_2d=True):
                target.write(block)
    wav.unlink()
    return packed.name
