"""Sound as a device hands it over: where it comes from, and the callbacks it comes in.

World time 0 is when capture begins, and the source's first sample is what the microphone hears then. Frame i of a
rate is captured from i / rate on. A callback comes when its last frame was captured and has passed the input
route, later by scheduling and jitter, and never before the one ahead of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError
from streaming.core.resample import resample
from streaming.simulator.device.faults import Fault
from streaming.simulator.device.profile import DeviceProfile, RateChange
from streaming.simulator.device.timeline import SECOND_NS, samples_ns

Array = NDArray[np.float32]
Wide = NDArray[np.float64]
Whole = NDArray[np.int64]

ROUTE_CHANGE_MS = 200.0  # assumption: audio lost while a fault changes the rate
_BATCH = 4096  # most callbacks planned at once
_LEAST_STEP_NS = 1_000


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


class Stretch(NamedTuple):
    """Callbacks with nothing lost between them.

    Attributes:
        rate_hz: of their frames.
        first_frame, captured_ns: of the first callback, as in Callback.
        times_ns, frames: of each, int64 [callbacks].
        lost, reason: before the first.
    """

    rate_hz: int
    first_frame: int
    captured_ns: int
    times_ns: Whole
    frames: Whole
    lost: int
    reason: str

    def callbacks(self, begin: int = 0, end: int | None = None) -> Iterator[Callback]:
        """One after the other, from number `begin` on up to `end`."""
        frame = self.first_frame + int(self.frames[:begin].sum())
        captured_ns, lost, reason = frame * SECOND_NS // self.rate_hz, 0, ""
        if begin == 0:
            captured_ns, lost, reason = self.captured_ns, self.lost, self.reason
        for time_ns, count in zip(self.times_ns[begin:end].tolist(), self.frames[begin:end].tolist(), strict=True):
            yield Callback(time_ns, count, self.rate_hz, frame, captured_ns, lost, reason)
            frame += count
            captured_ns, lost, reason = frame * SECOND_NS // self.rate_hz, 0, ""

    def captured_before_ns(self, end: int) -> int:
        """When all frames of the callbacks before number `end` had been captured."""
        return self.captured_ns + int(self.frames[:end].sum()) * SECOND_NS // self.rate_hz


class AudioSource(Protocol):
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


class _Column:
    """Random numbers of one kind, in order, however many are looked at at once."""

    def __init__(self, generator: np.random.Generator, normal: bool) -> None:
        self._draw = generator.standard_normal if normal else generator.random
        self._drawn: Wide = np.zeros(0, np.float64)

    def peek(self, count: int) -> Wide:
        """The next `count`."""
        while len(self._drawn) < count:
            self._drawn = np.concatenate([self._drawn, self._draw(_BATCH)])
        return self._drawn[:count]

    def pass_by(self, count: int) -> None:
        """The next `count` are used up."""
        self._drawn = self._drawn[count:]


class _Draws:
    """What is random in a callback: one number of each kind."""

    def __init__(self, seed: int) -> None:
        streams = [np.random.Generator(np.random.PCG64([seed, 1, k])) for k in range(4)]  # compute draws from [seed]
        self.dropout, self.length, self.late = (_Column(s, False) for s in streams[:3])
        self.jitter = _Column(streams[3], True)

    def pass_by(self, count: int) -> None:
        """`count` callbacks are planned; a column that was never looked at has nothing to pass by."""
        for column in (self.dropout, self.length, self.late, self.jitter):
            column.pass_by(count)


def device_stretches(
    profile: DeviceProfile, source: AudioSource, seed: int, faults: Sequence[Fault] = ()
) -> Iterator[Stretch]:
    """Every callback of a run, in order; the same arguments give the same callbacks.

    Args:
        profile: rate, blocks, jitter, losses.
        source: only its length matters.
        seed: of all that is random.
        faults: capture_stall, dropout and rate are for here.
    """
    planner = _Planner(profile, seed, faults)
    changes = sorted(
        [*profile.rate_changes]
        + [RateChange(f.at_s, int(f.amount), ROUTE_CHANGE_MS) for f in faults if f.kind == "rate"],
        key=lambda c: c.at_s,
    )
    rate, block, begin_ns = profile.rate_hz, profile.block_frames, round(profile.cold_input_ms * 1e6)
    reason, world_frame = "cold_input", 0
    for change in [*changes, None]:
        frame = max(world_frame, -(-begin_ns * rate // SECOND_NS))
        last = whole = source.frames(rate)
        if change is not None:
            last = min(last, round(change.at_s * 1e9) * rate // SECOND_NS)
        yield from planner.plan(rate, block, frame, last, max(0, frame - world_frame), reason)
        if change is None or last == whole:
            return
        begin_ns = round((change.at_s + change.gap_ms / 1000.0) * 1e9)
        world_frame = last * change.rate_hz // rate
        rate, block, reason = change.rate_hz, change.block_frames or block, "rate_change"


class _Planner:
    """The callbacks of a profile, stretch by stretch."""

    def __init__(self, profile: DeviceProfile, seed: int, faults: Sequence[Fault]) -> None:
        self._profile, self._draws = profile, _Draws(seed)
        self._dropouts = sorted((f.begin_ns, f.end_ns) for f in faults if f.kind == "dropout")
        self._stalls = sorted((f.begin_ns, f.end_ns) for f in faults if f.kind == "capture_stall")
        self._after_ns = round(profile.input_latency_ms * 1e6) + round(profile.scheduling_delay_us * 1e3)
        self._previous_ns = 0

    def plan(
        self, rate: int, block: tuple[int, int], frame: int, last: int, lost: int, reason: str
    ) -> Iterator[Stretch]:
        """Callbacks of one rate and block from `frame` to `last`; `lost` frames before them."""
        draws, (low, high) = self._draws, block
        drop_chance = self._profile.dropouts_per_hour / 3600.0 * high / rate
        if frame >= last and lost > frame - last:
            yield self._nothing(rate, high, last, lost - (frame - last), reason)
        while frame < last:
            count = min(_BATCH, -(-(last - frame) // low))
            skipped, count = self._losses(rate, frame, count, drop_chance)
            if skipped:
                skipped = min(skipped, last - frame)
                reason = reason if lost else "dropout"
                lost += skipped
                frame += skipped
            if frame == last:
                draws.pass_by(1)
                yield self._nothing(rate, high, last, lost, reason)
                return
            frames: Whole = np.full(count, low, np.int64)
            if low != high:
                frames += (draws.length.peek(count) * (high - low + 1)).astype(np.int64)
            ends = frame + np.cumsum(frames)
            count = min(count, int(np.searchsorted(ends, last)) + 1)  # the last one may be short
            if self._dropouts:
                starts_ns = samples_ns(ends[: count - 1], rate)
                count = min(count, int(np.searchsorted(starts_ns, self._dropouts[0][0])) + 1)
            frames, ends = frames[:count], np.minimum(ends[:count], last)
            frames[-1] -= frame + int(frames.sum()) - int(ends[-1])
            times = self._times(rate, high, ends)
            draws.pass_by(count)
            captured_ns = frame * SECOND_NS // rate
            yield Stretch(rate, frame, captured_ns, times, frames, lost, reason if lost else "")
            lost, reason, frame = 0, "", int(ends[-1])

    def _nothing(self, rate: int, block: int, last: int, lost: int, reason: str) -> Stretch:
        """The sound ends in a loss: a callback without frames says how much."""
        times = self._times(rate, block, np.array([last], np.int64))
        return Stretch(rate, last, last * SECOND_NS // rate, times, np.zeros(1, np.int64), lost, reason)

    def _losses(self, rate: int, frame: int, count: int, drop_chance: float) -> tuple[int, int]:
        """Frames lost before the next callback, and how many of `count` callbacks come before the next loss."""
        skipped = 0
        if drop_chance:
            drops = np.flatnonzero(self._draws.dropout.peek(count) < drop_chance)
            if len(drops) and drops[0] == 0:
                skipped = round(self._profile.dropout_ms * rate / 1000.0)
                drops = drops[1:]
            if len(drops):
                count = int(drops[0])
        while self._dropouts and frame * SECOND_NS // rate >= self._dropouts[0][0]:
            skipped = max(skipped, -(-self._dropouts.pop(0)[1] * rate // SECOND_NS) - frame)
        return skipped, count

    def _times(self, rate: int, block: int, ends: Whole) -> Whole:
        """When the callbacks come, by the frames that end them."""
        profile, draws, count = self._profile, self._draws, len(ends)
        times = samples_ns(ends, rate) + self._after_ns
        jitter_ns = profile.jitter_us * 1e3
        if jitter_ns:
            times += (np.abs(draws.jitter.peek(count)) * jitter_ns).astype(np.int64)
        late_chance = profile.late_per_minute / 60.0 * block / rate
        if late_chance:
            times[draws.late.peek(count) < late_chance] += round(profile.late_ms * 1e6)
        for begin_ns, end_ns in self._stalls:
            times[(begin_ns <= times) & (times < end_ns)] = end_ns
        steps = _LEAST_STEP_NS * np.arange(1, count + 1, dtype=np.int64)  # none comes before the one ahead of it
        times = np.maximum.accumulate(np.maximum(times - steps, self._previous_ns)) + steps
        self._previous_ns = int(times[-1])
        return times


def device_callbacks(
    profile: DeviceProfile, source: AudioSource, seed: int, faults: Sequence[Fault] = ()
) -> Iterator[Callback]:
    """`device_stretches`, one callback after the other."""
    for stretch in device_stretches(profile, source, seed, faults):
        yield from stretch.callbacks()


def stretches(callbacks: Iterable[Callback]) -> Iterator[Stretch]:
    """Callbacks from elsewhere, those that follow on each other taken together."""
    held: list[Callback] = []
    for callback in callbacks:
        if held:
            last = held[-1]
            follows = callback.rate_hz == last.rate_hz and callback.first_frame == last.first_frame + last.frames
            exact = callback.captured_ns == callback.first_frame * SECOND_NS // callback.rate_hz
            if not (follows and exact) or callback.lost or len(held) == _BATCH:
                yield _joined(held)
                held = []
        held.append(callback)
    if held:
        yield _joined(held)


def _joined(callbacks: Sequence[Callback]) -> Stretch:
    first = callbacks[0]
    times, frames = np.array([(c.time_ns, c.frames) for c in callbacks], np.int64).T
    return Stretch(first.rate_hz, first.first_frame, first.captured_ns, times, frames, first.lost, first.reason)
