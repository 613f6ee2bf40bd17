"""The manifest's `dsp`: the plain signal processing around the net, as frozen models (docs/dsp.md has the arithmetic).

A list of stages in the order in which audio meets them: highpass, gain, (gate), the net, wet_dry, limiter; a kind
stands at most once. A kind that a reader does not know is refused: leaving a stage out would change what is
heard. `streaming/core/dsp.py` computes them, Kotlin and Swift to the same bits.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.geometry import OUTPUT_KINDS, Task


class Edited(BaseModel):
    """A part of the manifest that people edit: a key that nobody reads is a slip of theirs, and is refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0.5)
                offer = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(cls.model_fields)}"
                raise ValueError(f"unknown key {str(key)!r:.60}; {offer}")
        return data


class Highpass(Edited):
    """Second-order Butterworth high-pass before the net: takes out DC, handling noise and wind.

    Attributes:
        cutoff_hz: the -3 dB frequency, below 0.45 of the model's rate.
    """

    kind: Literal["highpass"]
    cutoff_hz: float = Field(ge=1.0, le=20_000.0)


class Gain(Edited):
    """A fixed gain before the net.

    Attributes:
        gain_db: -60 to +40.
    """

    kind: Literal["gain"]
    gain_db: float = Field(ge=-60.0, le=40.0)


class Gate(Edited):
    """Windows under a level are not given to a windowed classifier; their scores are zeros.

    Attributes:
        threshold_dbfs: mean square of the window under which it is silent; 0 dBFS is a mean square of 1.0, so a
            full-scale sine has -3.01.
        hold_windows: windows that still run after the last loud one.
    """

    kind: Literal["gate"]
    threshold_dbfs: float = Field(ge=-120.0, le=0.0)
    hold_windows: int = Field(default=0, ge=0, le=1_000)


class WetDry(Edited):
    """How much of the input an enhancer may take away at most; the rest stays, aligned with the output.

    Attributes:
        attenuation_limit_db: 0 leaves the input as it is; 100 and more all but nothing of it.
    """

    kind: Literal["wet_dry"]
    attenuation_limit_db: float = Field(ge=0.0, le=120.0)


class Limiter(Edited):
    """A peak limiter after an enhancer: no delay, attack at once, exponential release.

    Attributes:
        ceiling_dbfs: no output sample lies above it; -60 to 0.
        release_ms: time constant of the gain's way back.
    """

    kind: Literal["limiter"]
    ceiling_dbfs: float = Field(ge=-60.0, le=0.0)
    release_ms: float = Field(ge=1.0, le=10_000.0)


Stage = Annotated[Highpass | Gain | Gate | WetDry | Limiter, Field(discriminator="kind")]
ORDER = ("highpass", "gain", "gate", "wet_dry", "limiter")


def check_stages(stages: Sequence[Stage], task: Task, buffer_kind: str, sample_rate_hz: int) -> None:
    """Raise ValueError where stages do not suit the model; pydantic turns it into its report."""
    kinds = [s.kind for s in stages]
    if kinds != [k for k in ORDER if k in kinds]:
        raise ValueError(f"dsp: stages stand once each and in this order: {', '.join(ORDER)}; got {', '.join(kinds)}")
    output_kind = OUTPUT_KINDS[task]
    if stages and output_kind == "sources":
        raise ValueError(f"dsp: no stage works with a separator yet, got {', '.join(kinds)}")
    for stage in stages:
        if stage.kind == "gate" and (output_kind != "scores" or buffer_kind != "window"):
            raise ValueError("dsp: a gate is for windowed classifiers; a net with state has to hear the silence too")
        if stage.kind in ("wet_dry", "limiter") and output_kind != "audio":
            raise ValueError(f"dsp: {stage.kind} works on an enhancer's output, this is a {task}")
        if isinstance(stage, Highpass) and stage.cutoff_hz > 0.45 * sample_rate_hz:
            raise ValueError(f"dsp: cutoff_hz {stage.cutoff_hz:g} is above 0.45 of the rate of {sample_rate_hz} Hz")
