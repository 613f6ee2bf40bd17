"""The four ways to simulate, each with what makes sense for it: Simulate, Replay, Microphone and Search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from models.common.errors import UsageError
from streaming.runs.record import ClockKind, Policy
from streaming.simulator.capacity import SearchKind
from streaming.simulator.device.profile import LONGEST_S

LONGEST_RING_MS = 60_000.0
_LIMITS = {
    "compute_ms": (1e-6, 600_000.0),
    "second_compute_ms": (1e-6, 600_000.0),
    "first_call_ms": (1e-6, 600_000.0),
    "slowdown": (0.001, 10_000.0),
    "seconds": (1e-3, LONGEST_S),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "policy": get_args(Policy),
    "clock": get_args(ClockKind),
    "search": get_args(SearchKind),
}


def check_choice(name: str, value: str) -> None:
    """Raise unless `value` is one that option `name` takes ("policy", "clock", "search").

    Raises:
        UsageError: it is not.
    """
    if value not in _CHOICES[name]:
        raise UsageError(f"--{name}: expected one of {', '.join(_CHOICES[name])}, got {value!r}")


def check_figure(name: str, value: float | None) -> None:
    """Raise unless the figure of option `name` ("compute_ms", "slowdown", "seconds") is None or in its range.

    Raises:
        UsageError: it is not.
    """
    low, high = _LIMITS[name]
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"--{name.replace('_', '-')}: expected {low:g} to {high:g}, got {value:g}")


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What all modes have; docs/simulator.md explains each.

    Attributes:
        device: profile's name or .toml file.
        seconds: length, the sound repeated or cut; None: the sound's, the trace's, or an hour of microphone.
        seed: of everything random.
        policy: "drop_oldest", "skip_hop" or "grow_delay".
        ring_ms, prefill_ms: sizes of the two rings.
        faults: KIND@SECONDS[:AMOUNT] each.
        artefact, engine: as in `run`.
        keep_audio: whether the folder gets heard.wav and output.wav.

    Raises:
        UsageError: a choice that there is not, or a figure out of range.
    """

    device: str = "this-machine"
    seconds: float | None = None
    seed: int = 0
    policy: Policy = "drop_oldest"
    ring_ms: float | None = None
    prefill_ms: float | None = None
    faults: tuple[str, ...] = ()
    artefact: str | None = None
    engine: str | None = None
    keep_audio: bool = True

    def __post_init__(self) -> None:
        check_choice("policy", self.policy)
        check_figure("seconds", self.seconds)


@dataclass(frozen=True, kw_only=True)
class _Timed(Mode):
    """Modes of the profile's callbacks and compute times.

    Attributes:
        calibration: file of compute times; without one, and without compute_ms, they are measured for 5 s.
        compute_ms: a call's time on the device.
        slowdown: instead of the device's.
    """

    calibration: str | Path | None = None
    compute_ms: float | None = None
    slowdown: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_figure("compute_ms", self.compute_ms)
        check_figure("slowdown", self.slowdown)
        if self.calibration is not None and self.compute_ms is not None:
            raise UsageError("--calibration and --compute-ms both say how long a call takes; give one")


@dataclass(frozen=True)
class Simulate(_Timed):
    """A sound through a device's loop.

    Attributes:
        audio: file that the microphone hears.
        clock: "virtual", or "realtime" with threads.
        first_call_ms: time of the first call in the virtual clock, as a cold start has it.
        cold_start: file of `hearpack coldstart -o` of the same artefact and engine: the median first call of its
            coldest start, times the device's slowdown, is the first call.
    """

    audio: str | Path
    clock: ClockKind = "virtual"
    first_call_ms: float | None = None
    cold_start: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("clock", self.clock)
        check_figure("first_call_ms", self.first_call_ms)
        if self.first_call_ms is not None and self.cold_start is not None:
            raise UsageError("--first-call-ms and --coldstart both say how long the first call takes; give one")
        if self.clock == "realtime" and (self.first_call_ms is not None or self.cold_start is not None):
            raise UsageError(
                "--first-call-ms and --coldstart are for the virtual clock: in real time the first call takes what it "
                "takes"
            )


@dataclass(frozen=True)
class Search(_Timed):
    """The limit of a set-up, then a run at it.

    Attributes:
        audio: file that the microphone hears.
        what: "slowdown", "ring" or "prefill".
    """

    audio: str | Path
    what: SearchKind = "slowdown"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("search", self.what)


@dataclass(frozen=True)
class Replay(Mode):
    """A device's own callbacks and compute times again.

    Attributes:
        trace: what a sample app recorded.
        audio: file that the microphone hears; None: silence.
    """

    trace: str | Path
    audio: str | Path | None = None


@dataclass(frozen=True)
class Microphone(Mode):
    """This machine's microphone, in real time (extra `live`).

    Attributes:
        slowdown: how many times longer a call is to take than here.
    """

    slowdown: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_figure("slowdown", self.slowdown)
