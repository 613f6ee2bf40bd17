"""The plain signal processing around the net, as the manifest's `dsp` asks. The same bits in three languages.

Everything runs at the model's rate. Blocks are float32; arithmetic is float64 in the order written here, each
operation rounded by itself (no fused multiply-add), and rounded to float32 once at the end. Constants that need
a transcendental function are put on a grid, g(v, b) = rint(v 2^b) / 2^b with halves to even, so that libraries
which differ in their last bit give the same constant.

- gain: y = k x, k = g(10^(gain_db / 20), 20).
- highpass (Butterworth, bilinear transform): t = tan(pi cutoff / rate), n = 1 / (1 + sqrt(2) t + t t),
  b = g(n, 40), a1 = g(2 (t t - 1) n, 40), a2 = g((1 - sqrt(2) t + t t) n, 40);
  v = (b x - 2 b x1) + b x2;  y = (v - a1 y1) - a2 y2;  |y| < 1e-30 becomes 0. y1, y2 stay float64.
- level: q = rint(x 2^15), at most +-2^17 (4.0 full scale); energy = sum of q q as an integer: order cannot matter.
  Mean square = energy / (n 2^30).
- gate: a window of n samples is loud when energy 2^10 >= n rint(10^(threshold_dbfs / 10) 2^40), all integers. The
  loud one and the next `hold_windows` are given to the net, the others get zeros for scores.
- wet_dry: d = g(10^(-attenuation_limit_db / 20), 20); y = (1 - d) enhanced + d input, the input after gain and
  highpass and delay_samples late, as the net's output is.
- limiter: c = g(10^(ceiling_dbfs / 20), 20), r = g(1 - exp(-1 / (release_ms rate / 1000)), 30), gain h = 1 at reset;
  a sample: p = |x|; target = c / p if p > c, else 1; h = h + (1 - h) r; if 1 - h < 2^-20, h = 1; if h > target,
  h = target; y = h x.

docs/dsp.md says what each stage is good for; tests/fixtures/dsp/golden.json is for ports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError
from runtimes.protocol import Outputs, Runtime, State
from runtimes.stages import Gain, Gate, Highpass, Limiter, Stage, WetDry
from streaming.core.bound import bounded

Array = NDArray[np.float32]
Wide = NDArray[np.float64]

LEVEL_SCALE = 2.0**15
LEVEL_LIMIT = 2.0**17
FULL_SCALE_ENERGY = 2.0**30  # of one sample, in the units of `energy`
LONGEST_WINDOW = 1 << 18  # samples up to which the gate's integers stay inside 64 bits
_TINY = 1e-30
_ROOT_2 = math.sqrt(2.0)


def on_grid(value: float, bits: int) -> float:
    """The nearest multiple of 2^-bits, halves to even."""
    return float(np.rint(value * 2.0**bits)) / 2.0**bits


def energy(block: Array) -> int:
    """Sum of squares in units of 2^-30, exact.

    Args:
        block: float32 [n], finite.
    """
    units = np.clip(np.rint(block.astype(np.float64) * LEVEL_SCALE), -LEVEL_LIMIT, LEVEL_LIMIT).astype(np.int64)
    return int(np.dot(units, units))


def level_dbfs(units: int, samples: int) -> float:
    """Mean square in dB: 0 dBFS is a mean square of 1.0, -inf is silence. For people: goes through log10."""
    return 10.0 * math.log10(units / (samples * FULL_SCALE_ENERGY)) if units > 0 and samples > 0 else -math.inf


@dataclass(frozen=True)
class Level:
    """What an input meter shows.

    Attributes:
        peak: largest |sample|, full scale 1.0.
        rms_dbfs: level of the samples since the last reading; -inf for silence.
    """

    peak: float
    rms_dbfs: float


class InputMeter:
    """Level of what came since the last reading."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what came."""
        self._energy, self._samples, self._peak = 0, 0, 0.0

    def push(self, block: Array) -> None:
        """Take in float32 [n]."""
        if len(block):
            self._energy += energy(block)
            self._samples += len(block)
            self._peak = max(self._peak, float(np.abs(block).max()))

    def read(self) -> Level:
        """The level since the last reading, which begins anew."""
        level = Level(self._peak, level_dbfs(self._energy, self._samples))
        self.reset()
        return level


