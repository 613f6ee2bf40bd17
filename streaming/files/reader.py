"""An audio file block by block, to its real end: its promise is compared with what it holds, its level is measured.

Memory does not grow with the file. A file is read forwards only: a seek makes the decoder of MP3 lose what it needs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError
from runtimes.native_output import quiet
from streaming.core.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from streaming.files.containers import Container, look_at, ogg_is_cut, truncated
from streaming.files.levels import InputLevel, LevelMeter
from streaming.files.mpeg import MpegScan, PiecesFile, mpeg_file, scan_mpeg

Array = NDArray[np.float32]

BLOCK_FRAMES = 1 << 16
_UNKNOWN_FRAMES = 1 << 62
_MPEG_SLACK_FRAMES = 2  # a decoder may keep back a first or a last frame
_FLOATS = ("FLOAT", "DOUBLE")
# What libsndfile says, where it is not what is meant.
_SAID = {
    "File does not exist or is not a regular file": "no sound can be decoded from it",
    "Format not recognised": "its format is not known",
    "Unspecified internal error": "it is damaged",
    "Supported file format but file is malformed": "it is damaged",
}


class AudioReader:
    """An audio file, opened. Use it in a `with`; read `blocks()` once.

    Args:
        path: a file that libsndfile reads: WAV, FLAC, Ogg, AIFF, MP3 and others.
        max_channels: most channels accepted.

    Attributes:
        source: the path, for messages and reports.
        sample_rate_hz, channels: its form.
        frames: how many there are; None where only reading tells.

    Raises:
        AudioError: missing, no audio file, empty, truncated, 8-bit PCM, too many channels, or a rate out of range. One
            line that says what to do.
    """

    def __init__(self, path: str | Path, max_channels: int = 2) -> None:
        self._file = Path(path)
        self.source = str(self._file)
        size = file_size(self._file)
        if size == 0:
            raise AudioError(f"{self._file}: the file is empty (0 bytes); expected an audio file")
        container = look_at(self._file, size)
        self._warnings = list(container.warnings)
        self._least = self._read = 0
        self._sound: Any
        self._sound = None
        self._under: PiecesFile | None = None
        try:
            with _in_our_words(self._file):
                self._open(container, max_channels)
        except BaseException:
            self.close()
            raise
        self._meter = LevelMeter(self.source, self.sample_rate_hz, self.channels, self._sound.subtype in _FLOATS)

    def _open(self, container: Container, max_channels: int) -> None:
        if container.mpeg is not None:
            scan = scan_mpeg(self._file, *container.mpeg)
            self._under = self._mpeg(scan)
        elif container.patches:
            self._under = _patched(self._file, container)
        self._sound = _forwards()(os.fsencode(self._file) if self._under is None else self._under)
        if self._under is None and str(self._sound.subtype).startswith("MPEG"):
            scan = scan_mpeg(self._file)
            self._under = self._mpeg(scan)
            if self._under is not None:
                self._sound.close()
                self._sound = _forwards()(self._under)
        sound = self._sound
        self.sample_rate_hz, self.channels = int(sound.samplerate), int(sound.channels)
        self._check_format(str(sound.subtype), max_channels)
        if str(sound.subtype).startswith("MPEG"):
            counted = scan.samples if self._under is not None else int(sound.frames)
            self._least = counted - _MPEG_SLACK_FRAMES * scan.samples_per_frame
            self.frames: int | None = counted
        else:
            self.frames = int(sound.frames) if 0 < sound.frames < _UNKNOWN_FRAMES else None
            self._least = self.frames or 0

    def _mpeg(self, scan: MpegScan) -> PiecesFile | None:
        """What to read the frames from; None where libsndfile itself knows how many there are."""
        if scan.promised is not None and scan.promised > scan.frames + 1:
            held, promised = (n * scan.samples_per_frame for n in (scan.frames, scan.promised))
            raise truncated(self._file, f"{promised} frames", f"{held}")
        if scan.cut:
            raise AudioError(
                f"{self._file}: is truncated: its last MPEG frame is incomplete, {scan.samples} frames of audio are "
                f"whole; copy or record it again, or keep what is whole: ffmpeg -i {self._file.name} out.wav"
            )
        if scan.simple:
            return None
        if len(scan.pieces) > 1:
            self._warnings.append(f"{self.source}: bytes between its MPEG frames are no audio and were left out")
        if scan.promised is not None and scan.promised < scan.frames - 1:
            self._warnings.append(
                f"{self.source}: its header counts {scan.promised} MPEG frames, it holds {scan.frames}; all were read"
            )
        return mpeg_file(self._file, scan)

    def _check_format(self, subtype: str, max_channels: int) -> None:
        file, rate = self._file, self.sample_rate_hz
        if subtype in ("PCM_U8", "PCM_S8"):
            raise AudioError(
                f"{file}: is 8-bit PCM, whose noise a phone's 16-bit capture does not have; convert it first, "
                f"for instance: sox in.wav -b 16 out.wav (or record again)"
            )
        if self.channels > max_channels:
            raise AudioError(
                f"{file}: has {self.channels} channels, expected at most {max_channels}; pick one "
                f"(sox in.wav out.wav remix 1) or mix all (sox in.wav out.wav channels 1)"
            )
        if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
            raise AudioError(
                f"{file}: its sample rate is {rate} Hz, expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}; "
                f"correct the header or convert it (sox in.wav -r 16000 out.wav)"
            )

    @property
    def duration_s(self) -> float:
        """Its length; after the last block what was read, before it what is promised (0 if nothing is)."""
        return (self._read or self.frames or 0) / self.sample_rate_hz

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person has to know of the file."""
        return tuple(self._warnings)

    def blocks(self, frames: int = BLOCK_FRAMES) -> Iterator[Array]:
        """The file from the beginning to the end, once.

        Args:
            frames: of a block; the last one may be shorter.

        Yields:
            float32 [frames, channels], fresh, full scale 1.0, finite.

        Raises:
            AudioError: truncated, empty, NaN or Inf, or not scaled to 1.0.
        """
        while True:
            with _in_our_words(self._file):
                block: Array = self._sound.read(frames, dtype="float32", always_2d=True)
            if not len(block):
                break
            self._meter.push(block)
            self._read += len(block)
            yield block
        if self._read < self._least:
            raise truncated(self._file, f"{self.frames} frames", f"{self._read}")
        if self._read == 0:
            raise AudioError(
                f"{self._file}: holds no samples ({self._sound.subtype}, {self.sample_rate_hz} Hz); "
                f"expected at least one"
            )
        if self._sound.format == "OGG" and ogg_is_cut(self._file):
            self._warnings.append(
                f"{self.source}: its Ogg stream has no end: the file was cut off, or its recorder was stopped; "
                f"{self._read / self.sample_rate_hz:.1f} s were read"
            )

    def level(self) -> InputLevel:
        """The level of all blocks so far."""
        return self._meter.level()

    def close(self) -> None:
        """Close the file."""
        if self._sound is not None:
            self._sound.close()
        if self._under is not None:
            self._under.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def duration_of(path: str | Path) -> float:
    """Length of an audio file in seconds; read to its end only where its header does not tell.

    Raises:
        AudioError: as AudioReader.
    """
    with AudioReader(path) as reader:
        if reader.frames is None:
            for _ in reader.blocks():
                pass
        return reader.duration_s


