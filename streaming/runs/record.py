"""One finished run of the simulator, as it is stored and read again: a folder NAME.run/.

    run.json      everything but the long lists; schema "hearpack-run/1", this module's RunRecord
    ledger.csv    one line an output block, window or event: kind, index, content_sample, captured_ns, the parts
                  of PARTS in ns, total_ns; the parts of a line add up to its total exactly
    trace.json    Chrome/Perfetto trace (open it in ui.perfetto.dev)
    heard.wav     what the model was given, model's rate, 16 bit (runs of up to HEARD_LIMIT_S)
    output.wav    enhancer: what the device played, device's output rate, float32
    scores.f32    classifier: float32 little-endian [calls, labels]; ends.i64: int64 [calls], each window's end
    calibration.json   the compute times drawn from, if the run used any

The folder is written under a temporary name and renamed: it is there whole or not at all. Nothing in it tells
the host, the user or the time of day, so the same run gives the same bytes (virtual clock).

All times are whole nanoseconds. Time 0 is when capture begins. `measured` is what a clock of this machine said in
this run or in a calibration; `modelled` is a measured or assumed figure times a profile's factors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from models.common.documents import Count, DocumentKind, RateHz, Samples
from models.common.errors import OutputError, UsageError
from models.common.files import atomic_folder
from models.geometry import Task
from streaming.core.playout import PlayoutCounts
from streaming.metrics.quantiles import Quantiles

SCHEMA = "hearpack-run/1"
RUN_FILE = "run.json"
HEARD_LIMIT_S = 600.0

PARTS = (
    "input_route",
    "capture_block",
    "resampler",
    "ring_wait",
    "framing",
    "model_delay",
    "compute",
    "output_resampler",
    "playout_prefill",
    "output_route",
    "smoothing",
    "hysteresis",
)
LEDGER_COLUMNS = ("kind", "index", "content_sample", "captured_ns", *PARTS, "total_ns")


def _check_part(name: str) -> str:
    if name not in PARTS:
        raise ValueError(f"expected parts of {', '.join(PARTS)}")
    return name


Part = Annotated[str, AfterValidator(_check_part)]
Signed = Annotated[int, Field(ge=-(2**53), le=2**53)]
Nanoseconds = Signed
Seconds = Annotated[float, Field(ge=0.0, le=1e9)]
ClockKind = Literal["virtual", "realtime"]
Provenance = Literal["measured", "modelled"]
Pacing = Literal["paced", "back_to_back", "fixed"]
Policy = Literal["drop_oldest", "skip_hop", "grow_delay"]
EndReason = Literal["finished", "interrupted", "error"]


@dataclass(frozen=True)
class ProfileFigure:
    """A figure of a device profile and where it comes from (or the word assumption)."""

    value: Any
    source: str


@dataclass(frozen=True)
class ProfileRecord:
    """The device that was simulated."""

    name: str
    title: str
    figures: dict[str, ProfileFigure]


@dataclass(frozen=True)
class AudioRecord:
    """What went in. `name` is the file's name without its folder, or "microphone"; `level` a line about its level."""

    name: str
    sha256: str
    rate_hz: Count
    duration_s: Seconds
    level: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ComputeTimes:
    """Time a call takes.

    Attributes:
        label: for people: "drawn in this run", "this machine, paced", ...
        provenance: measured by a clock, or modelled from such a measurement.
        pacing: at the hop's real interval, back to back, or one fixed figure.
        quantiles: ns per call.
    """

    label: str
    provenance: Provenance
    pacing: Pacing
    quantiles: Quantiles


@dataclass(frozen=True)
class Counts:
    """Where everything went. Samples of the ring are at the model's rate.

    written = read + held + dropped, always. `captured` are frames at the device's rate; `lost` are frames that never
    reached a callback (dropouts, a gap at a rate change, before the first callback). `nan_samples` were silenced and
    `limited_samples` limited before the net; a call of `nan_outputs` gave no number, was silenced, and is a reset.
    """

    callbacks: Count
    captured: Count
    lost: Count
    nan_samples: Count
    written: Count
    read: Count
    held: Count
    dropped: Count
    overruns: Count
    calls: Count
    misses: Count
    skipped_hops: Count
    gated_windows: Count
    failed_calls: Count
    resets: Count
    rate_changes: Count
    limited_samples: Count = 0  # older files have neither
    nan_outputs: Count = 0


