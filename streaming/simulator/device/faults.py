"""Faults put into a run on purpose, and the log of all that went wrong, put in or not."""

from __future__ import annotations

import math
import re
import threading
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from models.common.errors import UsageError
from streaming.core.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from streaming.runs.record import FaultRecord

FaultKind = Literal["stall", "capture_stall", "dropout", "rate", "nan", "raise"]
FAULT_KINDS: tuple[str, ...] = get_args(FaultKind)
KEPT_FAULTS = 1000
LASTING = ("stall", "capture_stall", "dropout")
_PATTERN = re.compile(r"([a-z_]+)@([0-9.]+)s?(?::([0-9.]+)(ms|s|hz|x)?)?")
_FORMS = "stall@2:500ms, capture_stall@2:500ms, dropout@2:50ms, rate@3:16000hz, nan@1, raise@4 or raise@4:3x"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: "stall": inference does not begin a call; "capture_stall": callbacks come late, in a burst; "dropout":
            audio never reaches a callback; "rate": the input's rate changes; "nan": the microphone gives NaN for
            a block; "raise": the model fails.
        at_s: when it begins.
        amount: ms (stall, capture_stall, dropout), Hz (rate), calls (raise); 0 for nan.
    """

    kind: FaultKind
    at_s: float
    amount: float

    @property
    def begin_ns(self) -> int:
        return round(self.at_s * 1e9)

    @property
    def end_ns(self) -> int:
        """End of a fault that lasts."""
        return self.begin_ns + round(self.amount * 1e6)

    def words(self) -> str:
        """For instance "stall at 2 s: 500 ms"."""
        unit = {"rate": "Hz", "raise": "calls"}.get(self.kind, "ms")
        amount = "" if self.kind == "nan" else f": {self.amount:g} {unit}"
        return f"{self.kind.replace('_', ' ')} at {self.at_s:g} s{amount}"


def parse_fault(text: str) -> Fault:
    """A fault as the command line gives it: KIND@SECONDS[:AMOUNT].

    Raises:
        UsageError: another form, an unknown kind, or an absurd amount.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--fault: expected KIND@SECONDS[:AMOUNT], for instance {_FORMS}; got {text!r}")
    kind, unit = match.group(1), match.group(4)
    known = next((k for k in get_args(FaultKind) if k == kind), None)
    if known is None:
        raise UsageError(f"--fault: unknown kind {kind!r}; known: {', '.join(FAULT_KINDS)}")
    try:
        at_s = float(match.group(2))
        amount = float(match.group(3)) if match.group(3) else math.nan
    except ValueError as exc:
        raise UsageError(f"--fault: {text!r} has a number that is none") from exc
    units = {"rate": ("hz",), "raise": ("x",), "nan": ()}.get(kind, ("ms", "s"))
    if unit is not None and unit not in units:
        raise UsageError(f"--fault: {kind} takes {' or '.join(units) or 'no amount'}, got {unit!r} in {text!r}")
    if unit == "s":
        amount *= 1000.0
    if kind in ("nan", "raise"):
        amount = 1.0 if math.isnan(amount) else amount
    if math.isnan(amount):
        missing, example = ("the new rate", "16000hz") if kind == "rate" else ("how long it lasts", "500ms")
        raise UsageError(f"--fault: {text!r} does not say {missing}; for instance {text.strip().rstrip(':')}:{example}")
    low, high = {"rate": (LOWEST_RATE_HZ, HIGHEST_RATE_HZ), "raise": (1, 1000)}.get(kind, (0.001, 60_000))
    if not low <= amount <= high:
        raise UsageError(f"--fault: {text!r}: expected an amount from {low:g} to {high:g}, got {amount:g}")
    return Fault(known, at_s, amount)


def check_faults(faults: Iterable[Fault], total_ns: int, first_ns: int = 0, ready_made: bool = False) -> None:
    """Raise unless every fault can happen.

    Args:
        faults: put in on purpose.
        total_ns: when the sound ends.
        first_ns: when the first sample of it is captured that reaches a callback.
        ready_made: whether the callbacks are a microphone's or a trace's, which no fault changes.

    Raises:
        UsageError: one begins after the sound's end, is over before it is heard, or is for callbacks that are not ours.
    """
    for fault in faults:
        where = f"--fault: {fault.kind}@{fault.at_s:g} never happens"
        if fault.begin_ns >= total_ns:
            raise UsageError(
                f"{where}: the sound ends at {total_ns / 1e9:g} s; choose an earlier time, or more --seconds"
            )
        if fault.kind in ("stall", "capture_stall", "dropout") and fault.end_ns <= first_ns:
            raise UsageError(f"{where}: the device hears nothing before {first_ns / 1e9:g} s; choose a later time")
        if ready_made and fault.kind in ("capture_stall", "dropout", "rate"):
            raise UsageError(
                f"{where}: the callbacks come from a trace or a microphone as they are; take stall, nan or raise"
            )


def stalled_until(faults: Iterable[Fault], kind: FaultKind, time_ns: int) -> int:
    """The time, or the end of the faults of this kind that it falls into."""
    for fault in sorted((f for f in faults if f.kind == kind), key=lambda f: f.at_s):
        if fault.begin_ns <= time_ns < fault.end_ns:
            time_ns = fault.end_ns
    return time_ns


class FaultLog:
    """What went wrong, the first thousand in full, all of them counted.

    Args:
        faults: put in on purpose.

    Attributes:
        put_in: those of them that last, by time.
        lost_ns: audio lost since each of these, up to the next.
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._kept: list[FaultRecord] = []
        self.total = 0
        self._lock = threading.Lock()
        self.put_in = sorted((f for f in faults if f.kind in LASTING), key=lambda f: f.begin_ns)
        self._begins = [f.begin_ns for f in self.put_in]
        self.lost_ns = [0] * len(self.put_in)

    def add(self, time_ns: int, kind: str, samples: int = 0, rate_hz: int = 0, detail: str = "") -> None:
        """Note a fault."""
        with self._lock:
            self.total += 1
            if self._begins and kind in ("ring_overrun", "dropout") and time_ns >= self._begins[0]:
                self.lost_ns[bisect_right(self._begins, time_ns) - 1] += samples * 1_000_000_000 // rate_hz
            if len(self._kept) < KEPT_FAULTS:
                self._kept.append(FaultRecord(time_ns, kind, samples, rate_hz, detail))

    @property
    def kept(self) -> list[FaultRecord]:
        """Those in full, by time."""
        with self._lock:
            return sorted(self._kept, key=lambda f: f.time_ns)
