"""Device traces: what a sample app writes of one stream on one device (docs/device-trace.schema.json)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.common.documents import DocumentKind
from models.common.errors import UsageError
from streaming.simulator.device.callbacks import Callback
from streaming.simulator.device.profile import LONGEST_S
from streaming.simulator.device.timeline import SECOND_NS

SCHEMA = "hearpack-trace/1"
FASTEST = 1.05  # audio may come this much faster than its own clock says
_LATEST = 2**53  # of times and counts, as the schema says
_LONGEST_BLOCK = 1_920_000  # frames of a callback: ten seconds at the highest rate
_MOST_ROWS = 1_000_000  # callbacks or calls that are looked at: an hour of blocks of 192 frames
FASTEST_GRACE_S = 0.5  # and a burst of this much at once


class _Part(BaseModel):
    """Fields we do not know are ignored, as a reader of the same major schema must."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class TraceDevice(_Part):
    manufacturer: str
    model: str
    os: str
    os_version: str
    emulated: bool


class TraceApp(_Part):
    name: str
    build: str


class TraceBundle(_Part):
    name: str
    buffer_samples: int = Field(ge=1)
    artefact_id: str
    artefact_sha256: str
    runtime: str
    runtime_version: str


class TraceCapture(_Part):
    rate_hz: int = Field(ge=4_000, le=192_000)
    channels: int = Field(ge=1)


class TraceAudio(_Part):
    model_rate_hz: int = Field(ge=4_000, le=192_000)
    granted: TraceCapture
    ring_samples: int | None = Field(default=None, ge=1)


class TraceColdStart(_Part):
    capture_begin_ns: int | None = Field(default=None, ge=0, le=_LATEST)
    first_callback_ns: int | None = Field(default=None, ge=0, le=_LATEST)


class TraceCallback(_Part):
    time_ns: int = Field(ge=0, le=_LATEST)
    frames: int = Field(ge=0, le=_LONGEST_BLOCK)
    hardware_time_ns: int | None = Field(default=None, ge=0, le=_LATEST)
    hardware_frame: int | None = Field(default=None, ge=0, le=_LATEST)
    rate_hz: int | None = Field(default=None, ge=4_000, le=192_000)
    count: int = Field(default=1, ge=1, le=_LATEST)
    last_time_ns: int | None = Field(default=None, ge=0, le=_LATEST)
    exact: bool = True  # false for what a summed row stands for; no field of the file


class TraceInference(_Part):
    begin_ns: int = Field(ge=0, le=_LATEST)
    end_ns: int = Field(ge=0, le=_LATEST)
    end_sample: int = Field(ge=0, le=_LATEST)
    warm_up: bool = False
    error: str | None = None
    count: int = Field(default=1, ge=1, le=_LATEST)
    last_end_ns: int | None = Field(default=None, ge=0, le=_LATEST)
    busy_ns: int | None = Field(default=None, ge=0, le=_LATEST)


class TraceGap(_Part):
    time_ns: int = Field(ge=0, le=_LATEST)
    kind: str
    samples: int = Field(ge=0, le=_LATEST)
    rate_hz: int = Field(ge=1)


class TraceRoute(_Part):
    time_ns: int = Field(ge=0, le=_LATEST)
    system_input_latency_ns: int | None = Field(default=None, ge=0, le=_LATEST)
    system_output_latency_ns: int | None = Field(default=None, ge=0, le=_LATEST)


class TraceEnd(_Part):
    time_ns: int = Field(ge=0, le=_LATEST)
    reason: str
    callbacks: int = Field(ge=0, le=_LATEST)
    inferences: int = Field(ge=0, le=_LATEST)


