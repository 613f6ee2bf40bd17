"""Sound as a device hands it over: where it comes from, and the callbacks it comes in.

World time 0 is when capture begins, and the source's first sample is what the microphone hears then. Frame i of a
rate is captured from i / rate on. A callback comes when its last frame was captured and has passed the input
route, later by scheduling and jitter, and never before the one ahead of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import AudioError
from streaming.device import DeviceProfile, RateChange
from streaming.faults import Fault, stalled_until
from streaming.resample import resample
from streaming.timeline import SECOND_NS

Array = NDArray[np.float32]

ROUTE_CHANGE_MS = 200.0  # assumption: audio lost while a fault changes the rate
_BATCH = 2048


class Callback(NamedTuple):
    """A callback to come.

    Attributes:
        time_ns: when our code is called.
        frames: frames in the block.
        rate_hz: their rate.
        first_frame: index of the first, at that rate, in world time.
        captured_ns: when the first was captured.
        lost: frames just before it that no callback brings.
        reason: why they are lost: "", "cold_input", "dropout" or "rate_change".
    """

    time_ns: int
    frames: int
    rate_hz: int
    first_frame: int
    captured_ns: int
    lost: int
    reason: str


class Source(Protocol):
    """Where sound comes from; the same sound at any rate."""

    def frames(self, rate_hz: int) -> int:
        """How many frames there are at a rate."""
        ...

    def read(self, rate_hz: int, first: int, count: int) -> Array:
        """float32 [count] from frame `first` on; not to be written into."""
        ...


class ClipSource:
    """A clip, once or over and over.

    Args:
        samples: float32 [n], n >= 1, finite.
        rate_hz: its rate; other rates are resampled once, when first asked for.
        seconds: length wanted, the clip repeated as needed; None: the clip's own.

    Raises:
        AudioError: no sample in it.
    """

    def __init__(self, samples: Array, rate_hz: int, seconds: float | None = None) -> None:
        if samples.ndim != 1 or len(samples) == 0:
            raise AudioError(f"source: expected samples [n], n >= 1, got shape {list(samples.shape)}")
        self._clips = {rate_hz: samples}
        self._own_rate = rate_hz
        self._seconds = len(samples) / rate_hz if seconds is None else seconds

    def frames(self, rate_hz: int) -> int:
        """How many frames there are at a rate."""
        own = self._clips[self._own_rate]
        if self._seconds == len(own) / self._own_rate:
            return len(self._at(rate_hz))
        return round(self._seconds * rate_hz)

    def read(self, rate_hz: int, first: int, count: int) -> Array:
        """float32 [count] from frame `first` on."""
        clip = self._at(rate_hz)
        start = first % len(clip)
        part = clip[start : start + count]
        while len(part) < count:
            part = np.concatenate([part, clip[: count - len(part)]])
        return part

    def _at(self, rate_hz: int) -> Array:
        if rate_hz not in self._clips:
            self._clips[rate_hz] = resample(self._clips[self._own_rate], self._own_rate, rate_hz)
        return self._clips[rate_hz]


class _Draws:
    """Uniform and half-normal numbers from one seed, in batches."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64([seed, 1]))  # compute times draw from [seed]
        self._uniform: list[float] = []
        self._sizes: list[float] = []

    def uniform(self) -> float:
        """0 <= u < 1."""
        if not self._uniform:
            self._uniform = self._generator.random(_BATCH).tolist()
        return self._uniform.pop()

    def size(self) -> float:
        """|N(0, 1)|."""
        if not self._sizes:
            self._sizes = np.abs(self._generator.standard_normal(_BATCH)).tolist()
        return self._sizes.pop()


def device_callbacks(
    profile: DeviceProfile, source: Source, seed: int, faults: Sequence[Fault] = ()
) -> Iterator[Callback]:
    """Every callback of a run, in order; the same arguments give the same callbacks.

    Args:
        profile: rate, blocks, jitter, losses.
        source: only its length matters.
        seed: of all that is random.
        faults: capture_stall, dropout and rate are for here.
    """
    draws = _Draws(seed)
    changes = sorted(
        [*profile.rate_changes]
        + [RateChange(f.at_s, int(f.amount), ROUTE_CHANGE_MS) for f in faults if f.kind == "rate"],
        key=lambda c: c.at_s,
    )
    dropouts = sorted((f.begin_ns, f.end_ns) for f in faults if f.kind == "dropout")
    stalls = [f for f in faults if f.kind == "capture_stall"]
    low, high = profile.block_frames
    route_ns, delay_ns = round(profile.input_latency_ms * 1e6), round(profile.scheduling_delay_us * 1e3)
    jitter_ns, late_ns = profile.jitter_us * 1e3, round(profile.late_ms * 1e6)
    rate, begin_ns, previous_ns = profile.rate_hz, round(profile.cold_input_ms * 1e6), 0
    reason, world_frame = "cold_input", 0
    for change in [*changes, None]:
        frame = max(world_frame, -(-begin_ns * rate // SECOND_NS))
        last = source.frames(rate)
        if change is not None:
            last = min(last, round(change.at_s * 1e9) * rate // SECOND_NS)
        lost = max(0, frame - world_frame)
        late_chance = profile.late_per_minute / 60.0 * high / rate
        drop_chance = profile.dropouts_per_hour / 3600.0 * high / rate
        while frame < last:
            skipped = 0
            if drop_chance and draws.uniform() < drop_chance:
                skipped = round(profile.dropout_ms * rate / 1000.0)
            frame_ns = frame * SECOND_NS // rate
            while dropouts and frame_ns >= dropouts[0][0]:
                skipped = max(skipped, -(-dropouts.pop(0)[1] * rate // SECOND_NS) - frame)
            if skipped:
                skipped = min(skipped, last - frame)
                reason = reason if lost else "dropout"
                lost += skipped
                frame += skipped
            count = low if low == high else low + int(draws.uniform() * (high - low + 1))
            count = min(count, last - frame)
            if count < 1:
                break
            end_ns = (frame + count) * SECOND_NS // rate
            time_ns = end_ns + route_ns + delay_ns + (int(draws.size() * jitter_ns) if jitter_ns else 0)
            if late_chance and draws.uniform() < late_chance:
                time_ns += late_ns
            time_ns = stalled_until(stalls, "capture_stall", time_ns) if stalls else time_ns
            time_ns = max(time_ns, previous_ns + 1_000)
            yield Callback(time_ns, count, rate, frame, frame * SECOND_NS // rate, lost, reason if lost else "")
            previous_ns, lost, reason = time_ns, 0, ""
            frame += count
        if change is None or last == source.frames(rate):
            return
        begin_ns = round((change.at_s + change.gap_ms / 1000.0) * 1e9)
        world_frame = last * change.rate_hz // rate
        rate, reason = change.rate_hz, "rate_change"
