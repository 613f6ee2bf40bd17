"""How far a custom net's output lags its input, measured, and held against the `delay_samples` that its user says.

The offline net hears white noise, and noise that falls with frequency and comes in bursts, as speech does. Where its
output is like its input, the correlation of the two has one clear peak, at its delay: a trained enhancer with a
skip path or a mask has it. Where there is none (random weights, a net that makes its sound anew), a burst that is added
to the noise shows when the net answers it, and a delay far outside of that is wrong all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ConversionError
from models.custom.entry import CustomEntry

if TYPE_CHECKING:
    import torch

CLEAR = 0.7  # correlation of an output that is its input, a little changed
ELSEWHERE = 0.5  # of the peak: what the stated delay has to have of it
ANSWER = 0.95  # of the energy of what a burst changes
_SECONDS, _MOST_SECONDS = 1.0, 20.0
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Delay:
    """What was measured.

    Attributes:
        lag: of the highest correlation, in samples.
        likeness: that correlation, 1 for a copy, of the less clear of the two signals; 0 where they disagree.
        noise: the correlation with white noise at every lag, [half the signal].
    """

    lag: int
    likeness: float
    noise: Array


def delay_of(entry: CustomEntry) -> Delay:
    """Measure a net that gives audio; its `delay_samples` says only how long a signal it hears."""
    rate = entry.geometry.sample_rate_hz
    net = _mono(entry)
    noise, bursts = (_correlation(net, signal) for signal in _signals(_count(entry), rate))
    lag = int(noise.argmax())
    near = abs(int(bursts.argmax()) - lag) <= entry.geometry.hop_samples // 2
    return Delay(lag, float(min(noise[lag], bursts.max())) if near else 0.0, noise)


def refuse_wrong_delay(entry: CustomEntry) -> None:
    """Raise ConversionError where a net's output surely does not lag its input by `delay_samples`.

    Args:
        entry: with its net; one that gives no audio is left alone.
    """
    if entry.output_kind != "audio" or entry.geometry.channels != 1:
        return
    said, measured = entry.geometry.delay_samples, delay_of(entry)
    if said >= len(measured.noise):
        return
    lag, peak, there = measured.lag, measured.noise[measured.lag], measured.noise[said]
    wrong = offer = ""
    if measured.likeness >= CLEAR and there < ELSEWHERE * peak:
        wrong, offer = f"{lag} (correlation {peak:.2f}, {there:.2f} at {said})", f"{lag}"
    else:
        first, last = _answer(entry)
        reach = entry.geometry.window_samples
        if not first - reach <= said <= last + reach:
            wrong, offer = f"{first} to {last}", "what the net's frames and look-ahead come to"
    if wrong:
        raise ConversionError(
            f"{entry.original.factory}: geometry.delay_samples is {said}, but the output lags the input by {wrong}; "
            f"write delay_samples = {offer}"
        )


def _mono(entry: CustomEntry) -> Callable[[torch.Tensor], torch.Tensor]:
    """The offline net over [1, n], silence in its further inputs."""
    import torch

    from models.custom.forms import offline

    net, more = offline(entry), len(entry.far_inputs)
    return net if not more else lambda audio: net(torch.nn.functional.pad(audio[:, None], (0, 0, 0, more)))


def _count(entry: CustomEntry) -> int:
    said, rate = entry.geometry.delay_samples, entry.geometry.sample_rate_hz
    return round(min(_SECONDS * rate + 2.0 * said, _MOST_SECONDS * rate))


def _signals(count: int, rate: int) -> tuple[Array, Array]:
    """White noise, and noise in bursts of a syllable's length; float64 [count] at about -20 dBFS."""
    generator = np.random.default_rng(0)
    white, base = 0.1 * generator.standard_normal((2, count))
    soft = np.zeros(count)
    for k in range(8):  # 1, 0.8, 0.64, ...: falls with frequency
        soft[k:] += 0.8**k * base[: count - k]
    return white, 0.6 * soft * np.sin(np.pi * 4.0 * np.arange(count) / rate) ** 2


def _run(net: Callable[[torch.Tensor], torch.Tensor], signal: Array) -> Array:
    import torch

    with torch.no_grad():
        out = net(torch.from_numpy(signal.astype(np.float32))[None])[0].double().numpy()
    out = np.nan_to_num(out[: len(signal)])
    return np.asarray(out - out.mean(), np.float64)


def _correlation(net: Callable[[torch.Tensor], torch.Tensor], signal: Array) -> Array:
    """Of output and input by lag, 0 to half the signal: absolute values, 1 for a copy."""
    out, size = _run(net, signal), 2 * len(signal)
    products = np.fft.irfft(np.fft.rfft(out, size) * np.fft.rfft(signal, size).conj(), size)
    scale = max(float(np.linalg.norm(out) * np.linalg.norm(signal)), 1e-30)
    return np.abs(products[: len(signal) // 2]) / scale


def _answer(entry: CustomEntry) -> tuple[int, int]:
    """The lags within which the output answers a hop more of noise in the input, but for a few percent at each end."""
    net, hop = _mono(entry), entry.geometry.hop_samples
    signal, _ = _signals(_count(entry), entry.geometry.sample_rate_hz)
    more, at = signal.copy(), len(signal) // 4
    more[at : at + hop] += signal[:hop]
    energy = np.cumsum((_run(net, more) - _run(net, signal)) ** 2)
    ends = np.searchsorted(energy, energy[-1] * np.array([0.5 - ANSWER / 2.0, 0.5 + ANSWER / 2.0]))
    return int(ends[0]) - at - hop, int(ends[1]) - at
