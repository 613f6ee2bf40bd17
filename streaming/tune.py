"""Thresholds and smoothing from a labelled recording: every setting of a grid is tried with the arithmetic of the apps.

Chosen is, label by label and for each smoothing, the setting with
1. no more false alarms an hour than allowed,
2. the highest recall,
3. a delay within one window hop of the shortest,
4. the fewest events: a ring that is told five times is a nuisance,
5. the on threshold in the middle of those that do equally well: one at the edge of what works here fails elsewhere.
Then the smoothing that finds most, with the fewest false alarms, soonest.

Settings judged on the recording that chose them look better than they are. So the recording is also cut in two between
labelled intervals, each part judged with the settings that the other part chose: the held-out figures.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import UsageError
from models.progress import Progress, silent
from runtimes.bundle import MANIFEST, Bundle, Decisions, LabelDecisions, parse_manifest
from runtimes.opening import choose, open_runtime
from streaming.detection import DecisionQuality, Heard, detections, judge
from streaming.file_run import hear_scores
from streaming.labelled import Interval, read_labels
from streaming.wav import atomic_file, read_wav

ON_THRESHOLDS = tuple(
    float(t) for t in (0.02, 0.03, 0.05, 0.07, *np.round(np.arange(0.1, 0.95, 0.05), 2).tolist(), 0.93, 0.96, 0.98)
)
OFF_RATIOS = (1.0, 0.6, 0.3)
MIN_ON_HOPS = (0, 2, 3)
MIN_OFF_HOPS = (0, 2, 4)
SMOOTHING = (1, 2, 3)


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


@dataclass(frozen=True)
class HeldOut:
    """Judged on what did not choose: the two parts' figures added up.

    Attributes:
        parts: judged part and its figures, with the settings that the other part chose.
        references, found, false_alarms: sums.
        why_not: why there are no held-out figures, or None.
    """

    parts: tuple[DecisionQuality, ...]
    references: int
    found: int
    false_alarms: int
    why_not: str | None


@dataclass(frozen=True)
class TuneReport:
    """What tuning found.

    Attributes:
        bundle, recording, labels_file: what was used.
        labels: those that the labels name; all others keep their decisions, save smoothing.
        collar_s, allowed_per_hour: how was judged.
        tried: settings.
        before: with the manifest's decisions.
        after: with the new ones, on the very recording that chose them.
        held_out: judged on what did not choose.
        other: the new decisions on another recording, if one was given.
        decisions: the new ones.
        other_events: events of all other labels on the recording, before and after: smoothing is shared.
        only: whether the other labels were silenced.
        curve: recall against false alarms, by on threshold.
        met: whether a setting keeps within the allowed false alarms and finds anything.
        written: whether the manifest was changed.
    """

    bundle: str
    recording: str
    labels_file: str
    labels: tuple[str, ...]
    collar_s: float
    allowed_per_hour: float
    tried: int
    before: DecisionQuality
    after: DecisionQuality
    held_out: HeldOut
    other: DecisionQuality | None
    decisions: Decisions
    other_events: tuple[int, int]
    only: bool
    curve: tuple[CurvePoint, ...]
    met: bool
    written: bool


def hear(bundle: Bundle, recording: Path, artefact: str | None = None, progress: Progress = silent) -> Heard:
    """Scores of every label over a recording; UsageError if the bundle is no classifier."""
    if bundle.manifest.task != "classifier":
        raise UsageError(
            f"{bundle.path}: is of task {bundle.manifest.task}; expected a classifier, whose decisions can be judged"
        )
    clip = read_wav(recording)
    choice = choose(bundle, artefact)
    runtime = open_runtime(bundle, choice)
    try:
        heard = hear_scores(bundle, runtime, clip, progress)
    finally:
        runtime.close()
    return Heard(
        bundle.labels(),
        heard.ends - heard.delay_samples,
        heard.scores,
        bundle.manifest.geometry.sample_rate_hz,
        0.0,
        clip.duration_s,
    )


def tune(
    bundle: Bundle,
    recording: Path,
    labels_file: Path,
    *,
    label: str | None = None,
    allowed_per_hour: float = 0.0,
    collar_s: float | None = None,
    only: bool = False,
    artefact: str | None = None,
    judge_on: tuple[Path, Path] | None = None,
    write: bool = True,
    progress: Progress = silent,
) -> TuneReport:
    """Choose decisions for the labels of a recording and put them into the manifest.

    Args:
        bundle: a classifier's bundle; its manifest.json is replaced at the end, whole.
        recording: an audio file.
        labels_file: its labels, see streaming.labelled.
        label: the one that is meant where the file names none.
        allowed_per_hour: false alarms an hour that may remain.
        collar_s: see streaming.detection; one window of the model when None.
        only: let no other label ever turn on (threshold 1).
        artefact: what listens; the fp32 .tflite by default.
        judge_on: another recording and its labels, to judge the result on.
        write: False to look only.
        progress: called with (what, fraction done).

    Raises:
        UsageError: no classifier, labels that do not fit, nothing labelled.
        AudioError, BundleError, OutputError: as their names say.
    """
    manifest = bundle.manifest
    if manifest.task != "classifier" or manifest.decisions is None:
        raise UsageError(
            f"{bundle.path}: is of task {manifest.task}; expected a classifier, whose decisions can be tuned"
        )
    if not allowed_per_hour >= 0.0:
        raise UsageError(f"--false-alarms: expected 0 or more an hour, got {allowed_per_hour}")
    collar = manifest.geometry.window_samples / manifest.geometry.sample_rate_hz if collar_s is None else collar_s
    if not 0.0 <= collar < 60.0:
        raise UsageError(f"--collar: expected 0 to 60 s, got {collar}")
    reference = read_labels(labels_file, bundle.labels(), read_wav(recording).duration_s, label)
    if not reference:
        raise UsageError(f"{labels_file}: labels nothing as true; there is nothing to tune for")
    names = tuple(sorted({r.label for r in reference}))
    everything = hear(bundle, recording, artefact, progress)
    heard = everything.of(names)
    search = _Search(heard, reference, manifest.decisions, collar, allowed_per_hour)
    chosen = search.best(progress)
    decisions = _decisions(manifest.decisions, chosen, only)
    after = judge(heard, decisions, reference, collar)
    met = after.found > 0 and after.false_alarms_per_hour <= allowed_per_hour + 1e-9
    report = TuneReport(
        bundle=bundle.path.name,
        recording=recording.name,
        labels_file=labels_file.name,
        labels=names,
        collar_s=collar,
        allowed_per_hour=allowed_per_hour,
        tried=search.tried,
        before=judge(heard, manifest.decisions, reference, collar),
        after=after,
        held_out=_hold_out(search, only, progress),
        other=None if judge_on is None else _elsewhere(bundle, judge_on, names, label, artefact, decisions, collar),
        decisions=decisions,
        other_events=(_others(everything, names, manifest.decisions), _others(everything, names, decisions)),
        only=only,
        curve=search.curve(chosen),
        met=met,
        written=False,
    )
    if write and met:
        write_decisions(bundle, decisions)
        report = dataclasses.replace(report, written=True)
    return report


def write_decisions(bundle: Bundle, decisions: Decisions) -> None:
    """Put decisions into a bundle's manifest: all of it or nothing, fields that we do not know kept.

    Raises:
        BundleError: the manifest on disk is not valid (any more).
        OutputError: the folder cannot be written.
    """
    file = bundle.path / MANIFEST
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    data["decisions"] = decisions.model_dump(mode="json", exclude_none=True)
    text = json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    parse_manifest(text, str(file))
    with atomic_file(file) as stream:
        stream.write(text.encode())


def _others(everything: Heard, names: Sequence[str], decisions: Decisions) -> int:
    """Events of the labels that are not judged."""
    return sum(event.label not in names for event in detections(everything, decisions))


def _elsewhere(
    bundle: Bundle,
    judge_on: tuple[Path, Path],
    names: tuple[str, ...],
    label: str | None,
    artefact: str | None,
    decisions: Decisions,
    collar_s: float,
) -> DecisionQuality:
    recording, labels_file = judge_on
    reference = read_labels(labels_file, bundle.labels(), read_wav(recording).duration_s, label)
    return judge(hear(bundle, recording, artefact).of(names), decisions, reference, collar_s)


def _decisions(present: Decisions, chosen: Mapping[str, Setting], only: bool) -> Decisions:
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


class _Search:
    """The grid over one recording (or a part of it)."""

    def __init__(
        self, heard: Heard, reference: Sequence[Interval], present: Decisions, collar_s: float, allowed: float
    ) -> None:
        self.heard, self.reference, self.present = heard, reference, present
        self.collar_s, self.allowed = collar_s, allowed
        self.tried = 0
        self.hop_s = present.window_hop_samples / heard.sample_rate_hz

    def part(self, begin_s: float, end_s: float) -> _Search:
        heard = self.heard.part(begin_s, end_s)
        return _Search(heard, self.reference, self.present, self.collar_s, self.allowed)

    def judge_label(self, label: str, setting: Setting) -> DecisionQuality:
        alone = self.heard.of((label,))
        self.tried += 1
        return judge(alone, _decisions(self.present, {label: setting}, False), self.reference, self.collar_s)

    def best(self, progress: Progress = silent) -> dict[str, Setting]:
        """The setting of each label, all with one smoothing."""
        ranked = []
        for number, smoothing in enumerate(SMOOTHING):
            progress("trying settings", number / len(SMOOTHING))
            picks = {label: self._best_of(label, smoothing) for label in self.heard.labels}
            qualities = [q for _, q in picks.values()]
            delays = [q.delay_s.median for q in qualities if q.delay_s is not None]
            rank = (
                sum(q.false_alarms_per_hour > self.allowed for q in qualities),
                -sum(q.found for q in qualities),
                sum(q.false_alarms for q in qualities),
                float(np.mean(delays)) if delays else 0.0,
            )
            ranked.append((rank, smoothing, {label: s for label, (s, _) in picks.items()}))
        progress("trying settings", 1.0)
        return min(ranked, key=lambda r: r[:2])[2]

    def _best_of(self, label: str, smoothing: int) -> tuple[Setting, DecisionQuality]:
        judged = [(s, self.judge_label(label, s)) for s in self._grid(smoothing)]
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


def _hold_out(search: _Search, only: bool, progress: Progress) -> HeldOut:
    cut = _cut(search)
    if cut is None:
        return HeldOut(
            (), 0, 0, 0, "the recording has no gap between labelled intervals that leaves some on both sides"
        )
    progress("held-out halves", 0.0)
    begin, end = search.heard.begin_s, search.heard.end_s
    halves = [search.part(begin, cut), search.part(cut, end)]
    parts = []
    for mine, other in ((0, 1), (1, 0)):
        decisions = _decisions(search.present, halves[other].best(), only)
        parts.append(judge(halves[mine].heard, decisions, search.reference, search.collar_s))
        progress("held-out halves", len(parts) / 2.0)
    total: Callable[[str], int] = lambda field: sum(getattr(p, field) for p in parts)  # noqa: E731
    return HeldOut(tuple(parts), total("references"), total("found"), total("false_alarms"), None)


def _cut(search: _Search) -> float | None:
    """The middle of the gap nearest to the recording's middle, with a reference of every label on both sides."""
    reference = [r for r in search.reference if r.label in search.heard.labels]
    middle = (search.heard.begin_s + search.heard.end_s) / 2.0
    gaps = []
    for candidate in reference:
        later = [r.begin_s for r in reference if r.begin_s >= candidate.end_s]
        if not later:
            continue
        at = (candidate.end_s + min(later)) / 2.0
        spoiled = any(r.begin_s < at < r.end_s for r in reference)
        sides = [{r.label for r in reference if (r.end_s <= at) == before} for before in (True, False)]
        if not spoiled and all(side == set(search.heard.labels) for side in sides):
            gaps.append(at)
    return min(gaps, key=lambda at: abs(at - middle)) if gaps else None
