"""What a model looks like to a stream: rates, hops, tensors. Light: no torch, no numpy.

Vocabulary (docs/bundle.md has all of it): a *hop* is the new samples a step consumes, a *window* the
samples a step looks at, the *buffer* what one call of the exported graph takes, *state* a named
tensor that goes in and comes out at every call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from models.common.errors import UsageError

Task = Literal["classifier", "enhancer", "separator", "embedder"]
OutputKind = Literal["audio", "scores", "sources", "embedding"]
# What comes out: samples, a score of each label, samples of each source, one vector of unit length a window.
OUTPUT_KINDS: Mapping[Task, OutputKind] = {
    "classifier": "scores",
    "enhancer": "audio",
    "separator": "sources",
    "embedder": "embedding",
}


@dataclass(frozen=True)
class StreamGeometry:
    """The model side of a stream.

    Attributes:
        sample_rate_hz: rate of the audio the net takes.
        channels: audio channels the net takes.
        window_samples: samples a step looks at.
        hop_samples: new samples a step consumes.
        delay_samples: algorithmic delay: how far the output lags the input, look-ahead included.
    """

    sample_rate_hz: int
    channels: int
    window_samples: int
    hop_samples: int
    delay_samples: int

    def __post_init__(self) -> None:
        for field in ("sample_rate_hz", "channels", "window_samples", "hop_samples"):
            if getattr(self, field) < 1:
                raise UsageError(f"geometry: {field} must be at least 1, got {getattr(self, field)}")
        if self.delay_samples < 0:
            raise UsageError(f"geometry: delay_samples must be at least 0, got {self.delay_samples}")

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes of audio between the first one and samples: (channels,) where there are several."""
        return () if self.channels == 1 else (self.channels,)

    def ms(self, samples: int) -> float:
        """Milliseconds that `samples` last at this rate."""
        return 1000.0 * samples / self.sample_rate_hz


@dataclass(frozen=True)
class TensorSpec:
    """One of the stream's own tensors (audio in, scores or enhanced audio out).

    Attributes:
        name: the name in every format.
        shape: fixed shape.
        range: lowest and highest value meant.
        meaning: one sentence for the manifest.
        dtype: numpy name of the element type.
    """

    name: str
    shape: tuple[int, ...]
    range: tuple[float, float]
    meaning: str
    dtype: str = "float32"


@dataclass(frozen=True)
class StateSpec:
    """A tensor carried from call to call: goes in as `name`, comes out as `out_name`.

    Core ML refuses equal input and output names, hence the suffix. `reset` is "zeros" or a file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    reset: str = "zeros"

    @property
    def out_name(self) -> str:
        return f"{self.name}_out"

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class GraphSignature:
    """Order and names of everything that goes into and comes out of one call.

    A graph module's forward takes `inputs` then `states` positionally and returns a tuple of
    `outputs` then the new states, in the same order.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...] = ()

    @property
    def carried(self) -> tuple[TensorSpec | StateSpec, ...]:
        """What a call takes beside `audio`, in order: further inputs, then states."""
        return (*self.inputs[1:], *self.states)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.inputs) + tuple(s.name for s in self.states)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.outputs) + tuple(s.out_name for s in self.states)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(t.shape for t in self.inputs) + tuple(s.shape for s in self.states)


def check_buffer(buffer_samples: int, hop_samples: int, max_hops: int) -> int:
    """Hops in a buffer of `buffer_samples`, or UsageError naming the nearest two that are valid.

    Args:
        buffer_samples: wanted buffer, in samples.
        hop_samples: the step net's hop, in samples.
        max_hops: most hops a call may take.

    Returns:
        hops per call, 1 to `max_hops`.

    Raises:
        UsageError: the buffer is no multiple of the hop, or out of range.
    """
    hops = buffer_samples // hop_samples
    if hops * hop_samples == buffer_samples and 1 <= hops <= max_hops:
        return hops
    below = min(max(hops, 1), max_hops)
    above = min(below + 1, max_hops) if below * hop_samples < buffer_samples else below
    nearest = " or ".join(str(n * hop_samples) for n in sorted({below, above}))
    valid = f"1 to {max_hops} hops" if max_hops > 1 else "one hop"
    raise UsageError(
        f"a buffer of {buffer_samples} samples is not {valid} of {hop_samples} samples; "
        f"nearest valid: {nearest} samples"
    )