def file_size(file: Path) -> int:
    """Bytes of a readable regular file.

    Raises:
        AudioError: it is none.
    """
    try:
        if file.is_dir():
            raise AudioError(f"{file}: is a folder; expected an audio file")
        if not file.exists():
            raise AudioError(f"{file}: no such file")
        if not file.is_file():
            raise AudioError(f"{file}: is not a regular file; expected an audio file")
        return file.stat().st_size
    except (OSError, ValueError) as exc:
        raise AudioError(f"{str(file)!r}: cannot be looked at: {exc}") from exc


@contextlib.contextmanager
def _in_our_words(file: Path) -> Iterator[None]:
    """Errors of libsndfile as AudioError."""
    import soundfile  # late: loads a native library that the command's --help has no use for

    try:
        with quiet():  # libmpg123 writes its complaints to the terminal
            yield
    except soundfile.SoundFileError as exc:
        said = str(getattr(exc, "error_string", exc)).strip().rstrip(".")
        detail = next((ours for theirs, ours in _SAID.items() if theirs in said), f"libsndfile says: {said}")
        raise AudioError(
            f"{file}: is not an audio file that can be read ({detail}); expected WAV, FLAC, Ogg, AIFF or MP3; "
            f"others can be converted: ffmpeg -i {file.name} out.wav"
        ) from exc
    except (OSError, MemoryError, ValueError) as exc:
        raise AudioError(f"{file}: cannot be read: {exc or type(exc).__name__}") from exc


@cache
def _forwards() -> Any:
    """SoundFile that never seeks: a seek after every read makes MP3 decode wrongly, and GSM not at all."""
    import soundfile

    class Forwards(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
        def seekable(self) -> bool:
            return False

    return Forwards


def _patched(file: Path, container: Container) -> PiecesFile:
    """The file with true sizes in its header."""
    pieces: list[bytes | tuple[int, int]] = []
    at = 0
    for offset, data in sorted(container.patches):
        pieces += [(at, offset - at), data]
        at = offset + len(data)
    pieces.append((at, file.stat().st_size - at))
    return PiecesFile(file, tuple(piece for piece in pieces if isinstance(piece, bytes) or piece[1]))