@dataclass(frozen=True, slots=True)
class OccupancyPoint:
    """Fewest and most samples held in a stretch that begins at time_ns."""

    time_ns: Nanoseconds
    low: Count
    high: Count


@dataclass(frozen=True)
class RingRecord:
    """The ring between callback and inference. At the model's rate."""

    capacity_samples: Count
    high_water_samples: Count
    rate_hz: RateHz
    occupancy: list[OccupancyPoint]


@dataclass(frozen=True)
class PlayoutRecord(PlayoutCounts):
    """The ring between an enhancer and the speaker, at the device's output rate: its counts, and more."""

    rate_hz: RateHz
    block_frames: Count
    capacity_samples: Count
    prefill_samples: Count
    high_water_samples: Count
    adjust_ppm: float
    occupancy: list[OccupancyPoint]


@dataclass(frozen=True)
class LedgerSummary:
    """The delay's named parts over all entries of one kind ("block", "window" or "event"), in ns.

    `parts` has those of PARTS that apply, in order; quantiles of parts do not add up to quantiles of totals.
    `mean_parts` does: the means add up to the mean total.
    """

    kind: Literal["block", "window", "event"]
    parts: dict[Part, Quantiles]
    mean_parts: dict[Part, float]
    total: Quantiles

    def __post_init__(self) -> None:
        if self.parts.keys() != self.mean_parts.keys():
            raise ValueError("expected the same parts with quantiles as with means")


