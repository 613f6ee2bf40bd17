"""A budget: bytes, and how much of each quality figure may be lost. Light."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.common.errors import UsageError
from models.geometry import OutputKind

# name in a budget: (figure of converters/quality/judge.py, which kind of net, whether it is a least value in %)
_FIGURES: Mapping[str, tuple[str, OutputKind, bool]] = {
    "pesq": ("pesq", "audio", False),
    "si-sdr": ("si_sdr", "audio", False),
    "stoi": ("stoi", "audio", False),
    "lsd": ("lsd", "audio", False),
    "top1": ("top1", "scores", False),
    "accuracy": ("accuracy", "scores", False),
    "map": ("map", "scores", False),
    "decisions": ("decisions", "scores", True),
}
_UNITS = {"": 1, "b": 1, "kb": 1_000, "mb": 1_000_000, "kib": 1024, "mib": 1024**2}
# What the search weighs losses by where a budget names a size alone.
_USUAL: Mapping[OutputKind, Mapping[str, float]] = {
    "audio": {"pesq": 0.1, "si_sdr": 0.5},
    "scores": {"decisions": 1.0, "top1": 1.0},
}


@dataclass(frozen=True)
class Budget:
    """What an artefact may weigh and lose.

    Attributes:
        size_bytes: most bytes; None: as small as the losses allow.
        losses: figure -> most that may be lost, in its unit, above 0 (percentage points for shares).
        text: as it was given.
    """

    size_bytes: int | None
    losses: Mapping[str, float] = field(default_factory=dict)
    text: str = ""

    def used(self, losses: Mapping[str, float]) -> float:
        """The largest share of an allowance that is used; up to 1 is within. What was not measured is past it."""
        shares = [losses.get(name, math.inf) / allowed for name, allowed in self.losses.items()]
        return max(shares, default=0.0)

    def apart(self, losses: Mapping[str, float]) -> float:
        """The same by size alone: a figure that is better than float32's is as far from it as one that is worse."""
        return self.used({name: abs(loss) for name, loss in losses.items()})


def parse_budget(text: str, kind: OutputKind, labelled: bool) -> Budget:
    """A budget such as "size=1MB,pesq=-0.05,si-sdr=-0.2" or "size=350kB,decisions=99.5".

    Args:
        text: what the user gave.
        kind: what the net gives; a figure belongs to one kind.
        labelled: whether there is a labelled folder; "top1" is the accuracy there.

    Raises:
        UsageError: not of that form, an unknown figure, or one that cannot be measured.
    """
    size: int | None = None
    losses: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = (p.strip() for p in part.partition("="))
        name = name.lower()
        if not equals or name not in ("size", *_FIGURES):
            raise UsageError(f"--budget: expected NAME=VALUE of size, {', '.join(_FIGURES)}, got {part!r:.60}")
        if name == "size":
            size = _bytes(value)
            continue
        figure, own_kind, least = _FIGURES[name]
        if own_kind != kind:
            known = ", ".join(n for n, (_, k, _) in _FIGURES.items() if k == kind)
            raise UsageError(f"--budget: {name} is no figure of this net; its figures are {known}")
        if figure in ("accuracy", "map") and not labelled:
            raise UsageError(f"--budget: {name} is measured on clips with a class; give --labelled FOLDER")
        losses["accuracy" if name == "top1" and labelled else figure] = _loss(name, value, least)
    if size is None and not losses:
        raise UsageError(
            f"--budget: expected size=..., a figure, or both, such as size=1MB,pesq=-0.05; got {text!r:.60}"
        )
    return Budget(size, losses, text)


def usual_losses(kind: OutputKind) -> Mapping[str, float]:
    """What losses are weighed by where a budget names none; nothing is refused for it."""
    return _USUAL[kind]


def _bytes(value: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)", value)
    if match is None or match[2].lower() not in _UNITS or float(match[1]) <= 0.0:
        raise UsageError(f"--budget: size: expected such as 1MB or 350kB, got {value!r:.40}")
    return round(float(match[1]) * _UNITS[match[2].lower()])


def _loss(name: str, value: str, least: bool) -> float:
    try:
        number = float(value.removesuffix("%"))
    except ValueError:
        number = math.nan
    if least and 0.0 < number < 100.0:
        return 100.0 - number
    if not least and math.isfinite(number) and number != 0.0:
        return abs(number)
    form = "a share in % such as 99.5" if least else "how much may be lost, not 0, such as -0.05"
    raise UsageError(f"--budget: {name}: expected {form}, got {value!r:.40}")
