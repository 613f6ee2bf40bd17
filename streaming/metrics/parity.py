"""How far a candidate is from the reference over a stream: figures, each with its tolerance, never a bool.

Ratios of two energies are in dB and kept inside +-200 so that they can be written as JSON: an exact match is
200, and so is silence against silence; anything but silence where the reference is silent, or a NaN, is -200.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError

Array = NDArray[np.float32]
Wide = NDArray[np.float64]
Direction = Literal["at most", "at least"]

CAP_DB = 200.0
FRAME_S = 0.1
ENDS_S = 10.0
ACTIVE_DB = -60.0
CLEAR_MARGIN = 0.01

METRICS: Mapping[str, Direction] = {
    "snr_db": "at least",
    "worst_frame_snr_db": "at least",
    "drift_db": "at most",
    "max_abs_error": "at most",
    "score_max_abs_error": "at most",
    "score_mean_abs_error": "at most",
    "score_drift": "at most",
    "top1_flips": "at most",
    "top5_agreement": "at least",
    "top5_clear_flips": "at most",
    "embedding_max_error": "at most",
    "nan_count": "at most",
}
_BY_SIZE = ("drift_db", "score_drift")  # judged by their absolute value: getting better is drift as well


@dataclass(frozen=True)
class _Figures:
    """What one kind of output was found to differ by."""

    def metrics(self) -> dict[str, float]:
        """The figures that a tolerance may name."""
        return {name: float(value) for name, value in dataclasses.asdict(self).items() if name in METRICS}


@dataclass(frozen=True)
class AudioParity(_Figures):
    """Audio against audio.

    A frame is 100 ms (the last one may be shorter); it is *active* if its RMS in the reference is within 60 dB
    of the loudest frame's. Drift looks at the first and last 10 s of the active span (first to last active
    frame), or at its halves if it is shorter than 20 s.

    Attributes:
        samples: length compared.
        snr_db: 10 log10(sum reference^2 / sum error^2).
        worst_frame_snr_db, worst_frame, worst_frame_s: the active frame with the lowest SNR, its index and begin.
        first_snr_db, last_snr_db, drift_db: SNR at both ends, and first minus last (positive: it gets worse).
        max_abs_error: largest finite difference.
        nan_count: samples where the reference or the candidate is NaN or Inf.
    """

    samples: int
    snr_db: float
    worst_frame_snr_db: float
    worst_frame: int
    worst_frame_s: float
    first_snr_db: float
    last_snr_db: float
    drift_db: float
    max_abs_error: float
    nan_count: int


@dataclass(frozen=True)
class ScoreParity(_Figures):
    """Scores against scores, window by window. Equal scores are ranked by label index.

    Attributes:
        windows: windows compared.
        score_max_abs_error, score_mean_abs_error: over all windows and labels.
        worst_window, worst_window_s: the window with the largest error, and its end.
        top1_flips: windows with another label on top.
        top5_agreement: fraction of windows whose five best labels are the same set (all, if there are fewer).
        top5_clear_flips: windows whose set differs although the reference's 5th and 6th differ by more than 0.01.
        first_max_abs_error, last_max_abs_error, score_drift: largest error in the first and the last 10 s (by
            window end; halves of a shorter stream), and last minus first.
        nan_count: scores that are NaN or Inf in the reference or the candidate. Such a window counts as flipped.
    """

    windows: int
    score_max_abs_error: float
    score_mean_abs_error: float
    worst_window: int
    worst_window_s: float
    top1_flips: int
    top5_agreement: float
    top5_clear_flips: int
    first_max_abs_error: float
    last_max_abs_error: float
    score_drift: float
    nan_count: int


@dataclass(frozen=True)
class EmbeddingParity(_Figures):
    """Vectors of unit length against such, window by window.

    The error of a window is the length of the difference: no cosine with another vector of unit length moves by more.

    Attributes:
        windows: windows compared.
        embedding_max_error, embedding_mean_error: over all windows.
        worst_window, worst_window_s: the window with the largest error, and its end.
        nan_count: values that are NaN or Inf in the reference or the candidate; such a window's error is 2.
    """

    windows: int
    embedding_max_error: float
    embedding_mean_error: float
    worst_window: int
    worst_window_s: float
    nan_count: int


Parity = AudioParity | ScoreParity | EmbeddingParity


def ratio_db(signal: float, error: float) -> float:
    """10 log10(signal / error) of two energies, within +-200; see the module's first lines."""
    if not (math.isfinite(signal) and math.isfinite(error)):
        return -CAP_DB
    if error <= 0.0:
        return CAP_DB
    if signal <= 0.0:
        return -CAP_DB
    return min(CAP_DB, max(-CAP_DB, 10.0 * (math.log10(signal) - math.log10(error))))


