"""XNNPACK's packed weights on disk, kept honest.

XNNPACK checks only the head of a cache file: with a flipped byte further down, or with another
model's weights of the same shape, it computes NaN or nonsense without a word. So a cache is named
after the model's hash, stamped with its own hash when it is built, and thrown away when the two differ.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from models.common.errors import OutputError
from models.common.files import write_atomic
from models.common.hashing import sha256_file
from models.common.temporary import claimed, sweep

T = TypeVar("T")


@dataclass(frozen=True)
class WeightCache:
    """A directory of weight caches."""

    folder: Path

    def open(self, key: str, build: Callable[[str], T]) -> tuple[bool, T]:
        """Build a model with its cache, from a sound one where there is one.

        Args:
            key: names model, library version and thread count; the processor is added here.
            build: makes the model, given the path of the cache file to read or to write.

        Returns:
            whether a sound cache was found, and the model.

        Raises:
            OutputError: the folder cannot be written.
        """
        base = self.folder / f"{key}-{platform.machine()}"
        cache, stamp = base.with_name(base.name + ".xnn"), base.with_name(base.name + ".sha256")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if _sound(cache, stamp):
                return True, build(str(cache))
            for file in (stamp, cache):
                file.unlink(missing_ok=True)
            sweep(self.folder)
            # Built aside and renamed, so that two processes never write one file; the mapping survives the rename.
            with claimed(cache) as aside:
                model = build(str(aside))
                if aside.is_file() and aside.stat().st_size:
                    digest = sha256_file(aside)
                    aside.replace(cache)
                    write_atomic(stamp, digest + "\n")
        except OSError as exc:
            raise OutputError(
                f"cannot keep weight caches in {self.folder}: {exc.strerror or exc}; name another folder"
            ) from exc
        return False, model


def _sound(cache: Path, stamp: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        return stamp.read_text(encoding="ascii").strip() == sha256_file(cache)
    return False
