"""`quality`: each artefact of a bundle beside its float32 artefact, on pairs and on a labelled folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.bundle.reference import compare, stream
from converters.bundle.test_audio import VERIFY_SECONDS, noisy_speech
from converters.quality.judge import KINDS, Judge, Series, names_for
from converters.quality.labelled import open_labelled
from converters.quality.pairs import USUAL_PAIRS, Pair, made_pairs, read_pairs
from models.common.errors import UsageError
from models.common.files import as_path
from models.common.progress import Progress, silent
from runtimes.bundle import Artefact, Bundle
from runtimes.engines import Choice, engines_for, open_runtime
from runtimes.protocol import Runtime
from streaming.metrics.parity import AudioParity


@dataclass(frozen=True)
class QualityFigure:
    """One figure, the mean over the clips.

    Attributes:
        name: "si_sdr", "pesq", "stoi", "lsd", "dnsmos"; "top1", "top5", "decisions", "score_error", "accuracy", "map".
        unit: of all the values.
        better: "higher" or "lower".
        reference, value: of the float32 artefact, and of this one.
        difference, low, high: value less reference, clip by clip, and its 95 % interval by bootstrap over the clips.
        clips: how many it was measured on.
    """

    name: str
    unit: str
    better: str
    reference: float
    value: float
    difference: float
    low: float
    high: float
    clips: int


@dataclass(frozen=True)
class ArtefactQuality:
    """One artefact.

    Attributes:
        artefact, engine: what computed.
        size_bytes: of the artefact.
        figures: in a fixed order.
        minute_snr_db, minute_drift_db: an enhancer against the reference over a minute, its states handed on: the whole
            stream's SNR, and that of the first ten seconds less that of the last; None of a classifier.
    """

    artefact: str
    engine: str
    size_bytes: int
    figures: tuple[QualityFigure, ...]
    minute_snr_db: float | None
    minute_drift_db: float | None


@dataclass(frozen=True)
class QualityReport:
    """What `hearpack quality` says.

    Attributes:
        bundle: its folder's name.
        reference: the artefact that the others are compared with.
        material: what they heard, in words.
        artefacts: the others.
        absent: figures that could not be computed, each with the reason.
    """

    bundle: str
    reference: str
    material: str
    artefacts: tuple[ArtefactQuality, ...]
    absent: tuple[tuple[str, str], ...]


def quality(
    bundle: Bundle | str | Path,
    artefacts: Sequence[str] | None = None,
    *,
    pairs: int = USUAL_PAIRS,
    pairs_folder: str | Path | None = None,
    labelled: str | Path | None = None,
    dnsmos: bool = False,
    progress: Progress = silent,
) -> QualityReport:
    """What the artefacts of a bundle lose that people notice, beside its float32 artefact.

    Args:
        bundle: an enhancer or a classifier of one channel, with an fp32 artefact.
        artefacts: ids; all but the reference by default.
        pairs: how many pairs of clean and noisy speech are made, 1 to 120.
        pairs_folder: the user's own instead, FOLDER/noisy/NAME and FOLDER/clean/NAME.
        labelled: of a classifier, FOLDER/CLASS/CLIP: accuracy and mean average precision are measured there.
        dnsmos: DNSMOS too (an enhancer; about 0.2 s a clip).
        progress: called with (what, fraction done).

    Returns:
        the report.

    Raises:
        UsageError: no fp32 artefact, an unknown one, nothing to compare, or folders that hold nothing.
        AudioError: a file that cannot be read, or is silent.
    """
    opened = Bundle.of(bundle)
    manifest = opened.manifest
    labels = opened.labels()
    folder = None if labelled is None else open_labelled(Path(labelled), labels)
    names = names_for(manifest, folder, dnsmos)
    reference = reference_of(opened)
    known = {a.id: a for a in manifest.artefacts if a.id != reference.id}
    unknown = [a for a in artefacts or () if a not in known]
    if unknown or not known:
        raise UsageError(
            f"{opened.path}: expected one or more of {', '.join(known) or 'its artefacts'} to compare with "
            f"{reference.id}, got {', '.join(unknown) or 'none: it holds nothing else'}"
        )
    own, rate = as_path(pairs_folder), manifest.geometry.sample_rate_hz
    clips: tuple[Pair, ...]
    clips = made_pairs(rate, pairs, progress) if own is None else read_pairs(own, rate)
    judge = Judge(manifest, labels, _open(opened, reference), clips, folder, names, progress)
    minute = noisy_speech(rate, VERIFY_SECONDS)[1] if manifest.gives_audio else None
    truth = None if minute is None else stream(manifest, _open(opened, reference), minute)
    found = []
    for artefact in (known[name] for name in artefacts or known):
        runtime = _open(opened, artefact)
        series = judge.figures(runtime, what=f"{artefact.id}: clips", progress=progress)
        parity = None
        if minute is not None and truth is not None:
            parity = compare(manifest, truth, stream(manifest, runtime, minute))
        whole = parity if isinstance(parity, AudioParity) else None
        found.append(
            ArtefactQuality(
                artefact.id,
                engines_for(artefact)[0],
                artefact.size_bytes,
                tuple(figure_of(s) for s in series.values()),
                None if whole is None else whole.snr_db,
                None if whole is None else whole.drift_db,
            )
        )
    heard = f"{len(clips)} pairs of clean and noisy speech, {'of seeds 1301 on' if own is None else f'from {own.name}'}"
    if folder is not None:
        heard += f"; {len(folder.clips)} clips of {len(folder.classes)} classes from {folder.folder.name}"
    return QualityReport(opened.path.name, reference.id, heard, tuple(found), tuple(sorted(judge.absent.items())))


def reference_of(bundle: Bundle) -> Artefact:
    """The float32 artefact that the others are compared with, LiteRT's before Core ML's.

    Raises:
        UsageError: there is none.
    """
    artefacts = {a.id: a for a in bundle.manifest.artefacts}
    for name in ("litert-fp32", "coreml-fp32"):
        if name in artefacts:
            return artefacts[name]
    raise UsageError(
        f"{bundle.path}: has no fp32 artefact to compare with; export it with --precision fp32,... (it has "
        f"{', '.join(artefacts)})"
    )


def figure_of(series: Series) -> QualityFigure:
    """A series in one line."""
    unit, better = KINDS[series.name]
    reference, value = float(series.reference.mean()), float(series.values.mean())
    return QualityFigure(
        series.name, unit, better, reference, value, series.difference, series.low, series.high, series.values.size
    )


def _open(bundle: Bundle, artefact: Artefact) -> Runtime:
    return open_runtime(bundle, Choice(artefact, engines_for(artefact)[0]))