def audio_parity(reference: Array, candidate: Array, sample_rate_hz: int, lag_samples: int = 0) -> AudioParity:
    """Compare two aligned signals.

    Args:
        reference: float32 [n], what the original gives.
        candidate: float32 [m], what the artefact gives.
        sample_rate_hz: rate of both.
        lag_samples: how far the candidate lags the reference; that much is cut off its front (negative: off the
            reference's). What is left must be equally long.

    Returns:
        the figures.

    Raises:
        UsageError: not one-dimensional, empty, or of unequal length.
    """
    ref, cand = reference[max(0, -lag_samples) :], candidate[max(0, lag_samples) :]
    if ref.ndim != 1 or ref.shape != cand.shape or len(ref) == 0:
        raise UsageError(
            f"parity: expected two signals [n] of one length, n >= 1, got {list(ref.shape)} and {list(cand.shape)} "
            f"with a lag of {lag_samples}"
        )
    wide = ref.astype(np.float64)
    finite = np.isfinite(ref) & np.isfinite(cand)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = cand.astype(np.float64) - wide
    signal_energy = np.where(np.isfinite(wide), wide, 0.0) ** 2
    # A sample that is no number makes the ratio of everything that contains it -200 dB.
    error_energy = np.where(finite, np.where(finite, difference, 0.0) ** 2, math.inf)
    size = max(1, round(FRAME_S * sample_rate_hz))
    starts = np.arange(0, len(wide), size)
    frame_signal, frame_error = np.add.reduceat(signal_energy, starts), np.add.reduceat(error_energy, starts)
    active = _active(frame_signal, np.diff(np.append(starts, len(wide))))
    ratios = np.array([ratio_db(s, e) for s, e in zip(frame_signal, frame_error, strict=True)])
    worst = int(active[np.argmin(ratios[active])])
    first, last = _both_ends(int(starts[active[0]]), min(len(wide), int(starts[active[-1]]) + size), sample_rate_hz)

    def snr(part: slice) -> float:
        return ratio_db(float(signal_energy[part].sum()), float(error_energy[part].sum()))

    first_db, last_db = snr(first), snr(last)
    return AudioParity(
        samples=len(wide),
        snr_db=snr(slice(None)),
        worst_frame_snr_db=float(ratios[worst]),
        worst_frame=worst,
        worst_frame_s=worst * size / sample_rate_hz,
        first_snr_db=first_db,
        last_snr_db=last_db,
        drift_db=first_db - last_db,
        max_abs_error=float(np.max(np.abs(difference[finite]), initial=0.0)),
        nan_count=int((~finite).sum()),
    )


