"""What a call of a bundle costs on this machine: paced as a stream paces it, and back to back beside it.

A loop that calls a net as fast as it can keeps caches, clock and core for itself; a stream calls it once per hop and
sleeps in between. Phones have shown factors of 2 to 30 between the two (tensorflow 48190, 49158), so a simulator that
draws from back-to-back times promises too much. Both are measured in short turns, so that a busy machine slows both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from models.common.progress import Progress, silent
from models.common.version import __version__
from runtimes.bundle import Bundle
from runtimes.engines import choose, open_runtime
from runtimes.protocol import Array, Runtime, RuntimeInfo, State
from streaming.measure.calibration import Calibration, CalibrationEntry, machine_text

PACED_SECONDS = 30.0
LEAST_CALLS = 20
WARM_UP_CALLS = 10
TURNS = 10
POINTS = 4096  # of a distribution kept in a file
_LEVEL = 0.1


@dataclass(frozen=True)
class CallTimes:
    """Time of each call of `Runtime.step`, copies in and out included, in the order of time.

    Attributes:
        artefact, engine: what was called.
        runtime: library, version, threads.
        hop_ms: the interval of the paced calls: one hop of the stream.
        paced_us: float64 [n], one call every hop.
        back_to_back_us: float64 [m], one call after the other.
        late_us: float64 [n], how late each paced call began: the machine's scheduling delay.
    """

    artefact: str
    engine: str
    runtime: RuntimeInfo
    hop_ms: float
    paced_us: NDArray[np.float64]
    back_to_back_us: NDArray[np.float64]
    late_us: NDArray[np.float64]


def measure_calls(
    bundle: Bundle,
    artefact: str | None = None,
    engine: str | None = None,
    *,
    seconds: float = PACED_SECONDS,
    threads: int = 1,
    progress: Progress = silent,
) -> CallTimes:
    """Measure calls of an artefact, paced and back to back.

    Args:
        bundle: the bundle.
        artefact: id; the fp32 .tflite by default.
        engine: the artefact's usual one by default.
        seconds: of paced calls; at least `LEAST_CALLS` calls are made whatever it says.
        threads: compute threads.
        progress: called with (what, fraction done).

    Raises:
        UsageError: seconds out of range.
        BundleError, ArtefactError: the artefact does not run.
    """
    if not 0.0 < seconds <= 3600.0:
        raise UsageError(f"--seconds: expected more than 0 and at most 3600, got {seconds:g}")
    manifest = bundle.manifest
    hop_s = manifest.hop_samples / manifest.geometry.sample_rate_hz
    calls = max(LEAST_CALLS, round(seconds / hop_s))
    choice = choose(bundle, artefact, engine)
    with closing(open_runtime(bundle, choice, threads)) as runtime:
        caller = _Caller(runtime)
        for _ in range(WARM_UP_CALLS):
            caller.call()
        paced: list[float] = []
        late: list[float] = []
        dense: list[float] = []
        for turn in range(TURNS):
            progress(f"calling {choice.artefact.id}", turn / TURNS)
            count = calls * (turn + 1) // TURNS - calls * turn // TURNS
            _paced(caller, count, hop_s, paced, late)
            dense += [caller.call() for _ in range(count)]
        progress(f"calling {choice.artefact.id}", 1.0)
        info = runtime.info
    return CallTimes(
        artefact=choice.artefact.id,
        engine=choice.engine,
        runtime=info,
        hop_ms=1000.0 * hop_s,
        paced_us=np.array(paced),
        back_to_back_us=np.array(dense),
        late_us=np.array(late),
    )


def calibrate(
    *bundles: Bundle | str | Path,
    artefacts: Sequence[str] = (),
    engine: str | None = None,
    seconds: float = PACED_SECONDS,
    threads: int = 1,
    progress: Progress = silent,
) -> tuple[Calibration, tuple[CallTimes, ...]]:
    """Measure what calls cost on this machine, paced at the hop's interval and back to back.

    Args:
        bundles: bundles, or their folders; at least one.
        artefacts: ids, of each bundle; the usual one when empty.
        engine, seconds, threads, progress: see `measure_calls`.

    Returns:
        the distributions, from which a virtual simulation draws, and every call's time.

    Raises:
        UsageError: no bundle; see `measure_calls` for the rest.
    """
    if not bundles:
        raise UsageError("calibrate: expected at least one bundle")
    entries, measured = [], []
    for bundle in [Bundle.of(b) for b in bundles]:
        for artefact in artefacts or (None,):
            times = measure_calls(bundle, artefact, engine, seconds=seconds, threads=threads, progress=progress)
            measured.append(times)
            entries.append(_entry(bundle, times, threads))
    return Calibration("hearpack-calibration/1", machine_text(), __version__, entries), tuple(measured)


def _entry(bundle: Bundle, times: CallTimes, threads: int) -> CalibrationEntry:
    return CalibrationEntry(
        bundle=bundle.path.name,
        artefact=times.artefact,
        artefact_sha256=bundle.artefact(times.artefact).files[0].sha256,
        engine=times.engine,
        engine_version=times.runtime.version,
        threads=threads,
        buffer_samples=bundle.manifest.buffer.samples,
        interval_ns=round(times.hop_ms * 1e6),
        paced_ns=_points(times.paced_us),
        back_to_back_ns=_points(times.back_to_back_us),
        paced_count=len(times.paced_us),
        back_to_back_count=len(times.back_to_back_us),
    )


def _points(values_us: NDArray[np.float64]) -> list[int]:
    """Sorted ns: all values, or `POINTS` equally spaced quantiles."""
    ordered: NDArray[np.float64] = np.sort(values_us) * 1000.0
    if len(ordered) > POINTS:
        ordered = np.quantile(ordered, np.linspace(0.0, 1.0, POINTS)).astype(np.float64)
    points: list[int] = np.maximum(1, np.rint(ordered)).astype(np.int64).tolist()
    return points


class _Caller:
    """A stream of noise through a runtime, state carried; the times do not depend on the samples."""

    def __init__(self, runtime: Runtime) -> None:
        shape = runtime.signature.inputs[0].shape
        noise = _LEVEL * np.random.default_rng(0).standard_normal(shape)
        self._block: Array = noise.astype(np.float32)
        self._step, self._state = runtime.step, runtime.reset()

    def call(self) -> float:
        """One call; returns microseconds."""
        state: State = self._state
        began = time.perf_counter_ns()
        _, self._state = self._step(self._block, state)
        return (time.perf_counter_ns() - began) / 1000.0


def _paced(caller: _Caller, count: int, hop_s: float, times: list[float], late: list[float]) -> None:
    due = time.perf_counter() + hop_s
    for _ in range(count):
        wait_s = due - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        late.append(max(0.0, time.perf_counter() - due) * 1e6)
        times.append(caller.call())
        # After a stall the stream goes on from now: catching up would be calling back to back.
        due = max(due + hop_s, time.perf_counter())
