"""Thresholds and smoothing from a labelled recording: every setting of a grid is tried with the arithmetic of the apps.

Chosen is, label by label and for each smoothing, the setting with
1. no more false alarms an hour than allowed,
2. the highest recall,
3. a delay within one window hop of the shortest,
4. the fewest events: a ring that is reported five times is a nuisance,
5. the on threshold in the middle of those that do equally well: one at the edge of what works here fails elsewhere.
Then the smoothing that finds most, with the fewest false alarms, soonest.

Settings judged on the recording that chose them look better than they are. So the recording is also cut in two between
labelled intervals, each part judged with the settings that the other part chose: the held-out figures.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.common.errors import UsageError
from models.common.files import atomic_file
from models.common.parsing import parse_json
from models.common.progress import Progress, silent
from runtimes.bundle import MANIFEST, Bundle, Decisions, parse_manifest, read_inside
from runtimes.engines import choose, open_runtime
from streaming.files.hearing import hear_scores
from streaming.files.labels import read_labels
from streaming.files.levels import InputLevel
from streaming.files.reader import AudioReader, duration_of
from streaming.metrics.detection import DecisionQuality, Heard, detections, judge
from streaming.tuning.search import CurvePoint, Search, with_settings


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
        level, warnings: what the recording looks like, and what a person has to know of its file.
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
    level: InputLevel
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Listened:
    """Scores of every label over a recording, and what a person has to know of it."""

    heard: Heard
    level: InputLevel
    warnings: tuple[str, ...]


def hear(bundle: Bundle, recording: Path, artefact: str | None = None, progress: Progress = silent) -> Listened:
    """Scores of every label over a recording; UsageError if the bundle is no classifier."""
    if bundle.manifest.output_kind != "scores":
        raise UsageError(
            f"{bundle.path}: is of task {bundle.manifest.task}; expected a classifier, whose decisions can be judged"
        )
    with AudioReader(recording) as reader, closing(open_runtime(bundle, choose(bundle, artefact))) as runtime:
        heard = hear_scores(bundle, runtime, reader, progress)
        everything = Heard(
            bundle.labels(),
            heard.ends - heard.delay_samples,
            heard.scores,
            bundle.manifest.geometry.sample_rate_hz,
            0.0,
            reader.duration_s,
            bundle.manifest.buffer.samples - heard.delay_samples,
        )
        return Listened(everything, reader.level(), reader.warnings)


def tune(
    bundle: Bundle | str | Path,
    recording: str | Path,
    labels: str | Path,
    *,
    label: str | None = None,
    false_alarms_per_hour: float = 0.0,
    collar_s: float | None = None,
    only: bool = False,
    artefact: str | None = None,
    judge_on: tuple[str | Path, str | Path] | None = None,
    write: bool = True,
    progress: Progress = silent,
) -> TuneReport:
    """Choose decisions for the labels of a recording and put them into the manifest.

    Args:
        bundle: a classifier's bundle, or its folder; only `decisions` of its manifest.json change.
        recording: an audio file.
        labels: its labels; see streaming.files.label_formats.
        label: the one that is meant where the file names none.
        false_alarms_per_hour: false alarms an hour that may remain.
        collar_s: see streaming.metrics.detection; one window of the model when None.
        only: let no other label ever turn on (threshold 1).
        artefact: what listens; the fp32 .tflite by default.
        judge_on: another recording and its labels, to judge the result on.
        write: False to look only.
        progress: called with (what, fraction done).

    Returns:
        figures before, after and held out, the trade-off curve, and the decisions.

    Raises:
        UsageError: no classifier, labels that do not fit, nothing labelled.
        AudioError, BundleError, OutputError: as their names say.
    """
    bundle, recording, labels_file = Bundle.of(bundle), Path(recording), Path(labels)
    manifest = bundle.manifest
    if manifest.output_kind != "scores" or manifest.decisions is None:
        raise UsageError(
            f"{bundle.path}: is of task {manifest.task}; expected a classifier, whose decisions can be tuned"
        )
    if not false_alarms_per_hour >= 0.0:
        raise UsageError(f"--false-alarms: expected 0 or more an hour, got {false_alarms_per_hour}")
    collar = manifest.geometry.window_samples / manifest.geometry.sample_rate_hz if collar_s is None else collar_s
    if not 0.0 <= collar < 60.0:
        raise UsageError(f"--collar: expected 0 to 60 s, got {collar}")
    reference = read_labels(labels_file, bundle.labels(), duration_of(recording), label, recording.name)
    if not reference:
        raise UsageError(f"{labels_file}: labels nothing as true; there is nothing to tune for")
    names = tuple(sorted({r.label for r in reference}))
    listened = hear(bundle, recording, artefact, progress)
    everything = listened.heard
    heard = everything.of(names)
    search = Search(heard, reference, manifest.decisions, collar, false_alarms_per_hour)
    chosen = search.best(progress)
    decisions = with_settings(manifest.decisions, chosen, only)
    after = judge(heard, decisions, reference, collar)
    met = after.found > 0 and after.false_alarms_per_hour <= false_alarms_per_hour + 1e-9
    report = TuneReport(
        bundle=bundle.path.name,
        recording=recording.name,
        labels_file=labels_file.name,
        labels=names,
        collar_s=collar,
        allowed_per_hour=false_alarms_per_hour,
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
        level=listened.level,
        warnings=listened.warnings,
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
    data: dict[str, Any] = parse_json(read_inside(bundle.path, MANIFEST).decode("utf-8"))
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
    judge_on: tuple[str | Path, str | Path],
    names: tuple[str, ...],
    label: str | None,
    artefact: str | None,
    decisions: Decisions,
    collar_s: float,
) -> DecisionQuality:
    recording, labels_file = map(Path, judge_on)
    reference = read_labels(labels_file, bundle.labels(), duration_of(recording), label, recording.name)
    return judge(hear(bundle, recording, artefact).heard.of(names), decisions, reference, collar_s)


def _hold_out(search: Search, only: bool, progress: Progress) -> HeldOut:
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
        decisions = with_settings(search.present, halves[other].best(), only)
        parts.append(judge(halves[mine].heard, decisions, search.reference, search.collar_s))
        progress("held-out halves", len(parts) / 2.0)
    return HeldOut(
        parts=tuple(parts),
        references=sum(p.references for p in parts),
        found=sum(p.found for p in parts),
        false_alarms=sum(p.false_alarms for p in parts),
        why_not=None,
    )


def _cut(search: Search) -> float | None:
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
