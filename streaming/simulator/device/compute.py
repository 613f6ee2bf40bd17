"""How long a call takes in the virtual clock: a distribution times the profile's factors."""

from __future__ import annotations

from streaming.measure.calibration import CalibrationEntry, TimeDraw
from streaming.runs.record import Pacing, Provenance
from streaming.simulator.device.profile import DeviceProfile

GATED_NS = 2_000  # assumption: looking at a window's level and not running it


class ComputeModel:
    """Times of successive calls.

    Args:
        points_ns: sorted times of this machine, or one fixed time.
        pacing: how they were measured. "fixed": they are the device's own, slowdown does not apply.
        profile: slowdown, throttling, paced penalty.
        seed: of the draws.
        label: what they are, for reports.
        slowdown: instead of the profile's; applies to a fixed time too.
        first_ns: time of the first call, as it is; None: as any other's.
    """

    def __init__(
        self,
        points_ns: list[int],
        pacing: Pacing,
        profile: DeviceProfile,
        seed: int,
        label: str,
        slowdown: float | None = None,
        first_ns: int | None = None,
    ) -> None:
        self._first_ns = first_ns
        self.points_ns, self.pacing = points_ns, pacing
        self.label = label if first_ns is None else f"{label}, the first call {first_ns / 1e6:.4g} ms"
        self._draw = TimeDraw(points_ns, seed).draw
        self.provenance: Provenance = "modelled"
        own = 1.0 if pacing == "fixed" else profile.slowdown
        self.slowdown = own if slowdown is None else slowdown
        self.penalty = profile.paced_penalty if pacing == "back_to_back" else 1.0
        self._factor = self.slowdown * self.penalty
        self._throttle = profile.throttle_at if len(profile.throttle) > 1 else None
        if self._throttle is None:
            self._factor *= profile.throttle[0][1]

    def late_ns(self) -> int:
        """How much later the next call begins than it could."""
        return 0

    def next_ns(self, time_ns: int) -> int:
        """Time of the call that begins at time_ns."""
        if self._first_ns is not None:
            first, self._first_ns = self._first_ns, None
            return first
        factor = self._factor if self._throttle is None else self._factor * self._throttle(time_ns * 1e-9)
        return max(1, round(self._draw() * factor))


def from_calibration(
    entry: CalibrationEntry,
    profile: DeviceProfile,
    seed: int,
    machine: str,
    slowdown: float | None = None,
    first_ns: int | None = None,
) -> ComputeModel:
    """Paced times where there are some, else back-to-back ones times the profile's paced penalty."""
    pacing: Pacing = "paced" if entry.paced_ns else "back_to_back"
    points = entry.paced_ns or entry.back_to_back_ns
    return ComputeModel(points, pacing, profile, seed, f"{machine}, {pacing.replace('_', ' ')}", slowdown, first_ns)


def fixed(
    time_ns: int, profile: DeviceProfile, slowdown: float | None = None, first_ns: int | None = None
) -> ComputeModel:
    """Every call takes the same time (times the throttling curve)."""
    return ComputeModel([time_ns], "fixed", profile, 0, f"fixed {time_ns / 1e6:g} ms", slowdown, first_ns)
