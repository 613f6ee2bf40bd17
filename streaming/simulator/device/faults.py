"""Faults put into a run on purpose, and the log of all that went wrong, put in or not."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from models.common.errors import UsageError
from streaming.core.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from streaming.runs.record import FaultRecord

FaultKind = Literal["stall", "capture_stall", "dropout", "rate", "nan", "raise"]
FAULT_KINDS: tuple[str, ...] = get_args(FaultKind)
KEPT_FAULTS = 1000
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
    low, high = {"rate": (LOWEST_RATE_HZ, HIGHEST_RATE_HZ), "raise": (1, 1000)}.get(kind, (0.001, 60_000))
    if not low <= amount <= high:
        raise UsageError(f"--fault: {text!r}: expected an amount from {low:g} to {high:g}, got {amount:g}")
    return Fault(known, at_s, amount)


def stalled_until(faults: Iterable[Fault], kind: FaultKind, time_ns: int) -> int:
    """The time, or the end of the faults of this kind that it falls into."""
    for fault in sorted((f for f in faults if f.kind == kind), key=lambda f: f.at_s):
        if fault.begin_ns <= time_ns < fault.end_ns:
            time_ns = fault.end_ns
    return time_ns


class FaultLog:
    """What went wrong, the first thousand in full, all of them counted."""

    def __init__(self) -> None:
        self._kept: list[FaultRecord] = []
        self.total = 0
        self._lock = threading.Lock()

    def add(self, time_ns: int, kind: str, samples: int = 0, rate_hz: int = 0, detail: str = "") -> None:
        """Note a fault."""
        with self._lock:
            self.total += 1
            if len(self._kept) < KEPT_FAULTS:
                self._kept.append(FaultRecord(time_ns, kind, samples, rate_hz, detail))

    @property
    def kept(self) -> list[FaultRecord]:
        """Those in full, by time."""
        with self._lock:
            return sorted(self._kept, key=lambda f: f.time_ns)