class DeviceTrace(_Part):
    """A whole trace; see the schema for the meaning of each field."""

    schema_id: str = Field(alias="schema")
    app: TraceApp
    device: TraceDevice
    bundle: TraceBundle
    audio: TraceAudio
    cold_start: TraceColdStart
    callbacks: tuple[TraceCallback, ...] = Field(min_length=1)
    inferences: tuple[TraceInference, ...] = Field(min_length=1)
    gaps: tuple[TraceGap, ...]
    routes: tuple[TraceRoute, ...] = Field(min_length=1)
    end: TraceEnd

    @property
    def name(self) -> str:
        """The device in words."""
        return f"{self.device.manufacturer} {self.device.model}, {self.device.os} {self.device.os_version}"

    @property
    def calls(self) -> tuple[TraceInference, ...]:
        """Calls of the stream: no warm-up, no failure."""
        return tuple(i for i in self.inferences if not i.warm_up and i.error is None)

    @property
    def duration_s(self) -> float:
        """From the first callback's first frame to the last callback's last."""
        plan = self.plan()
        last = plan[-1]
        return last.captured_ns / SECOND_NS + last.frames / last.rate_hz

    @property
    def origin_ns(self) -> int:
        """When the first frame was captured, in the trace's clock."""
        first = self.callbacks[0]
        if first.hardware_time_ns is not None:
            return min(first.hardware_time_ns, first.time_ns)
        return first.time_ns - first.frames * SECOND_NS // (first.rate_hz or self.audio.granted.rate_hz)

    def plan(self) -> list[Callback]:
        """The callbacks as the simulator has them: world time 0 is the first frame's capture, empty blocks left out."""
        rate, frame = self.audio.granted.rate_hz, 0
        expected: int | None = None
        plan: list[Callback] = []
        for item in self.callbacks:
            lost, reason = 0, ""
            time_ns = item.time_ns - self.origin_ns
            if item.rate_hz is not None and item.rate_hz != rate:
                # When the new rate began is not recorded: the block is taken to have come as soon as it was whole.
                begin_ns = max(frame * SECOND_NS // rate, time_ns - item.frames * SECOND_NS // item.rate_hz)
                rate, expected = item.rate_hz, None
                frame = -(-begin_ns * rate // SECOND_NS)
            elif item.hardware_frame is not None and expected is not None and item.hardware_frame > expected:
                lost, reason = item.hardware_frame - expected, "dropout"
                frame += lost
            if item.hardware_frame is not None:
                expected = item.hardware_frame + item.frames
            if item.frames:
                plan.append(Callback(time_ns, item.frames, rate, frame, frame * SECOND_NS // rate, lost, reason))
                frame += item.frames
        # Without hardware times the first callback's own lateness is not known: no frame is brought before its capture.
        early = min(c.time_ns - c.captured_ns - c.frames * SECOND_NS // c.rate_hz for c in plan)
        return plan if early >= 0 else [c._replace(time_ns=c.time_ns - early) for c in plan]

    def completed_ns(self) -> NDArray[np.int64]:
        """For each of `calls`: when the callback came that completed its buffer, int64 [n], in the trace's clock; -1
        where that callback is not in the trace: a recorder's room for callbacks may end before that for calls.

        The model's samples a callback has brought so far are its frames at the model's rate, rounded up, as the
        shared resampler gives them.
        """
        brought: list[int] = []
        times: list[int] = []
        whole, frames, rate = 0, 0, self.audio.granted.rate_hz
        model = self.audio.model_rate_hz
        for item in self.callbacks:
            if item.rate_hz is not None and item.rate_hz != rate:
                whole += -(-frames * model // rate)
                frames, rate = 0, item.rate_hz
            frames += item.frames
            brought.append(whole - (-frames * model // rate))
            times.append(item.time_ns)
        places = np.searchsorted(np.array(brought), [c.end_sample for c in self.calls])
        completed: NDArray[np.int64] = np.array([*times, -1], np.int64)[places]
        return completed

    def delays_ns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Waits and delays, int64 [n] each: from a buffer's last callback to the begin and the end of its call; calls
        whose callback is not in the trace are left out."""
        completed, calls = self.completed_ns(), self.calls
        known = completed >= 0
        begins, ends = (np.array(t, np.int64) for t in ([c.begin_ns for c in calls], [c.end_ns for c in calls]))
        return (begins - completed)[known], (ends - completed)[known]


_TRACE = DocumentKind(
    SCHEMA,
    "device trace",
    not_json="not JSON (line {line}: {message}); the trace was cut off or damaged, copy it again",
    unreadable="cannot be read as UTF-8 text: {error}",
    missing="no such trace file",
    invalid="invalid against {expected}: {where}: {message}",
    minor_versions=True,
)


def _shares(total: int, count: int) -> list[int]:
    """A whole number in `count` whole parts, as equal as can be."""
    return [total * (k + 1) // count - total * k // count for k in range(count)]


def _callbacks(row: TraceCallback, rate_hz: int) -> Iterator[TraceCallback]:
    """A summed row as the callbacks it stands for, evenly spread: `exact` is false, their jitter is not known."""
    if row.count == 1:
        yield row
        return
    last, done = row.last_time_ns or row.time_ns, 0
    for k, frames in enumerate(_shares(row.frames, row.count)):
        time_ns = row.time_ns + (last - row.time_ns) * k // (row.count - 1)
        known = row.hardware_time_ns is not None and row.hardware_frame is not None
        hardware = (row.hardware_time_ns or 0) + done * SECOND_NS // rate_hz
        yield TraceCallback.model_construct(
            time_ns=time_ns,
            frames=frames,
            hardware_time_ns=hardware if known else None,
            hardware_frame=(row.hardware_frame or 0) + done if known else None,
            rate_hz=row.rate_hz,
            count=1,
            last_time_ns=None,
            exact=False,
        )
        done += frames


def _inferences(row: TraceInference, before: int) -> Iterator[TraceInference]:
    """A summed row as the calls it stands for, each as long as their mean; `before`: where the call before it ended."""
    if row.count == 1:
        yield row
        return
    mean = (row.busy_ns or 0) // row.count
    last = max(row.begin_ns, (row.last_end_ns or row.end_ns) - mean)
    end = before
    for k, samples in enumerate(_shares(max(0, row.end_sample - before), row.count)):
        begin, end = row.begin_ns + (last - row.begin_ns) * k // (row.count - 1), end + samples
        yield TraceInference.model_construct(
            begin_ns=begin, end_ns=begin + mean, end_sample=end, warm_up=False, error=None, count=1
        )


def _expanded(trace: DeviceTrace, file: Path) -> DeviceTrace:
    """The trace with its summed rows taken apart.

    Raises:
        UsageError: more of them than are looked at.
    """
    counts = {"callbacks": sum(c.count for c in trace.callbacks), "inferences": sum(i.count for i in trace.inferences)}
    if all(count == len(getattr(trace, what)) for what, count in counts.items()):
        return trace
    for what, count in counts.items():
        if count > _MOST_ROWS:
            raise UsageError(
                f"{file}: {count} {what}, expected at most {_MOST_ROWS}, which is about an hour; record less"
            )
    rate = trace.audio.granted.rate_hz
    callbacks = [c for row in trace.callbacks for c in _callbacks(row, row.rate_hz or rate)]
    calls: list[TraceInference] = []
    before = 0
    for row in trace.inferences:
        calls += _inferences(row, before)
        before = calls[-1].end_sample
    return trace.model_copy(update={"callbacks": tuple(callbacks), "inferences": tuple(calls)})


def read_trace(path: str | Path) -> DeviceTrace:
    """Read and check a device trace.

    Raises:
        UsageError: missing, not JSON, cut off, another schema, or invalid; one line that says which.
    """
    file = Path(path)

    def validate(data: dict[str, Any]) -> DeviceTrace:
        if "end" not in data:
            raise UsageError(f"{file}: the trace has no `end`: it was cut off; copy it again or record a new one")
        return _expanded(DeviceTrace.model_validate(data), file)

    trace = _TRACE.read(file, validate)
    _check_whole(trace, file)
    return trace


def _check_whole(trace: DeviceTrace, file: Path) -> None:
    for what, count, promised in (
        ("callbacks", len(trace.callbacks), trace.end.callbacks),
        ("inferences", len(trace.inferences), trace.end.inferences),
    ):
        if count != promised:
            raise UsageError(f"{file}: holds {count} {what}, its end promises {promised}: it was cut off or edited")
    for name, times in (
        ("callbacks", [c.time_ns for c in trace.callbacks]),
        ("inferences", [i.begin_ns for i in trace.inferences]),
    ):
        if any(b < a for a, b in itertools.pairwise(times)):
            raise UsageError(f"{file}: the {name} are not in order of time")
    if any(i.end_ns < i.begin_ns for i in trace.inferences):
        raise UsageError(f"{file}: an inference ends before it begins")
    if not any(c.frames for c in trace.callbacks):
        raise UsageError(f"{file}: no callback brought any audio")
    if trace.duration_s > LONGEST_S:
        raise UsageError(
            f"{file}: lasts {trace.duration_s:.0f} s, expected at most {LONGEST_S:g}: a time or a frame is wrong"
        )
    took_s = (trace.callbacks[-1].time_ns - trace.callbacks[0].time_ns) / SECOND_NS
    brought_s = trace.duration_s - trace.plan()[0].frames / trace.plan()[0].rate_hz
    if brought_s > FASTEST * took_s + FASTEST_GRACE_S:
        raise UsageError(
            f"{file}: {brought_s:.1f} s of audio came in {took_s:.1f} s: the trace was not recorded in real time, its "
            f"times tell nothing of a device"
        )
