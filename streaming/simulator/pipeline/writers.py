"""Long results that go to disk as they come: WAV files and raw arrays, in constant memory."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import OutputError
from streaming.files.wav import Subtype, wav_header
from streaming.runs.record import EnvelopePoint

Array = NDArray[np.float32]

_LARGEST_BYTES = 0xFFFF_FF00  # of a WAV's samples


class RawWriter:
    """A file of bytes, such as raw little-endian numbers, that grows.

    Args:
        file: where to.

    Raises:
        OutputError: it cannot be written (also from the methods).
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.bytes = 0
        try:
            self._stream: IO[bytes] = file.open("wb")
        except OSError as exc:
            raise OutputError(f"{file}: cannot be written: {exc.strerror or exc}") from exc

    def add(self, values: NDArray[Any]) -> None:
        """Append the bytes of an array."""
        self.write(np.ascontiguousarray(values).tobytes())

    def write(self, data: bytes, at: int | None = None) -> None:
        """Append bytes, or write them over others at a place."""
        try:
            if at is not None:
                self._stream.seek(at)
            self._stream.write(data)
        except OSError as exc:
            raise OutputError(f"{self._file}: cannot be written: {exc.strerror or exc}") from exc
        self.bytes += len(data)

    def close(self) -> None:
        """End the file; harmless if called twice."""
        try:
            self._stream.close()
        except OSError as exc:
            raise OutputError(f"{self._file}: cannot be written: {exc.strerror or exc}") from exc


class WavWriter(RawWriter):
    """A mono WAV that grows; its header is written last.

    Args:
        file: where to.
        rate_hz: its rate.
        subtype: "FLOAT" or "PCM_16".

    Raises:
        OutputError: it cannot be written, or exceeds 4 GiB.
    """

    def __init__(self, file: Path, rate_hz: int, subtype: Subtype) -> None:
        super().__init__(file)
        self._rate_hz, self._subtype = rate_hz, subtype
        self._width = 2 if subtype == "PCM_16" else 4
        self._head = len(wav_header(1, rate_hz, 0, self._width, subtype))
        self.write(bytes(self._head))

    def add(self, values: NDArray[Any]) -> None:
        """Append float32 [n]."""
        if self._subtype == "PCM_16":
            values = np.clip(np.rint(values.astype(np.float64) * 32768.0), -32768, 32767).astype("<i2")
        super().add(values)
        if self.bytes > _LARGEST_BYTES:
            raise OutputError(f"{self._file}: more than 4 GiB of audio do not fit a WAV; simulate less, or without it")

    def close(self) -> None:
        """Write the header and end the file; harmless if called twice."""
        if self._stream.closed:
            return
        frames = (self.bytes - self._head) // self._width
        self.write(wav_header(1, self._rate_hz, frames, self._width, self._subtype), at=0)
        super().close()


class InputRecorder:
    """What the model was given: its envelope in memory, its samples on disk if asked for.

    Args:
        total_samples: length expected; the envelope gets about `points` points.
        writer: of the samples, or None.
    """

    def __init__(self, total_samples: int, writer: WavWriter | None, points: int = 1000) -> None:
        self.step = max(1, -(-total_samples // points))
        self._writer = writer
        self._chunk: Array = np.zeros(max(self.step, (1 << 15) // self.step * self.step), np.float32)
        self._filled = 0
        self._envelope: list[NDArray[np.float64]] = []  # [2, points]: lows, highs

    def add(self, samples: Array) -> None:
        """Take in float32 [n]."""
        taken = 0
        while taken < len(samples):
            count = min(len(samples) - taken, len(self._chunk) - self._filled)
            self._chunk[self._filled : self._filled + count] = samples[taken : taken + count]
            self._filled += count
            taken += count
            if self._filled == len(self._chunk):
                self._flush()

    def _flush(self) -> None:
        chunk = self._chunk[: self._filled]
        self._filled = 0
        if len(chunk) == 0:
            return
        if self._writer is not None:
            self._writer.add(chunk)
        starts = np.arange(0, len(chunk), self.step)
        lows, highs = np.minimum.reduceat(chunk, starts), np.maximum.reduceat(chunk, starts)
        self._envelope.append(np.stack([lows, highs]).astype(np.float64))

    @property
    def envelope(self) -> list[EnvelopePoint]:
        """Lowest and highest sample of each stretch so far; after `close` of all."""
        return [
            EnvelopePoint(round(low, 6), round(high, 6)) for part in self._envelope for low, high in part.T.tolist()
        ]

    def close(self) -> None:
        """Take the last samples into account and end the file."""
        self._flush()
        if self._writer is not None:
            self._writer.close()


class Occupancy:
    """Fewest and most samples held in each stretch of a run.

    Args:
        total_ns: length expected.
        points: stretches wanted; a run that goes on longer has its stretches joined by twos.
    """

    def __init__(self, total_ns: int, points: int = 500) -> None:
        self.step_ns = max(1, total_ns // points)
        self._most = 2 * points
        self.points: list[list[int]] = []
        self._until = 0

    def add(self, time_ns: int, held: int) -> None:
        """A level."""
        if time_ns < self._until:
            last = self.points[-1]
            if held < last[1]:
                last[1] = held
            elif held > last[2]:
                last[2] = held
            return
        if len(self.points) == self._most:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [[a[0], min(a[1], b[1]), max(a[2], b[2])] for a, b in pairs]
            self.step_ns *= 2
        begin = time_ns // self.step_ns * self.step_ns
        self.points.append([begin, held, held])
        self._until = begin + self.step_ns

    def rise(self, times_ns: list[int], base: int, steps: list[int]) -> None:
        """Levels base + step, none lower than the one before."""
        begin, count = 0, len(times_ns)
        if times_ns[-1] < self._until:
            last, low, high = self.points[-1], base + steps[0], base + steps[-1]
            if low < last[1]:
                last[1] = low
            if high > last[2]:
                last[2] = high
            return
        while begin < count:
            self.add(times_ns[begin], base + steps[begin])
            begin = bisect_left(times_ns, self._until, begin + 1)
            self.add(times_ns[begin - 1], base + steps[begin - 1])
