"""Whole clips in and out of files: strict about what comes in (streaming.files.reader), atomic about what goes out.

The writer is ours: libsndfile puts the time of day into float files, and the same samples have to give the same bytes.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError, OutputError
from models.common.files import atomic_file
from streaming.files.levels import InputLevel
from streaming.files.reader import AudioReader

Array = NDArray[np.float32]
Subtype = Literal["FLOAT", "PCM_16"]

_LARGEST_RIFF_BYTES = 0xFFFFFFFF


@dataclass(frozen=True)
class AudioClip:
    """Samples of a file.

    Attributes:
        samples: float32 [channels, n], full scale 1.0, finite.
        sample_rate_hz: 4,000 to 192,000.
        source: where they came from, for messages and reports.
        level: what they look like, if they were read from a file.
        warnings: what a person has to know of the file.
    """

    samples: Array
    sample_rate_hz: int
    source: str
    level: InputLevel | None = None
    warnings: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        return float(self.samples.shape[1] / self.sample_rate_hz)

    def mono(self) -> Array:
        """The mean of the channels, float32 [n]."""
        return mono(self.samples)

    def spread(self, channels: int) -> Array:
        """float32 [channels, n]: as they are, or their mean in every channel where there are more or fewer."""
        return spread(self.samples, channels)


def mono(samples: Array) -> Array:
    """The mean of the channels, float32 [channels, n] -> [n]."""
    mixed: Array = samples[0]
    if samples.shape[0] > 1:
        mixed = samples.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mixed


def spread(samples: Array, channels: int) -> Array:
    """float32 [channels, n]: as they are, or their mean in every channel where there are more or fewer."""
    return samples if len(samples) == channels else np.stack([mono(samples)] * channels)


def read_wav(path: str | Path, max_channels: int = 2) -> AudioClip:
    """Read a whole audio file.

    Args:
        path: a file that libsndfile reads: WAV, FLAC, Ogg, AIFF, MP3.
        max_channels: most channels accepted.

    Returns:
        the clip at the file's own rate.

    Raises:
        AudioError: as AudioReader and its blocks.
    """
    with AudioReader(path, max_channels) as reader:
        samples: Array = np.empty((reader.channels, reader.frames or 0), np.float32)
        filled = 0
        for block in reader.blocks():
            if filled + len(block) > samples.shape[1]:  # the length was not known
                samples = np.concatenate(
                    [samples[:, :filled], np.empty((reader.channels, filled + len(block)), np.float32)], 1
                )
            samples[:, filled : filled + len(block)] = block.T
            filled += len(block)
        samples = np.ascontiguousarray(samples[:, :filled])
        return AudioClip(samples, reader.sample_rate_hz, reader.source, reader.level(), reader.warnings)


def write_wav(path: str | Path, samples: Array, sample_rate_hz: int, subtype: Subtype = "FLOAT") -> None:
    """Write a WAV: all of it or nothing.

    Args:
        path: where to; an existing file is replaced at the very end.
        samples: float32 [n] or [channels, n], finite, full scale 1.0.
        sample_rate_hz: its rate.
        subtype: "FLOAT" (32 bit, as it is) or "PCM_16" (rounded; what exceeds full scale is limited to it).

    Raises:
        AudioError: NaN or Inf among the samples.
        OutputError: the folder is missing or read-only, the disk is full, or the file would exceed 4 GiB.
    """
    channels = samples[None] if samples.ndim == 1 else samples
    if channels.ndim != 2 or channels.shape[0] < 1:
        raise AudioError(f"{path}: expected samples [n] or [channels, n], got shape {list(samples.shape)}")
    _check_finite(Path(path), channels, 0, sample_rate_hz)
    with open_wav(path, channels.shape[0], sample_rate_hz, subtype) as writer:
        writer.write(channels)


class WavWriter:
    """Takes samples in block by block; see open_wav."""

    def __init__(self, path: Path, stream: BinaryIO, channels: int, rate_hz: int, subtype: Subtype) -> None:
        self._path, self._stream, self._subtype = path, stream, subtype
        self._channels, self._rate_hz = channels, rate_hz
        self._width = 2 if subtype == "PCM_16" else 4
        self.frames = 0
        stream.write(self._header())

    def _header(self) -> bytes:
        return wav_header(self._channels, self._rate_hz, self.frames, self._width, self._subtype)

    def write(self, samples: Array) -> None:
        """More samples, float32 [channels, n].

        Raises:
            AudioError: NaN or Inf.
            OutputError: the file would exceed 4 GiB.
        """
        _check_finite(self._path, samples, self.frames, self._rate_hz)
        if self._subtype == "PCM_16":
            scaled = np.clip(np.rint(samples.T.astype(np.float64) * 32768.0), -32768, 32767)
            frames: NDArray[Any] = scaled.astype("<i2")
        else:
            frames = samples.T.astype("<f4")
        self.frames += len(frames)
        size = self.frames * self._channels * self._width
        if size + len(self._header()) > _LARGEST_RIFF_BYTES:
            raise OutputError(
                f"{self._path}: {size} bytes of audio do not fit a WAV (4 GiB); write it in parts or as PCM_16"
            )
        self._stream.write(np.ascontiguousarray(frames).data.cast("B") if frames.size else b"")

    def finish(self) -> None:
        """Put the true sizes into the header."""
        self._stream.seek(0)
        self._stream.write(self._header())


@contextlib.contextmanager
def open_wav(path: str | Path, channels: int, sample_rate_hz: int, subtype: Subtype = "FLOAT") -> Iterator[WavWriter]:
    """A WAV to write into that appears complete or not at all, as write_wav's.

    Raises:
        OutputError: as write_wav.
    """
    with atomic_file(Path(path)) as stream:
        writer = WavWriter(Path(path), stream, channels, sample_rate_hz, subtype)
        yield writer
        writer.finish()


def _check_finite(path: Path, samples: Array, first: int, sample_rate_hz: int) -> None:
    if not np.isfinite(samples).all():
        bad = first + int(np.flatnonzero(~np.isfinite(samples).all(axis=0))[0])
        raise AudioError(f"{path}: not written: sample {bad} ({bad / sample_rate_hz:.3f} s) is NaN or Inf")


def wav_header(channels: int, rate: int, frames: int, width: int, subtype: Subtype) -> bytes:
    """All of a WAV before its samples; its length depends on the subtype only."""
    code = 1 if subtype == "PCM_16" else 3
    fmt = struct.pack("<HHIIHH", code, channels, rate, rate * channels * width, channels * width, 8 * width)
    if code == 3:  # not PCM: the format chunk carries an extension size and a fact chunk follows
        fmt += struct.pack("<H", 0)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt
    if code == 3:
        chunks += b"fact" + struct.pack("<II", 4, frames)
    data = frames * channels * width
    chunks += b"data" + struct.pack("<I", data & 0xFFFFFFFF)
    return b"RIFF" + struct.pack("<I", (4 + len(chunks) + data) & 0xFFFFFFFF) + b"WAVE" + chunks
