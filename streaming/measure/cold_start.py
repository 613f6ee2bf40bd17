"""Cold start: how long from the launch of a process to the first decision, measured in fresh processes.

Every run is a new interpreter (streaming.measure.cold_start_process) that does what an app does: start, import, open
the bundle, map the file, check it, load the model, allocate its tensors, take audio. The microphone is assumed to
run from launch on, so a first decision comes no sooner than its audio. Runs of all conditions take turns, so that a
busy machine slows all alike. Everything here is measured on this machine; nothing of it is a phone's.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.common.child import python_command
from models.common.documents import Count, DocumentKind, Milliseconds, RateHz, Samples, Text
from models.common.errors import ArtefactError, UsageError
from models.common.files import save_text
from models.common.progress import Progress, silent
from models.common.temporary import scratch
from models.common.version import __version__
from runtimes.bundle import Artefact, Bundle
from runtimes.engines import choose, try_artefact
from streaming.measure.calibration import machine_text
from streaming.measure.page_cache import can_evict, drop_everything, evict, resident_fraction, warm

SCHEMA = "hearpack-coldstart/1"
RUNS = 10
CHILD_SECONDS = 300.0
CALLS = 10  # of a process, timed
BUSY = 1.5  # wall time over processor time from which a note says that the machine was busy
_CODE = (
    "import time; entered = time.monotonic_ns(); "
    "from streaming.measure.cold_start_process import main; main(entered, sys.argv[1])"
)
Cache = Literal["cold", "warm", "none"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class ColdRun(_Frozen):
    """One fresh process. Times in ms since its launch.

    Attributes:
        stages: (name, when it ended), in order; the last is "ready": the model could take its first sample.
        calls_ms: what calls 1 to 10 took, each.
        first_decision_ms: the first scores were judged, or the first enhanced sample had come out.
        ready_cpu_ms: processor time until then; far less than the wall's means that the machine had other work.
        ready_memory_bytes, peak_memory_bytes: resident, when ready and at most.
        resident_before: fraction of the artefact in the page cache at launch; None where it is not known.
    """

    stages: tuple[tuple[Text, Milliseconds], ...] = Field(min_length=1, max_length=64)
    calls_ms: tuple[Milliseconds, ...] = Field(min_length=CALLS, max_length=CALLS)
    first_decision_ms: Milliseconds
    ready_cpu_ms: Milliseconds
    ready_memory_bytes: Count
    peak_memory_bytes: Count
    resident_before: float | None = Field(ge=0.0, le=1.0)

    @property
    def ready_ms(self) -> float:
        return self.stages[-1][1]

    def stage_ms(self, name: str) -> float:
        """How long a stage took; 0 if this engine has none of that name."""
        before = 0.0
        for stage, ended in self.stages:
            if stage == name:
                return ended - before
            before = ended
        return 0.0


class Condition(_Frozen):
    """Runs that found the same caches: of the file's pages, and of XNNPACK's packed weights ("none": not used)."""

    page_cache: Literal["cold", "warm"]
    weight_cache: Cache
    runs: tuple[ColdRun, ...] = Field(min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _alike(self) -> Condition:
        stages = [[name for name, _ in run.stages] for run in self.runs]
        if any(names != stages[0] for names in stages):
            raise ValueError("expected the same stages in every run")
        return self

    @property
    def name(self) -> str:
        weights = "" if self.weight_cache == "none" else f", weights {self.weight_cache}"
        return f"pages {self.page_cache}{weights}"


class ColdStart(_Frozen):
    """Cold starts of one artefact on one engine.

    Attributes:
        bundle, artefact, engine: what started. artefact_sha256: the artefact's digest; "" in older files.
        runtime: library, version and threads.
        machine: system, processor and Python.
        sample_rate_hz, buffer_samples, hop_samples: the stream's.
        conditions: runs by the caches that they found.
        limits: what could not be done here, in words.
    """

    schema_id: str = SCHEMA
    hearpack: Text
    bundle: Text
    artefact: Text
    artefact_sha256: Text = ""
    engine: Text
    runtime: Text
    machine: Text
    sample_rate_hz: RateHz
    buffer_samples: Samples
    hop_samples: Samples
    conditions: tuple[Condition, ...]
    limits: tuple[Text, ...]

    @model_validator(mode="after")
    def _every_cache(self) -> ColdStart:
        came = [(c.page_cache, c.weight_cache) for c in self.conditions]
        if came not in (_conditions("litert-compiled"), _conditions("litert-interpreter")):
            raise ValueError("expected conditions with the page cache cold, then warm, and weight caches alike in both")
        if len({len(c.runs) for c in self.conditions}) > 1:
            raise ValueError("expected as many runs in every condition")
        return self

    def dump(self) -> str:
        """The text of a cold-start file."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    def save(self, path: str | Path) -> None:
        """Write a cold-start file; OutputError if it cannot be written."""
        save_text(path, self.dump())