def _active(energies: Wide, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of active frames; all of them where the reference is silent throughout."""
    power = energies / lengths
    return np.flatnonzero(power >= power.max() * 10.0 ** (ACTIVE_DB / 10.0)).astype(np.int64)


def _both_ends(begin: int, end: int, sample_rate_hz: int) -> tuple[slice, slice]:
    length = min(round(ENDS_S * sample_rate_hz), max(1, (end - begin) // 2))
    return slice(begin, begin + length), slice(end - length, end)


def score_parity(reference: Array, candidate: Array, ends: NDArray[np.int64], sample_rate_hz: int) -> ScoreParity:
    """Compare the scores of the same windows.

    Args:
        reference: float32 [windows, labels], what the original gives.
        candidate: float32 [windows, labels], what the artefact gives.
        ends: int64 [windows], each window's end in samples, rising.
        sample_rate_hz: rate of `ends`.

    Returns:
        the figures.

    Raises:
        UsageError: shapes that do not fit, or nothing to compare.
    """
    if reference.ndim != 2 or reference.shape != candidate.shape or reference.size == 0 or len(ends) != len(reference):
        raise UsageError(
            f"parity: expected two score tables [windows, labels] and [windows] ends, at least one of each, got "
            f"{list(reference.shape)}, {list(candidate.shape)} and {list(ends.shape)}"
        )
    ref, cand = reference.astype(np.float64), candidate.astype(np.float64)
    finite = np.isfinite(ref) & np.isfinite(cand)
    broken = ~finite.all(axis=1)
    error = np.abs(np.where(finite, cand, 0.0) - np.where(finite, ref, 0.0))
    per_window = np.where(broken, math.inf, error.max(axis=1))
    worst = int(np.argmax(per_window))
    top = min(5, ref.shape[1])
    ref_rank, cand_rank = _ranking(ref), _ranking(cand)
    same_set = (np.sort(ref_rank[:, :top]) == np.sort(cand_rank[:, :top])).all(axis=1) & ~broken
    clear = np.zeros(len(ref), np.bool_)
    if ref.shape[1] > top:
        ordered = np.take_along_axis(ref, ref_rank, axis=1)
        with np.errstate(invalid="ignore"):
            clear = ordered[:, top - 1] - ordered[:, top] > CLEAR_MARGIN
    length = min(ENDS_S * sample_rate_hz, (int(ends[-1]) - int(ends[0])) / 2)
    in_first, in_last = ends <= ends[0] + length, ends >= ends[-1] - length
    first, last = float(error[in_first].max()), float(error[in_last].max())
    return ScoreParity(
        windows=len(ref),
        score_max_abs_error=float(error.max()),
        score_mean_abs_error=float(error.sum() / max(1, int(finite.sum()))),
        worst_window=worst,
        worst_window_s=float(ends[worst]) / sample_rate_hz,
        top1_flips=int(((ref_rank[:, 0] != cand_rank[:, 0]) | broken).sum()),
        top5_agreement=float(same_set.mean()),
        top5_clear_flips=int((~same_set & (clear | broken)).sum()),
        first_max_abs_error=first,
        last_max_abs_error=last,
        score_drift=last - first,
        nan_count=int((~finite).sum()),
    )


def embedding_parity(
    reference: Array, candidate: Array, ends: NDArray[np.int64], sample_rate_hz: int
) -> EmbeddingParity:
    """Compare the embeddings of the same windows.

    Args:
        reference: float32 [windows, d], what the original gives.
        candidate: float32 [windows, d], what the artefact gives.
        ends: int64 [windows], each window's end in samples, rising.
        sample_rate_hz: rate of `ends`.

    Raises:
        UsageError: shapes that do not fit, or nothing to compare.
    """
    if reference.ndim != 2 or reference.shape != candidate.shape or reference.size == 0 or len(ends) != len(reference):
        raise UsageError(
            f"parity: expected two tables [windows, d] and [windows] ends, at least one of each, got "
            f"{list(reference.shape)}, {list(candidate.shape)} and {list(ends.shape)}"
        )
    finite = np.isfinite(reference) & np.isfinite(candidate)
    difference = np.where(finite, candidate, 0.0).astype(np.float64) - np.where(finite, reference, 0.0)
    errors = np.where(finite.all(axis=1), np.sqrt(np.sum(difference**2, axis=1)), 2.0)
    worst = int(np.argmax(errors))
    return EmbeddingParity(
        windows=len(errors),
        embedding_max_error=float(errors.max()),
        embedding_mean_error=float(errors.mean()),
        worst_window=worst,
        worst_window_s=float(ends[worst]) / sample_rate_hz,
        nan_count=int((~finite).sum()),
    )


def _ranking(scores: Wide) -> NDArray[np.int64]:
    """Label indices from best to worst, a row a window; NaN last, ties by index."""
    return np.argsort(-scores, axis=1, kind="stable").astype(np.int64)


class ToleranceLike(Protocol):
    """What a manifest's tolerance has."""

    @property
    def metric(self) -> str: ...

    @property
    def limit(self) -> float: ...


@dataclass(frozen=True)
class Check:
    """A figure beside its tolerance."""

    metric: str
    value: float
    limit: float
    direction: Direction
    passed: bool


def judge(figures: Parity | Mapping[str, float], tolerances: Iterable[ToleranceLike]) -> list[Check]:
    """Compare figures with tolerances.

    Args:
        figures: a report, or figures by metric.
        tolerances: the metrics asked for, with their limits (a manifest's artefact.tolerance).

    Returns:
        a check for each tolerance, in order. NaN never passes; `drift_db` and `score_drift` are judged by size.

    Raises:
        UsageError: a metric that is unknown, or that this report does not have.
    """
    values = dict(figures) if isinstance(figures, Mapping) else figures.metrics()
    checks = []
    for tolerance in tolerances:
        direction = METRICS.get(tolerance.metric)
        if direction is None:
            raise UsageError(f"tolerance: unknown metric {tolerance.metric!r}; known: {', '.join(METRICS)}")
        if tolerance.metric not in values:
            raise UsageError(f"tolerance: {tolerance.metric!r} was not measured here; measured: {', '.join(values)}")
        value = values[tolerance.metric]
        size = abs(value) if tolerance.metric in _BY_SIZE else value
        passed = size <= tolerance.limit if direction == "at most" else size >= tolerance.limit
        checks.append(Check(tolerance.metric, value, tolerance.limit, direction, bool(passed)))
    return checks
