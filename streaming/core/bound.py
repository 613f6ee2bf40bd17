"""What a net may be given: finite samples within +-4.0. The same rule and the same counts in three languages.

NaN and +-Inf become 0, and what lies beyond +-INPUT_LIMIT becomes +-INPUT_LIMIT. The rule is applied twice: to what the
device gives, at any rate, and to what the net is given, for a filter overshoots and `gain` may lift 40 dB. It is
the resampler's own saturation, so that a stream sounds the same at equal rates and at others; it is 12 dB over full
scale, and docs/dsp.md says how far below it is from what an fp16 net takes. tests/fixtures/recovery/golden.json is for
ports.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.core.resample import SATURATION

Array = NDArray[np.float32]

INPUT_LIMIT = SATURATION


class Bounded(NamedTuple):
    """Samples that a net may be given.

    Attributes:
        samples: float32, as given; the same array where nothing was changed.
        nan: how many were NaN or Inf and are 0 now.
        limited: how many were beyond +-INPUT_LIMIT and are there now.
    """

    samples: Array
    nan: int
    limited: int


def bounded(block: Array) -> Bounded:
    """The block with every sample finite and within +-INPUT_LIMIT; float32 of any shape."""
    size = np.abs(block)
    if float(size.max(initial=0.0)) <= INPUT_LIMIT:  # false for NaN
        return Bounded(block, 0, 0)
    finite = np.isfinite(block)
    limited = int(np.count_nonzero((size > INPUT_LIMIT) & finite))
    samples: Array = np.clip(np.where(finite, block, np.float32(0.0)), -INPUT_LIMIT, INPUT_LIMIT).astype(np.float32)
    return Bounded(samples, block.size - int(np.count_nonzero(finite)), limited)


def all_finite(values: Array) -> bool:
    """Whether no value is NaN or Inf; float32 of any shape."""
    flat = values if values.ndim == 1 else values.reshape(-1)
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())  # the cheap look first; it may overflow
