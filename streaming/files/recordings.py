"""A recording and what was heard at the same time on other inputs, as one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from streaming.files.reader import BLOCK_FRAMES, AudioReader
from streaming.files.wav import mono

Array = NDArray[np.float32]


class Recordings(AudioReader):
    """An AudioReader whose blocks have further files as channels behind its own.

    Args:
        path: the recording; `channels`, `frames` and the level are its own.
        others: files at the same rate, each heard as mono; silence where one has ended.

    Raises:
        AudioError: a file is not usable.
        UsageError: another rate.
    """

    def __init__(self, path: str | Path, others: Sequence[str | Path] = ()) -> None:
        self._others: list[AudioReader] = []
        super().__init__(path)
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            for other in others:
                self._others.append(AudioReader(other))
                rate = self._others[-1].sample_rate_hz
                if rate != self.sample_rate_hz:
                    raise UsageError(
                        f"--far: {other} is at {rate} Hz, {path} at {self.sample_rate_hz}; bring both to one rate"
                    )
            stack.pop_all()

    def blocks(self, frames: int = BLOCK_FRAMES) -> Iterator[Array]:
        """float32 [n, channels + others], the last one shorter."""
        streams = [other.blocks(frames) for other in self._others]
        for block in super().blocks(frames):
            lanes = [mono(np.ascontiguousarray(next(s, np.zeros((0, 1), np.float32)).T))[: len(block)] for s in streams]
            columns = [np.pad(lane, (0, len(block) - len(lane)))[:, None] for lane in lanes]
            yield np.concatenate([block, *columns], 1) if columns else block

    def close(self) -> None:
        """Close all of them."""
        for other in self._others:
            other.close()
        super().close()