_COLD_START = DocumentKind(
    SCHEMA,
    "cold-start file",
    not_json="cut off or no JSON (line {line}: {message}); measure it again",
    other_schema="expected a cold-start file ({expected}); make one with: hearpack coldstart -o",
    invalid="not a cold-start file: {where}: {message}; measure it again",
    key="schema_id",
)


def read_cold_start(path: str | Path) -> ColdStart:
    """Read what `hearpack coldstart -o` wrote.

    Raises:
        UsageError: not there, cut off, or another file.
    """
    return _COLD_START.read(Path(path), ColdStart.model_validate)


def coldstart(
    bundle: Bundle | str | Path,
    *,
    artefact: str | None = None,
    engine: str | None = None,
    runs: int = RUNS,
    threads: int = 1,
    drop_caches: bool = False,
    progress: Progress = silent,
) -> ColdStart:
    """Start fresh processes and time them from their launch to their first decision.

    Args:
        bundle: a bundle, or its folder.
        artefact: id; the fp32 .tflite by default.
        engine: the artefact's usual one by default; for a .tflite what phones run, and what has a weight cache.
        runs: processes for each condition of the caches.
        threads: compute threads.
        drop_caches: empty the page cache of the whole machine for cold runs, Python and its libraries included.
        progress: called with (what, fraction done).

    Returns:
        every run, by the caches that it found; streaming.advice.cold_start reads it.

    Raises:
        UsageError: fewer than one run, or drop_caches is not permitted here.
        BundleError, ArtefactError: the bundle does not start.
    """
    if runs < 1:
        raise UsageError(f"--runs: expected at least 1, got {runs}")
    if threads < 1:
        raise UsageError(f"--threads: expected at least 1, got {threads}")
    bundle = Bundle.of(bundle)
    chosen = choose(bundle, artefact, engine)
    bundle.check_files([chosen.artefact])
    try_artefact(bundle, chosen.artefact)
    with scratch("coldstart") as folder:
        starter = _Starter(bundle, chosen.artefact, chosen.engine, threads, folder, drop_caches)
        found, runtime = _take_turns(starter, runs, progress)
    return ColdStart(
        hearpack=__version__,
        bundle=bundle.path.name,
        artefact=chosen.artefact.id,
        artefact_sha256=chosen.artefact.digest,
        engine=chosen.engine,
        runtime=runtime,
        machine=machine_text(),
        sample_rate_hz=bundle.manifest.geometry.sample_rate_hz,
        buffer_samples=bundle.manifest.buffer.samples,
        hop_samples=bundle.manifest.hop_samples,
        conditions=found,
        limits=_limits(chosen.engine, drop_caches, found),
    )


