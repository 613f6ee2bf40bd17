"""The one resampler of everything that streams: a polyphase FIR, the same in Python, Kotlin and Swift.

out/in = L/M in lowest terms. With R = max(L, M) and Z = HALF_WIDTH, the kernel at a distance of v samples
of the *lower* rate is

    h(v) = sin(pi CUTOFF v) / (pi v) * I0(BETA sqrt(1 - (v/Z)^2)) / I0(BETA)      for |v| <= Z, else 0
    h(0) = CUTOFF;   I0(x) = sum over k = 0..I0_TERMS of ((x/2)^k / k!)^2, k ascending

Output m, phase p = m M mod L, sees the inputs floor(m M / L) - i, i = 0..K-1, whose taps lie at the exact
fraction v = (delay_out M - i L - p) / R. A phase's taps are divided by their sum (added from i = K-1, the
oldest, to 0), so that a constant stays constant, and rounded (half to even) to multiples of 2^-24: float32
holds them exactly. Input is rounded likewise to multiples of 2^-25 (16- and 24-bit PCM already are) and
saturates at +-4.0. Products are then multiples of 2^-49 and every partial sum stays under 2^53 of those, so
a float64 (or an int64) accumulator is EXACT: the order of summation, fused multiply-adds, BLAS and the
partition of the input into blocks cannot change a bit, and a port with the same taps agrees to the bit.
The sum is rounded to float32 once.

Measured (tests/streaming/core/test_resample.py): 48 kHz -> 16 kHz: group delay 24 output samples, 1.5 ms; within
0.1 dB up to 0.859 of the lower Nyquist frequency; 80 dB down from 1.049 of it, so that what folds back lies
above 0.951 (7.6 kHz at 16 kHz).
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from models.common.errors import AudioError, UsageError

Array = NDArray[np.float32]
Wide = NDArray[np.float64]

HALF_WIDTH = 24
CUTOFF = 0.94
BETA = 8.2
I0_TERMS = 32
TAP_SCALE = 2.0**24
INPUT_SCALE = 2.0**25
SATURATION = 4.0
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 192_000

_PIECE = 16_384  # most input samples worked on at a time: bounds the work arrays
_PRODUCT = (
    200_000  # multiply-adds of one matrix product: more would wake BLAS's threads, which costs more than it saves
)
_DENSE_ENTRIES = 1 << 18  # 2 MB of taps; ratios that need more keep one row an output, filled on demand
_ROUND = 1.0 / (TAP_SCALE * INPUT_SCALE)


def bessel_i0(x: Wide) -> Wide:
    """Modified Bessel function of the first kind, order 0, by its power series (I0_TERMS terms)."""
    quarter_square = x * x / 4.0
    term = np.ones_like(x)
    total = np.ones_like(x)
    for k in range(1, I0_TERMS + 1):
        term = term * quarter_square / float(k * k)
        total = total + term
    return total


def _taps(up: int, down: int, delay_out: int, phases: NDArray[np.int64], taps_per_output: int) -> Wide:
    """Taps of some phases in units of 2^-24, oldest input first; float64 [phases, taps_per_output]."""
    widest = max(up, down)
    i = np.arange(taps_per_output - 1, -1, -1, dtype=np.int64)
    numerator = delay_out * down - i[None, :] * up - phases[:, None]
    inside = np.abs(numerator) <= HALF_WIDTH * widest
    v = np.where(inside, numerator, 1) / float(widest)
    edge = v / float(HALF_WIDTH)
    window = bessel_i0(BETA * np.sqrt(1.0 - edge * edge)) / bessel_i0(np.array([BETA], np.float64))
    angle = math.pi * v
    with np.errstate(invalid="ignore", divide="ignore"):
        sinc = np.where(numerator == 0, CUTOFF, np.sin(CUTOFF * angle) / angle)
    raw = np.where(inside, sinc * window, 0.0)
    total: Wide = np.cumsum(raw, axis=1)[:, -1:]  # adds strictly one by one
    scaled: Wide = np.rint(raw / total * TAP_SCALE)
    return scaled


class _Plan:
    """What a ratio needs and no stream changes: geometry, taps, and how to apply them.

    Outputs are worked out in groups of `group`: one vector of `window` inputs times one matrix of taps. After
    `groups` of them the phases repeat. Ratios whose matrices would be huge are worked out output by output.
    """

    def __init__(self, up: int, down: int) -> None:
        self.up, self.down = up, down
        self.delay_out = -(-HALF_WIDTH * max(up, down) // down)
        self.taps_per_output = (self.delay_out * down + HALF_WIDTH * max(up, down)) // up + 1
        self.group, period = _grouping(up)
        self.groups = period // self.group
        self.window = self.taps_per_output + -(-(self.group - 1) * down // up)
        self.dense = self.groups * self.group * self.window <= _DENSE_ENTRIES
        if self.dense:
            self.matrices = self._matrices()
        else:
            self.group, self.groups, self.window = 1, up, self.taps_per_output
            self.rows = np.empty((up, self.taps_per_output), np.float32)  # pages are touched only as rows are filled
            self.known = np.zeros(up, np.bool_)

    def first_input(self, output: int) -> int:
        """Absolute index of the oldest input that `output` sees."""
        return output * self.down // self.up - (self.taps_per_output - 1)

    def _phase_taps(self, outputs: NDArray[np.int64]) -> Wide:
        return _taps(self.up, self.down, self.delay_out, (outputs * self.down) % self.up, self.taps_per_output)

    def _matrices(self) -> Wide:
        """float64 [groups, window, group]: column r holds the taps of a group's output r."""
        count = self.groups * self.group
        matrices = np.zeros((self.groups, self.window, self.group), np.float64)
        for m, row in enumerate(self._phase_taps(np.arange(count, dtype=np.int64))):
            start = self.first_input(m) - self.first_input(m - m % self.group)
            matrices[m // self.group, start : start + self.taps_per_output, m % self.group] = row
        return matrices

    def table(self, first: int, count: int) -> Array:
        """Taps of outputs first..first+count-1, a row each, float32 [count, taps_per_output]."""
        wanted = np.arange(first, first + count, dtype=np.int64) % self.up
        missing = wanted[~self.known[wanted]]
        if len(missing):
            self.rows[missing] = self._phase_taps(missing)
            self.known[missing] = True
        return self.rows[wanted]


def _grouping(up: int) -> tuple[int, int]:
    """Outputs worked out together, and outputs after which groups repeat."""
    if up <= 24:
        period = max(1, 12 // up) * up
        return period, period
    divisors = [g for g in range(8, 25) if up % g == 0]
    return (divisors[-1], up) if divisors else (8, 8 * up)


@lru_cache(maxsize=4)
def _plan(up: int, down: int) -> _Plan:
    return _Plan(up, down)


class Resampler:
    """Mono audio from one rate to another, block by block.

    Any partition of the input gives the same output, bit for bit. Equal rates: the input, saturated too, no delay.

    Args:
        in_rate_hz: rate of the blocks given, 4,000 to 192,000.
        out_rate_hz: rate of the blocks returned, 4,000 to 192,000.

    Attributes:
        up, down: out_rate_hz / in_rate_hz in lowest terms, L / M.
        delay: group delay in input samples, exact.
        delay_out_samples: the same in output samples: always whole.
        taps_per_output: K, input samples an output is made of.

    Raises:
        UsageError: a rate is out of range.
    """

    def __init__(self, in_rate_hz: int, out_rate_hz: int) -> None:
        for name, rate in (("in_rate_hz", in_rate_hz), ("out_rate_hz", out_rate_hz)):
            if not isinstance(rate, int) or not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
                raise UsageError(
                    f"resampler: {name} must be whole, {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz, got {rate!r}"
                )
        divisor = math.gcd(in_rate_hz, out_rate_hz)
        self.in_rate_hz, self.out_rate_hz = in_rate_hz, out_rate_hz
        self.up, self.down = out_rate_hz // divisor, in_rate_hz // divisor
        self._plan = None if self.up == self.down else _plan(self.up, self.down)
        self.delay_out_samples = self._plan.delay_out if self._plan else 0
        self.delay = Fraction(self.delay_out_samples * self.down, self.up)
        self.taps_per_output = self._plan.taps_per_output if self._plan else 1
        if self._plan:
            self._allocate(self._plan)
        self.reset()

    def _allocate(self, plan: _Plan) -> None:
        # line: [what later outputs still need | new samples | zeros that a partial group sees]
        reach = plan.group * plan.down // plan.up + 1
        self._line: Wide = np.zeros(plan.window + reach + _PIECE + plan.window, np.float64)
        if plan.dense:
            most = (_PIECE + reach) * plan.up // (plan.down * plan.group) + 2
            self._sums: Wide = np.empty((most, plan.group), np.float64)
        if plan.dense:
            self._stacked: Wide = np.empty((max(1, _PRODUCT // (plan.window * plan.group)), plan.window), np.float64)
            self._stride = plan.groups * plan.group * plan.down // plan.up  # inputs after which the phases repeat
            size = self._line.itemsize
            places = len(self._line) - plan.window + 1
            self._windows: Wide = as_strided(self._line, (places, plan.window), (size, size), writeable=False)

    def reset(self) -> None:
        """Begin a new stream: silence before sample 0."""
        self.in_samples = 0
        self.out_samples = 0
        self._ended = False
        self._loud = False
        if self._plan:
            self._line[:] = 0.0
            self._origin = 1 - self.taps_per_output  # absolute index of line[0]
            self._filled = self.taps_per_output - 1  # samples of the line in use

    def process(self, block: Array) -> Array:
        """Outputs that the new samples complete.

        Args:
            block: float32 [n], n >= 0, full scale 1.0.

        Returns:
            float32 [k], a fresh array; after n samples in all, ceil(n L / M) have come out in all.

        Raises:
            AudioError: NaN or Inf; nothing of the block is consumed.
            UsageError: the block is not one-dimensional float32, or the stream was flushed.
        """
        if self._ended:
            raise UsageError("resampler: the stream was flushed; call reset() before the next block")
        energy = check_block(block, self.in_samples, self.in_rate_hz)
        # A sum of squares up to SATURATION^2 proves that no sample is beyond it.
        self._loud = energy > SATURATION * SATURATION and float(np.abs(block).max()) > SATURATION
        if self._plan is None:
            self.in_samples += len(block)
            self.out_samples += len(block)
            return np.clip(block, -SATURATION, SATURATION) if self._loud else block.copy()
        return self._run(self._plan, block)

    def flush(self) -> Array:
        """The last `delay_out_samples` outputs; the stream then takes no block until reset().

        Returns:
            float32 [delay_out_samples], or empty if nothing ever came in.
        """
        if self._ended or self.in_samples == 0:
            self._ended = True
            return np.zeros(0, np.float32)
        self._ended = True
        if self._plan is None:
            return np.zeros(0, np.float32)
        samples = self.in_samples
        self._loud = False
        zeros = np.zeros(self.delay_out_samples * self.down // self.up + 2, np.float32)
        tail = self._run(self._plan, zeros)[: self.delay_out_samples]
        self.in_samples = samples
        self.out_samples = -(-samples * self.up // self.down) + self.delay_out_samples
        return tail

    def _run(self, plan: _Plan, block: Array) -> Array:
        if len(block) <= _PIECE:
            return self._piece(plan, block)
        pieces = [self._piece(plan, block[i : i + _PIECE]) for i in range(0, len(block), _PIECE)]
        return np.concatenate(pieces)

    def _piece(self, plan: _Plan, block: Array) -> Array:
        filled, first = self._filled, self.out_samples
        new = self._line[filled : filled + len(block)]
        new[:] = block
        new *= INPUT_SCALE
        np.rint(new, out=new)
        if self._loud:
            np.clip(new, -SATURATION * INPUT_SCALE, SATURATION * INPUT_SCALE, out=new)
        self._filled = filled + len(block)
        self.in_samples += len(block)
        last = -(-self.in_samples * plan.up // plan.down)
        if last == first:
            return np.zeros(0, np.float32)
        sums = self._grouped(plan, first, last) if plan.dense else self._one_by_one(plan, first, last)
        self.out_samples = last
        self._discard(plan)
        sums *= _ROUND
        sums += 0.0  # no negative zeros, whose sign BLAS might choose
        return sums.astype(np.float32)

    def _grouped(self, plan: _Plan, first: int, last: int) -> Wide:
        """Sums of outputs first..last-1 by matrix products over whole groups."""
        group = plan.group
        q, skipped = divmod(first, group)
        count = -(-(skipped + last - first) // group)
        sums = self._sums[:count]
        self._line[self._filled : self._filled + plan.window] = 0.0  # what a partial group has not got yet
        if count < 4 * plan.groups and plan.groups > 1:
            for j in range(count):
                start = plan.first_input((q + j) * group) - self._origin
                np.dot(self._line[start : start + plan.window], plan.matrices[(q + j) % plan.groups], out=sums[j])
        else:
            for j in range(plan.groups):  # groups of one kind together
                start = plan.first_input((q + j) * group) - self._origin
                self._product(start, plan.matrices[(q + j) % plan.groups], sums[j :: plan.groups])
        return sums.reshape(-1)[skipped : skipped + last - first]

    def _product(self, start: int, matrix: Wide, sums: Wide) -> None:
        """Windows of the line from `start` on, one where the phases begin anew, times their taps."""
        stride, most = self._stride, len(self._stacked)
        for begin in range(0, len(sums), most):
            part = sums[begin : begin + most]
            stacked = self._stacked[: len(part)]
            first = start + begin * stride
            stacked[:] = self._windows[first : first + len(part) * stride : stride]
            part[:] = np.dot(stacked, matrix)

    def _one_by_one(self, plan: _Plan, first: int, last: int) -> Wide:
        """Sums of outputs first..last-1, each from its own row of taps."""
        sums = np.empty(last - first, np.float64)
        for begin in range(first, last, 256):  # bounds the rows held at a time
            count = min(256, last - begin)
            for m, row in enumerate(plan.table(begin, count).astype(np.float64), begin):
                start = plan.first_input(m) - self._origin
                sums[m - first] = np.dot(self._line[start : start + plan.window], row)
        return sums

    def _discard(self, plan: _Plan) -> None:
        """Move what later outputs still need to the front of the line."""
        needed = plan.first_input(self.out_samples - self.out_samples % plan.group)
        drop = min(needed - self._origin, self._filled)
        if drop > 0:
            keep = self._filled - drop
            self._line[:keep] = self._line[drop : self._filled].copy()
            self._origin += drop
            self._filled = keep


def check_block(block: Array, at_sample: int, sample_rate_hz: int) -> float:
    """Raise unless `block` is one-dimensional, float32 and finite.

    Args:
        block: the samples given.
        at_sample: position of its first sample in the stream, counted from reset.
        sample_rate_hz: the stream's rate, for the message.

    Returns:
        the sum of the squares (inf where that overflows float32).

    Raises:
        AudioError: NaN or Inf, with its position.
        UsageError: wrong dtype or number of dimensions.
    """
    if block.ndim != 1 or block.dtype != np.float32:
        raise UsageError(f"a block must be float32 [n], got {block.dtype} {list(block.shape)}")
    energy = float(np.dot(block, block))  # the cheapest look at every sample
    if math.isfinite(energy):
        return energy
    bad = np.flatnonzero(~np.isfinite(block))
    if len(bad):
        position = at_sample + int(bad[0])
        raise AudioError(
            f"sample {position} ({position / sample_rate_hz:.3f} s from the stream's start) is {float(block[bad[0]])}, "
            f"expected finite numbers of full scale 1.0; {len(bad)} such in this block"
        )
    return math.inf


def resample(samples: Array, in_rate_hz: int, out_rate_hz: int) -> Array:
    """A whole clip at another rate, delay compensated: output sample m lies at input time m M / L.

    Args:
        samples: float32 [n] or [channels, n].
        in_rate_hz: its rate.
        out_rate_hz: the rate wanted.

    Returns:
        float32 [ceil(n L / M)] or [channels, ceil(n L / M)].

    Raises:
        AudioError: NaN or Inf.
        UsageError: a rate is out of range.
    """
    if samples.ndim == 2:
        return np.stack([resample(channel, in_rate_hz, out_rate_hz) for channel in samples])
    resampler = Resampler(in_rate_hz, out_rate_hz)
    body = resampler.process(samples)
    return np.concatenate([body, resampler.flush()])[resampler.delay_out_samples :]