class HighpassFilter:
    """See `highpass` above; about 0.3 us a sample in Python."""

    def __init__(self, stage: Highpass, sample_rate_hz: int) -> None:
        t = math.tan(math.pi * stage.cutoff_hz / sample_rate_hz)
        n = 1.0 / (1.0 + _ROOT_2 * t + t * t)
        self.b = on_grid(n, 40)
        self.a1 = on_grid(2.0 * (t * t - 1.0) * n, 40)
        self.a2 = on_grid((1.0 - _ROOT_2 * t + t * t) * n, 40)
        self.reset()

    def reset(self) -> None:
        """Silence before sample 0."""
        self._x: Wide = np.zeros(2, np.float64)  # the last two inputs, older first
        self._y1 = self._y2 = 0.0

    def process(self, block: Array) -> Array:
        """float32 [n] in, float32 [n] out."""
        x = np.concatenate([self._x, block.astype(np.float64)])
        forward = (self.b * x[2:] - 2.0 * self.b * x[1:-1]) + self.b * x[:-2]
        self._x = x[-2:]
        y1, y2, a1, a2 = self._y1, self._y2, self.a1, self.a2
        out = []
        for v in forward.tolist():
            y = (v - a1 * y1) - a2 * y2
            if -_TINY < y < _TINY:
                y = 0.0
            y2, y1 = y1, y
            out.append(y)
        self._y1, self._y2 = y1, y2
        return np.array(out, np.float64).astype(np.float32)


class FixedGain:
    """See `gain` above."""

    def __init__(self, stage: Gain) -> None:
        self.factor = on_grid(10.0 ** (stage.gain_db / 20.0), 20)

    def reset(self) -> None:
        """Nothing is remembered."""

    def process(self, block: Array) -> Array:
        """float32 [n] in, float32 [n] out."""
        return (block.astype(np.float64) * self.factor).astype(np.float32)


class WindowGate:
    """See `gate` above.

    Args:
        stage: threshold and hold.
        window_samples: n of every window.

    Raises:
        UsageError: a window longer than 2^18 samples.
    """

    def __init__(self, stage: Gate, window_samples: int) -> None:
        if window_samples > LONGEST_WINDOW:
            raise UsageError(f"gate: a window may have {LONGEST_WINDOW} samples at most, got {window_samples}")
        self.limit = window_samples * int(np.rint(10.0 ** (stage.threshold_dbfs / 10.0) * 2.0**40))
        self.hold = stage.hold_windows
        self.reset()

    def reset(self) -> None:
        """No loud window yet."""
        self._left = 0

    def opens(self, window: Array) -> bool:
        """Whether this window, the next of the stream, is given to the net. float32 [window_samples]."""
        if energy(window) << 10 >= self.limit:
            self._left = self.hold
            return True
        self._left -= 1
        return self._left >= 0


class GatedRuntime:
    """A windowed classifier behind a gate: zeros for the scores of windows that are not given to it.

    Attributes:
        skipped: windows spared since `reset`.
    """

    def __init__(self, runtime: Runtime, gate: WindowGate) -> None:
        self._runtime, self._gate = runtime, gate
        self.signature, self.info, self.close = runtime.signature, runtime.info, runtime.close
        self.skipped = 0

    def reset(self) -> State:
        """The state at the start of a stream; the gate begins anew with it."""
        self._gate.reset()
        self.skipped = 0
        return self._runtime.reset()

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One window: the net's scores, or zeros."""
        if self._gate.opens(block.reshape(-1)):
            return self._runtime.step(block, state)
        self.skipped += 1
        return {t.name: np.zeros(t.shape, np.float32) for t in self.signature.outputs}, state


class WetDryMix:
    """See `wet_dry` above. Input goes in with `feed`, before the output that belongs to it is asked for."""

    def __init__(self, stage: WetDry, delay_samples: int) -> None:
        self.dry = on_grid(10.0 ** (-stage.attenuation_limit_db / 20.0), 20)
        self._delay = delay_samples
        self.reset()

    def reset(self) -> None:
        """Silence before sample 0."""
        self._held: Array = np.zeros(self._delay, np.float32)

    def feed(self, block: Array) -> None:
        """What the net is given: float32 [n]."""
        self._held = np.concatenate([self._held, block])

    def process(self, enhanced: Array) -> Array:
        """float32 [n] of the net's output, in order; UsageError where less input was fed."""
        count = len(enhanced)
        if count > len(self._held):
            raise UsageError(f"wet_dry: {count} samples of output, but only {len(self._held)} of input were fed")
        held, self._held = self._held[:count], self._held[count:]
        mixed: Wide = (1.0 - self.dry) * enhanced.astype(np.float64) + self.dry * held.astype(np.float64)
        return mixed.astype(np.float32)