@dataclass(frozen=True)
class DelayCheck:
    """The ledger's total against a delay that was measured in the audio.

    Attributes:
        method: how: "impulse", "onset", "cross-correlation".
        ledger_ns, measured_ns: what each says.
        mismatch_samples: difference in samples of `rate_hz`.
        limit_samples: past this it is an error of ours: 1 (enhancer), 4 (classifier; a hop with faults).
        passed: whether it is within.
    """

    method: str
    ledger_ns: Nanoseconds
    measured_ns: Nanoseconds
    mismatch_samples: float
    limit_samples: float
    rate_hz: RateHz
    passed: bool


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A closed event of a classifier (samples at the model's rate, counted from reset), and when it was reported.

    `emitted_at_*` and `delay_ns`, the ledger's total, are of the moment it turned on. `onset_s` and `offset_s` are when
    its sound was captured, seconds of the run's sound with all that was lost; older files have neither.
    """

    label: str
    index: Signed
    onset_sample: Signed
    offset_sample: Signed
    confidence: float
    emitted_at_sample: Signed
    emitted_at_ns: Nanoseconds
    delay_ns: Nanoseconds
    onset_s: float | None = None
    offset_s: float | None = None


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """Something that went wrong, or was made to. `samples` at `rate_hz`, 0 where that means nothing."""

    time_ns: Nanoseconds
    kind: str
    samples: Count
    rate_hz: Count
    detail: str


@dataclass(frozen=True, slots=True)
class EnvelopePoint:
    """Lowest and highest sample of a stretch of what the model heard; for drawing."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class HiccupRecord:
    """What a fault that was put in cost. All in ns.

    Attributes:
        kind, time_ns: of the fault.
        usual_ns: delay before it, the median of the last second's.
        worst_ns: greatest delay until the next fault or the end.
        late_ns: from the fault to when the delay was last more than a buffer from the usual; 0: it never was.
        last_ns: the median of the last second's delays before the next fault or the end.
        lost_ns: audio that was dropped by the ring, or never came.
        back: whether the delay was back within a buffer of the usual.
    """

    kind: str
    time_ns: int
    usual_ns: int
    worst_ns: int
    late_ns: int
    last_ns: int
    lost_ns: int
    back: bool


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        schema: "hearpack-run/1".
        command: the exact command line, as words.
        versions: package -> version of what computed; python too.
        bundle: folder's name, without its parents. task: of its manifest.
        artefact, engine, engine_detail: who computed. artefact_sha256: the artefact's digest; "" in older files.
        model_rate_hz, buffer_samples, hop_samples: of the bundle; hop as the host steps.
        profile: every figure with its source.
        clock: "virtual" or "realtime" (older files: "wall").
        seed: of everything random in it.
        calibration: label of the compute times used ("fixed 300 us", or a calibration's machine text), "" in real time.
        policy: what an overload did.
        audio: what went in.
        simulated_s: length of the run in its own clock.
        ended: why it ended; `message` says more.
        counts, compute, ring, playout, ledger, delay_check, events, faults: see their types.
        envelope: what the model heard, decimated.
        envelope_step_samples: model-rate samples a point.
        hiccups: what each stall, capture_stall and dropout that was put in cost.
        search: what a search found ("largest_slowdown", "smallest_ring_samples", ...) or a replay compared; else empty.
        first_late_ns: when the first late call ended.
        injected: faults that were put in, in words.
    """

    schema: Literal["hearpack-run/1"]
    command: list[str]
    versions: dict[str, str]
    bundle: str
    task: Task
    artefact: str
    engine: str
    engine_detail: str
    model_rate_hz: RateHz
    buffer_samples: Samples
    hop_samples: Samples
    profile: ProfileRecord
    clock: ClockKind
    seed: int
    calibration: str
    policy: Policy
    audio: AudioRecord
    simulated_s: Seconds
    ended: EndReason
    message: str
    counts: Counts
    compute: list[ComputeTimes]
    ring: RingRecord
    playout: PlayoutRecord | None
    ledger: list[LedgerSummary]
    delay_check: DelayCheck | None
    events: list[EventRecord]
    faults: list[FaultRecord]
    faults_total: Count
    envelope: list[EnvelopePoint]
    envelope_step_samples: Count
    search: dict[str, float] = field(default_factory=dict)
    first_late_ns: int | None = None
    injected: list[str] = field(default_factory=list)
    artefact_sha256: str = ""
    hiccups: list[HiccupRecord] = field(default_factory=list)

    def dump(self) -> str:
        """The text of run.json: sorted keys, newline at the end; the same record gives the same bytes."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1, allow_nan=False) + "\n"


_RUN = DocumentKind(
    SCHEMA,
    "run",
    not_json="cannot be read as JSON ({error}); simulate again",
    unreadable="cannot be read as JSON ({error}); simulate again",
    invalid="invalid run record: {where}: {message}; simulate again",
)


def _validated(data: dict[str, Any]) -> RunRecord:
    """The record; older files call real time "wall"."""
    data = {**data, "clock": "realtime"} if data.get("clock") == "wall" else data
    return TypeAdapter(RunRecord).validate_python(data)  # made here: it takes 20 ms, and who writes runs reads none


def read_run(folder: str | Path) -> RunRecord:
    """Read NAME.run/ (or the path of its run.json).

    Raises:
        UsageError: no such folder, no run in it, not JSON, another schema, an invalid field.
    """
    path = Path(folder)
    file = path if path.name == RUN_FILE else path / RUN_FILE
    if not file.is_file():
        raise UsageError(
            f"{folder}: expected a run (a folder with {RUN_FILE}); make one with: hearpack simulate BUNDLE"
        )
    return _RUN.read(file, _validated)


@contextmanager
def run_folder(path: Path) -> Iterator[Path]:
    """A folder to write a run into, renamed to `path` when all went well; an older run there is replaced.

    Raises:
        OutputError: the parent is missing or read-only, the disk is full, or `path` is something other than a run.
    """
    if path.exists() and not (path / RUN_FILE).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: exists and is not a run (no {RUN_FILE}); choose another name, nothing was changed")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
    with atomic_folder(path) as folder:
        yield folder
