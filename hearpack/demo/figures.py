"""The two pictures of the demonstration: spectrograms before and after, and scores over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearpack.demo.run import BELL, Timeline
from models.common.errors import MissingDependencyError
from models.common.files import atomic_file

Array = NDArray[np.float32]

LEVELS_DB = 70.0
SHOWN_LABELS = 7


def _pyplot() -> Any:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as exc:
        raise MissingDependencyError("matplotlib", "export", "drawing pictures") from exc
    return plt


def _save(figure: Any, path: Path) -> None:
    with atomic_file(path) as file:
        # No creation date or version inside: same figures, same bytes.
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    _pyplot().close(figure)


def spectrograms(signals: dict[str, Array], sample_rate_hz: int, path: Path) -> None:
    """Log spectrograms one above the other, on one colour scale.

    Args:
        signals: float32 [n] each, by title; the first sets the scale.
        sample_rate_hz: rate of all.
        path: a .png.

    Raises:
        MissingDependencyError: librosa or matplotlib is absent.
        OutputError: the picture cannot be written.
    """
    pyplot = _pyplot()
    try:
        import librosa
    except ImportError as exc:
        raise MissingDependencyError("librosa", "export", "drawing spectrograms") from exc
    figure, axes = pyplot.subplots(
        len(signals), 1, figsize=(10, 2.3 * len(signals) + 0.6), sharex=True, layout="constrained"
    )
    magnitudes = {title: np.abs(librosa.stft(x, n_fft=512, hop_length=128)) for title, x in signals.items()}
    reference = float(max(m.max() for m in magnitudes.values()))
    image = None
    for axis, (title, magnitude) in zip(np.atleast_1d(axes), magnitudes.items(), strict=True):
        level = librosa.amplitude_to_db(magnitude, ref=reference, top_db=None)
        seconds = signals[title].size / sample_rate_hz
        extent = (0.0, seconds, 0.0, sample_rate_hz / 2000.0)
        image = axis.imshow(
            level, origin="lower", aspect="auto", extent=extent, vmin=-LEVELS_DB, vmax=0.0, cmap="magma"
        )
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_ylabel("kHz")
    np.atleast_1d(axes)[-1].set_xlabel("s")
    figure.colorbar(image, ax=axes, label="dB re loudest bin", fraction=0.03)
    _save(figure, path)


def score_timeline(timeline: Timeline, path: Path) -> None:
    """Scores of the labels that were most active, events as bars, the hand-labelled bells shaded.

    Args:
        timeline: what the classifier gave.
        path: a .png.
    """
    pyplot = _pyplot()
    peaks = timeline.scores.max(axis=0)
    order = [int(i) for i in np.argsort(-peaks, kind="stable")]
    bell = timeline.labels.index(BELL) if BELL in timeline.labels else order[0]
    shown = [bell, *[i for i in order if i != bell][: SHOWN_LABELS - 1]]
    figure, (upper, lower) = pyplot.subplots(
        2, 1, figsize=(10, 5.4), sharex=True, layout="constrained", height_ratios=(2, 1.2)
    )
    colours = pyplot.get_cmap("tab10")
    for rank, index in enumerate(shown):
        width = 2.2 if index == bell else 1.1
        upper.plot(
            timeline.ends_s, timeline.scores[:, index], lw=width, color=colours(rank), label=timeline.labels[index]
        )
    for axis in (upper, lower):
        for number, (begin, end) in enumerate(timeline.labelled):
            shade = "labelled by hand: bicycle bell" if number == 0 and axis is upper else None
            axis.axvspan(begin, end, color="0.5", alpha=0.18, lw=0, label=shade)
    upper.set_ylabel("score")
    upper.set_ylim(0.0, 1.0)
    upper.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    _event_bars(lower, timeline, shown, colours)
    lower.set_xlabel("s (scores stand at the end of their window)")
    _save(figure, path)


def _event_bars(axis: Any, timeline: Timeline, shown: list[int], colours: Any) -> None:
    rows = {index: row for row, index in enumerate(reversed(shown))}
    for event in timeline.events:
        if event.index in rows:
            colour = colours(shown.index(event.index))
            axis.barh(rows[event.index], event.offset_s - event.onset_s, left=event.onset_s, height=0.7, color=colour)
    axis.set_yticks(list(rows.values()), [timeline.labels[i] for i in rows], fontsize=8)
    axis.set_ylabel("events")