class _Starter:
    """Launches one process in one condition."""

    def __init__(
        self, bundle: Bundle, artefact: Artefact, engine: str, threads: int, folder: Path, drop_caches: bool
    ) -> None:
        self.bundle, self.artefact, self.engine, self.threads = bundle, artefact, engine, threads
        self.folder, self.drop_caches = folder, drop_caches
        self.files = [bundle.path / entry.path for entry in artefact.files]
        self.largest = max(self.files, key=lambda file: file.stat().st_size)
        self.kept_cache = folder / "weights"
        self._fresh = 0

    def start(self, page_cache: str, weight_cache: Cache) -> tuple[ColdRun, str]:
        """One run, and what the runtime says of itself."""
        cache = None
        if weight_cache != "none":
            cache = self.kept_cache
            if weight_cache == "cold":
                self._fresh += 1
                cache = self.folder / f"fresh-{self._fresh}"
        packed = sorted(self.kept_cache.glob("*")) if cache == self.kept_cache else []
        files = self.files + packed
        if page_cache == "warm":
            warm(files)
        elif self.drop_caches:
            drop_everything()
        else:
            evict(files)
        resident = resident_fraction(self.largest)
        answer = self._launch(cache)
        runtime = str(answer.pop("runtime"))
        return ColdRun.model_validate({**answer, "resident_before": resident}), runtime

    def _launch(self, cache: Path | None) -> dict[str, object]:
        wanted = {
            "bundle": str(self.bundle.path),
            "artefact": self.artefact.id,
            "engine": self.engine,
            "threads": self.threads,
            "weight_cache": None if cache is None else str(cache),
            "launched_ns": time.monotonic_ns(),
        }
        command = python_command(_CODE, json.dumps(wanted))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False)
        except subprocess.TimeoutExpired as exc:
            raise ArtefactError(
                f"{self.bundle.path}: a fresh process did not reach its tenth call within {CHILD_SECONDS:g} s"
            ) from exc
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            said = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
            raise ArtefactError(f"{self.bundle.path}: a fresh process ended with code {done.returncode}: {said}")
        answer: dict[str, object] = json.loads(lines[-1])
        if "error" in answer:
            raise ArtefactError(f"{self.bundle.path}: does not start in a fresh process: {answer['error']}")
        return answer


def _conditions(engine: str) -> list[tuple[Literal["cold", "warm"], Cache]]:
    caches: tuple[Cache, ...] = ("cold", "warm") if engine == "litert-compiled" else ("none",)
    return [("cold", c) for c in caches] + [("warm", c) for c in caches]


def _take_turns(starter: _Starter, runs: int, progress: Progress) -> tuple[tuple[Condition, ...], str]:
    conditions = _conditions(starter.engine)
    what = f"cold starts of {starter.artefact.id}"
    progress(what, 0.0)
    # Not counted: writes Python's own bytecode caches and fills the weight cache that is to be found warm.
    starter.start("warm", "warm" if starter.engine == "litert-compiled" else "none")
    found: list[list[ColdRun]] = [[] for _ in conditions]
    runtime = ""
    for turn in range(runs):
        for number, (pages, weights) in enumerate(conditions):
            run, runtime = starter.start(pages, weights)
            found[number].append(run)
            progress(what, (turn * len(conditions) + number + 1) / (runs * len(conditions)))
    named = zip(conditions, found, strict=True)
    return tuple(Condition(page_cache=p, weight_cache=w, runs=tuple(r)) for (p, w), r in named), runtime


def _limits(engine: str, drop_caches: bool, found: Sequence[Condition]) -> tuple[str, ...]:
    limits = []
    cold = [run.resident_before for c in found if c.page_cache == "cold" for run in c.runs]
    if not drop_caches:
        if not can_evict():
            limits.append("this system cannot evict a file's pages: the cold runs are warm ones")
        limits.append(
            "page cache cold means the model's own file (and weight cache); Python and its libraries stayed in memory "
            "(--drop-caches empties all, as root)"
        )
    if any(r is None for r in cold):
        limits.append("this system does not tell which pages are in memory: that the cold runs were cold is not proved")
    elif cold and max(r for r in cold if r is not None) > 0.0:
        worst = max(r for r in cold if r is not None)
        limits.append(f"up to {worst:.0%} of the file was still in memory in a cold run (mapped by another process)")
    runs = [run for c in found for run in c.runs]
    wall, cpu = (statistics.median(times) for times in ([r.ready_ms for r in runs], [r.ready_cpu_ms for r in runs]))
    if wall > BUSY * cpu:
        limits.append(
            f"the machine had other work: ready took {wall:.0f} ms, {cpu:.0f} ms of them on a processor (medians); "
            f"measure again on an idle one"
        )
    if engine.startswith("mil"):
        limits.append(f"{engine} is our evaluator in Core ML's place: its load says nothing about a phone's")
    if engine != "litert-compiled":
        limits.append(f"{engine} has no weight cache")
    return tuple(limits)
