"""The grid of `hearpack tune` over one recording or a part: every setting tried, the best one, the curve around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from models.common.progress import Progress, silent
from runtimes.bundle import Decisions, LabelDecisions
from streaming.files.labels import Interval
from streaming.metrics.detection import DecisionQuality, Heard, judge

ON_THRESHOLDS = tuple(
    float(t) for t in (0.02, 0.03, 0.05, 0.07, *np.round(np.arange(0.1, 0.95, 0.05), 2).tolist(), 0.93, 0.96, 0.98)
)
OFF_RATIOS = (1.0, 0.6, 0.3)
MIN_ON_HOPS = (0, 2, 3)
MIN_OFF_HOPS = (0, 2, 4)
SMOOTHING = (1, 2, 3)
_TRYING = "trying settings"


@dataclass(frozen=True)
class Setting:
    """What is tried for one label, durations in ms."""

    smoothing_windows: int
    on_threshold: float
    off_threshold: float
    min_on_ms: float
    min_off_ms: float


@dataclass(frozen=True)
class CurvePoint:
    """The trade-off: what another on threshold would give, all else as chosen."""

    label: str
    on_threshold: float
    recall: float
    false_alarms_per_hour: float
    delay_s: float | None
    chosen: bool


def with_settings(present: Decisions, chosen: Mapping[str, Setting], only: bool) -> Decisions:
    """The manifest's decisions with what was chosen for each label."""
    own = dict(present.per_label)
    for label, s in chosen.items():
        own[label] = LabelDecisions(
            on_threshold=s.on_threshold, off_threshold=s.off_threshold, min_on_ms=s.min_on_ms, min_off_ms=s.min_off_ms
        )
    changes: dict[str, Any] = {
        "per_label": own,
        "smoothing_windows": next(iter(chosen.values())).smoothing_windows,
    }
    if only:
        changes |= {"on_threshold": 1.0, "off_threshold": 1.0, "per_label": {n: own[n] for n in chosen}}
    return present.model_copy(update=changes)


class Search:
    """The grid over one recording (or a part of it)."""

    def __init__(
        self, heard: Heard, reference: Sequence[Interval], present: Decisions, collar_s: float, allowed: float
    ) -> None:
        self.heard, self.reference, self.present = heard, reference, present
        self.collar_s, self.allowed = collar_s, allowed
        self.tried = 0
        self.hop_s = present.window_hop_samples / heard.sample_rate_hz

    def part(self, begin_s: float, end_s: float) -> Search:
        heard = self.heard.part(begin_s, end_s)
        return Search(heard, self.reference, self.present, self.collar_s, self.allowed)

    def judge_label(self, label: str, setting: Setting) -> DecisionQuality:
        alone = self.heard.of((label,))
        self.tried += 1
        return judge(alone, with_settings(self.present, {label: setting}, False), self.reference, self.collar_s)

    def best(self, progress: Progress = silent) -> dict[str, Setting]:
        """The setting of each label, all with one smoothing."""
        ranked = []
        turns = len(SMOOTHING) * len(self.heard.labels)
        for number, smoothing in enumerate(SMOOTHING):
            picks = {}
            for turn, label in enumerate(self.heard.labels, number * len(self.heard.labels)):
                picks[label] = self._best_of(label, smoothing, partial(_told, progress, turn, turns))
            qualities = [q for _, q in picks.values()]
            delays = [q.delay_s.median for q in qualities if q.delay_s is not None]
            rank = (
                sum(q.false_alarms_per_hour > self.allowed for q in qualities),
                -sum(q.found for q in qualities),
                sum(q.false_alarms for q in qualities),
                float(np.mean(delays)) if delays else 0.0,
            )
            ranked.append((rank, smoothing, {label: s for label, (s, _) in picks.items()}))
        progress(_TRYING, 1.0)
        return min(ranked, key=lambda r: r[:2])[2]

    def _best_of(
        self, label: str, smoothing: int, progress: Callable[[float], None]
    ) -> tuple[Setting, DecisionQuality]:
        grid, judged = list(self._grid(smoothing)), []
        for number, setting in enumerate(grid):
            progress(number / len(grid))
            judged.append((setting, self.judge_label(label, setting)))
        allowed = [j for j in judged if j[1].false_alarms_per_hour <= self.allowed + 1e-9]
        if not allowed:
            fewest = min(q.false_alarms for _, q in judged)
            allowed = [j for j in judged if j[1].false_alarms == fewest]
        most = max(q.found for _, q in allowed)
        finders = [j for j in allowed if j[1].found == most]
        soonest = min(_delay(q) for _, q in finders)
        finders = [j for j in finders if _delay(j[1]) <= soonest + self.hop_s]
        calmest = min(len(q.detections) for _, q in finders)
        return _middle([j for j in finders if len(j[1].detections) == calmest])

    def _grid(self, smoothing: int) -> Iterable[Setting]:
        hop_ms = 1000.0 * self.hop_s
        for min_off in MIN_OFF_HOPS:
            for min_on in MIN_ON_HOPS:
                for ratio in OFF_RATIOS:
                    for on in ON_THRESHOLDS:
                        yield Setting(smoothing, on, round(on * ratio, 4), min_on * hop_ms, min_off * hop_ms)

    def curve(self, chosen: Mapping[str, Setting]) -> tuple[CurvePoint, ...]:
        """Recall and false alarms of every on threshold, the off threshold following in the chosen ratio."""
        points = []
        for label, setting in chosen.items():
            ratio = setting.off_threshold / setting.on_threshold
            for on in ON_THRESHOLDS:
                other = dataclasses.replace(setting, on_threshold=on, off_threshold=round(on * ratio, 4))
                q = self.judge_label(label, other)
                delay = None if q.delay_s is None else q.delay_s.median
                points.append(
                    CurvePoint(label, on, q.recall, q.false_alarms_per_hour, delay, on == setting.on_threshold)
                )
        return tuple(points)


def _told(progress: Progress, turn: int, turns: int, done: float) -> None:
    progress(_TRYING, (turn + done) / turns)


def _delay(quality: DecisionQuality) -> float:
    return 0.0 if quality.delay_s is None else quality.delay_s.median


def _middle(finders: list[tuple[Setting, DecisionQuality]]) -> tuple[Setting, DecisionQuality]:
    """The middle of the widest run of neighbouring thresholds, among settings alike in all else."""
    families: dict[tuple[float, ...], list[tuple[Setting, DecisionQuality]]] = {}
    for setting, quality in finders:
        ratio = round(setting.off_threshold / setting.on_threshold, 2)
        families.setdefault((ratio, setting.min_on_ms, setting.min_off_ms), []).append((setting, quality))
    best: list[tuple[Setting, DecisionQuality]] = []
    for family in families.values():
        run: list[tuple[Setting, DecisionQuality]] = []
        for item in family:
            at = ON_THRESHOLDS.index(item[0].on_threshold)
            if run and at != ON_THRESHOLDS.index(run[-1][0].on_threshold) + 1:
                run = []
            run.append(item)
            if len(run) > len(best):
                best = list(run)
    return best[len(best) // 2]
