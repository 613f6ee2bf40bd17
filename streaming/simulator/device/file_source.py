"""A file that is too long for memory, decoded as it is heard: the same samples as a ClipSource of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError
from streaming.core.resample import Resampler
from streaming.files.reader import AudioReader
from streaming.files.wav import mono

Array = NDArray[np.float32]

_KEPT = 1 << 18  # samples behind the reader: what was prepared may have to be read again, callback by callback


class FileSource:
    """A file, mono, once or over and over; read forwards, for a step back beyond `_KEPT` it is decoded from its begin.

    Args:
        path: the file.
        frames: of it that are heard, at its own rate.
        rate_hz: its own rate.
        seconds: length wanted, the file repeated as needed; None: its own.
    """

    def __init__(self, path: Path, frames: int, rate_hz: int, seconds: float | None = None) -> None:
        self._path, self._own_frames, self._own_rate = path, frames, rate_hz
        self._seconds = frames / rate_hz if seconds is None else seconds
        self._rate_hz, self._begin = rate_hz, 0
        self._held: Array = np.zeros(0, np.float32)
        self._pieces = self._decoded(rate_hz)

    def frames(self, rate_hz: int) -> int:
        """How many frames there are at a rate."""
        if self._seconds == self._own_frames / self._own_rate:
            return self._length(rate_hz)
        return round(self._seconds * rate_hz)

    def _length(self, rate_hz: int) -> int:
        """Of the file once."""
        return -(-self._own_frames * rate_hz // self._own_rate)

    def read(self, rate_hz: int, first: int, count: int) -> Array:
        """float32 [count] from frame `first` on.

        Raises:
            AudioError: the file cannot be read any more, or is another one by now.
        """
        length, out, filled = self._length(rate_hz), np.empty(count, np.float32), 0
        while filled < count:
            start = (first + filled) % length
            part = self._span(rate_hz, start, min(count - filled, length - start))
            out[filled : filled + len(part)] = part
            filled += len(part)
        return out

    def _span(self, rate_hz: int, start: int, count: int) -> Array:
        if rate_hz != self._rate_hz or start < self._begin:
            self._rewind(rate_hz)
        while self._begin + len(self._held) < start + count:
            piece = next(self._pieces, None)
            if piece is None:
                raise AudioError(f"{self._path}: is shorter than when the run began; leave it alone until it has ended")
            gone = min(len(self._held), max(0, start - _KEPT - self._begin))
            self._held, self._begin = np.concatenate([self._held[gone:], piece]), self._begin + gone
        return self._held[start - self._begin : start - self._begin + count]

    def _rewind(self, rate_hz: int) -> None:
        self._rate_hz, self._begin, self._held = rate_hz, 0, np.zeros(0, np.float32)
        self._pieces = self._decoded(rate_hz)

    def _decoded(self, rate_hz: int) -> Iterator[Array]:
        """The file at a rate, delay compensated."""
        own = rate_hz == self._own_rate
        resampler, left = Resampler(self._own_rate, rate_hz), self._own_frames
        lead_in = resampler.delay_out_samples
        with AudioReader(self._path) as reader:
            for block in reader.blocks():
                samples = mono(block.T)[:left]
                left -= len(samples)
                piece = samples if own else resampler.process(samples)
                yield piece[lead_in:]
                lead_in = max(0, lead_in - len(piece))
                if left == 0:
                    break
        if not own:
            yield resampler.flush()[lead_in:]