class PeakLimiter:
    """See `limiter` above; a block that needs no limiting passes untouched."""

    def __init__(self, stage: Limiter, sample_rate_hz: int) -> None:
        self.ceiling = on_grid(10.0 ** (stage.ceiling_dbfs / 20.0), 20)
        self.release = on_grid(1.0 - math.exp(-1.0 / (stage.release_ms * sample_rate_hz / 1000.0)), 30)
        self.reset()

    def reset(self) -> None:
        """No gain reduction."""
        self.gain = 1.0

    def process(self, block: Array) -> Array:
        """float32 [n] in, float32 [n] out, none above the ceiling."""
        gain, ceiling, release = self.gain, self.ceiling, self.release
        if gain == 1.0 and (not len(block) or float(np.abs(block).max()) <= ceiling):
            return block.copy()
        gains = []
        for p in np.abs(block.astype(np.float64)).tolist():
            gain = gain + (1.0 - gain) * release
            if 1.0 - gain < 2.0**-20:
                gain = 1.0
            if p > ceiling and gain > ceiling / p:
                gain = ceiling / p
            gains.append(gain)
        self.gain = gain
        return (block.astype(np.float64) * np.array(gains, np.float64)).astype(np.float32)


class InputChain:
    """The stages before the net, the bound of what it may be given (streaming/core/bound.py), and the meter after them.

    Args:
        stages: the manifest's `dsp`, or none.
        sample_rate_hz: the model's rate.

    Attributes:
        limited: samples since reset that the bound limited: a filter overshot, or `gain` lifted them.
    """

    def __init__(self, stages: Sequence[Stage] | None, sample_rate_hz: int) -> None:
        self.meter = InputMeter()
        self.limited = 0
        self._stages: list[HighpassFilter | FixedGain] = []
        for stage in stages or ():
            if isinstance(stage, Highpass):
                self._stages.append(HighpassFilter(stage, sample_rate_hz))
            elif isinstance(stage, Gain):
                self._stages.append(FixedGain(stage))

    def reset(self) -> None:
        """Begin a new stream."""
        self.meter.reset()
        self.limited = 0
        for stage in self._stages:
            stage.reset()

    def process(self, block: Array) -> Array:
        """float32 [n] in, float32 [n] out; the meter sees what comes out."""
        for stage in self._stages:
            block = stage.process(block)
        block = self.bound(block)
        self.meter.push(block)
        return block

    def bound(self, block: Array) -> Array:
        """The block as the net may be given it, counted; all that `process` does where there is no stage."""
        given = bounded(block)
        self.limited += given.limited
        return given.samples


class OutputChain:
    """The stages after an enhancer.

    Args:
        stages: the manifest's `dsp`, or none.
        sample_rate_hz: the model's rate.
        delay_samples: how far the enhancer's output lags its input.
    """

    def __init__(self, stages: Sequence[Stage] | None, sample_rate_hz: int, delay_samples: int) -> None:
        self._mix: WetDryMix | None = None
        self._limiter: PeakLimiter | None = None
        for stage in stages or ():
            if isinstance(stage, WetDry):
                self._mix = WetDryMix(stage, delay_samples)
            elif isinstance(stage, Limiter):
                self._limiter = PeakLimiter(stage, sample_rate_hz)

    def reset(self) -> None:
        """Begin a new stream."""
        for stage in (self._mix, self._limiter):
            if stage is not None:
                stage.reset()

    def feed(self, block: Array) -> None:
        """What goes into the net, float32 [n]: before the output that belongs to it."""
        if self._mix is not None:
            self._mix.feed(block)

    def process(self, enhanced: Array) -> Array:
        """float32 [n] of the net's output in, float32 [n] out."""
        if self._mix is not None:
            enhanced = self._mix.process(enhanced)
        return enhanced if self._limiter is None else self._limiter.process(enhanced)


def gated(runtime: Runtime, stages: Sequence[Stage] | None, window_samples: int) -> Runtime:
    """The runtime behind the gate that `dsp` asks for, or as it is."""
    for stage in stages or ():
        if isinstance(stage, Gate):
            return GatedRuntime(runtime, WindowGate(stage, window_samples))
    return runtime
