"""Compute times of an artefact on one machine, saved: what a virtual run draws from.

A calibration is a JSON file, schema "hearpack-calibration/1". Its times were measured on the machine it names, at the
hop's real interval ("paced": what a phone does) and back to back (what benchmarks do); the two differ several-fold
and are never mixed. streaming/measure/calibrate.py measures and writes; this module reads, writes text, and draws.

A draw is the inverse of the empirical distribution, linear between its sorted points, at a uniform number of a seeded
generator: the same seed gives the same times on every machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models.common.documents import DocumentKind
from models.common.errors import UsageError
from models.common.files import save_text

SCHEMA = "hearpack-calibration/1"
LONGEST_CALL_NS = 600_000_000_000


@dataclass(frozen=True)
class CalibrationEntry:
    """Times of one artefact in one engine.

    Attributes:
        bundle: folder's name. artefact, artefact_sha256: which file (the first of a package).
        engine, engine_version, threads: who computed.
        buffer_samples: samples a call takes.
        interval_ns: time between the begins of two paced calls (the hop's).
        paced_ns, back_to_back_ns: sorted ns per call: all samples, or equally spaced quantiles from 0 to 1.
        paced_count, back_to_back_count: calls measured (may exceed the points kept).
    """

    bundle: str
    artefact: str
    artefact_sha256: str
    engine: str
    engine_version: str
    threads: int
    buffer_samples: int
    interval_ns: int
    paced_ns: list[int]
    back_to_back_ns: list[int]
    paced_count: int
    back_to_back_count: int


@dataclass(frozen=True)
class Calibration:
    """A calibration file.

    Attributes:
        schema: "hearpack-calibration/1".
        machine: processor and system in words; no host, no user.
        hearpack: version that measured.
        entries: artefacts measured.
    """

    schema: Literal["hearpack-calibration/1"]
    machine: str
    hearpack: str
    entries: list[CalibrationEntry]

    def dump(self) -> str:
        """The file's text: sorted keys, newline at the end."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the file; OutputError if it cannot be written."""
        save_text(path, self.dump())

    def entry(self, artefact: str, engine: str, buffer_samples: int, threads: int = 1) -> CalibrationEntry:
        """The entry that fits.

        Raises:
            UsageError: none does; the message names those there are.
        """
        for entry in self.entries:
            key = (entry.artefact, entry.engine, entry.buffer_samples, entry.threads)
            if key == (artefact, engine, buffer_samples, threads):
                return entry
        there = "; ".join(f"{e.artefact} on {e.engine}, {e.buffer_samples} samples, {e.threads}" for e in self.entries)
        raise UsageError(
            f"calibration: no times of {artefact} on {engine} with {buffer_samples} samples per call and {threads} "
            f"thread(s); it has: {there or 'none'}; measure again"
        )


_CALIBRATION = DocumentKind(
    SCHEMA,
    "calibration",
    not_json="cannot be read as JSON ({error}); measure again",
    unreadable="cannot be read as JSON ({error}); measure again",
    missing="no such calibration file",
    invalid="invalid calibration: {where}: {message}; measure again",
)


def read_calibration(path: str | Path) -> Calibration:
    """Read a calibration file.

    Raises:
        UsageError: missing, not JSON, of another schema, an invalid field, or times that are unsorted or absurd.
    """
    file = Path(path)
    calibration = _CALIBRATION.read(file, TypeAdapter(Calibration).validate_python)
    if not calibration.entries:
        raise UsageError(f"{file}: the calibration has no entry; measure again")
    for entry in calibration.entries:
        for name, points in (("paced_ns", entry.paced_ns), ("back_to_back_ns", entry.back_to_back_ns)):
            if any(b < a for a, b in itertools.pairwise(points)):
                raise UsageError(f"{file}: {name} of {entry.artefact} is not sorted; measure again")
            if points and not 0 < points[0] <= points[-1] <= LONGEST_CALL_NS:
                raise UsageError(f"{file}: {name} of {entry.artefact} must be 1 ns to 600 s, got {points[0]}..")
        if not entry.paced_ns and not entry.back_to_back_ns:
            raise UsageError(f"{file}: {entry.artefact} on {entry.engine} has no times; measure again")
    return calibration


class TimeDraw:
    """Compute times from a distribution, one after the other.

    Args:
        points_ns: sorted times, at least one: the empirical quantiles at equal steps from 0 to 1.
        seed: of the generator; with `points_ns` it determines every time drawn.

    Raises:
        UsageError: no points.
    """

    _BATCH = 4096

    def __init__(self, points_ns: Sequence[int], seed: int) -> None:
        if not points_ns:
            raise UsageError("calibration: no times to draw from")
        self._points: NDArray[np.float64] = np.asarray(points_ns, np.float64)
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._drawn: list[int] = []
        self._next = 0

    def draw(self) -> int:
        """The next time, ns, at least 1."""
        if self._next == len(self._drawn):
            self._drawn = self._batch()
            self._next = 0
        value = self._drawn[self._next]
        self._next += 1
        return value

    def _batch(self) -> list[int]:
        places = self._generator.random(self._BATCH) * (len(self._points) - 1)
        below = places.astype(np.int64)
        above = np.minimum(below + 1, len(self._points) - 1)
        values = self._points[below] + (places - below) * (self._points[above] - self._points[below])
        drawn: list[int] = np.maximum(1, np.rint(values)).astype(np.int64).tolist()
        return drawn


def machine_text() -> str:
    """This machine, no host, no user: for instance "AMD EPYC, 2 cores, Linux x86_64, Python 3.11.7"."""
    system = f"{platform.system()} {platform.machine()}"
    cores = os.cpu_count() or 1
    return f"{_processor()}, {cores} core{'s' if cores > 1 else ''}, {system}, Python {platform.python_version()}"


def _processor() -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Hardware") and value.strip():
                return value.strip()
    return platform.processor() or "processor not told"
