"""What a search leaves, as a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.quality.report import QualityFigure


@dataclass(frozen=True)
class Plan:
    """One plan and what was measured of it.

    Attributes:
        size_bytes: of the artefact; of Core ML before it is made an estimate.
        losses: figure -> mean loss against float32, positive where it is worse.
    """

    size_bytes: int
    losses: Mapping[str, float]


@dataclass(frozen=True)
class FormatResult:
    """What the search found for one format.

    Attributes:
        artefact: "litert-mixed-int4".
        met: whether it is within the budget, measured on the artefact itself where there is one.
        size_bytes: of the artefact in the bundle; of the nearest plan where the budget is not met.
        figures: of the artefact itself on all clips; of the plan where the budget is not met.
        uniform: int8 everywhere, on the same clips.
        parts: part -> its precision.
        plans: every plan that was measured on all clips, by size.
        single: (part, precision, bytes saved, losses) of every part by itself, on a few clips.
        measured, remembered: plans measured now, and taken from the journal.
    """

    artefact: str
    met: bool
    size_bytes: int
    figures: tuple[QualityFigure, ...]
    uniform: Plan
    parts: Mapping[str, str]
    plans: tuple[Plan, ...]
    single: tuple[tuple[str, str, int, Mapping[str, float]], ...]
    measured: int
    remembered: int


@dataclass(frozen=True)
class CompressReport:
    """What `hearpack compress` leaves.

    Attributes:
        name: of the net.
        budget: as it was given.
        path: the bundle; None where the budget is not met.
        plot: PNG of size against loss.
        journal: where the measurements are kept.
        clips: how many all clips are.
        formats: what was found for each.
    """

    name: str
    budget: str
    path: Path | None
    plot: Path
    journal: Path
    clips: int
    formats: tuple[FormatResult, ...]

    @property
    def met(self) -> bool:
        """Whether every format is within the budget."""
        return all(result.met for result in self.formats)
