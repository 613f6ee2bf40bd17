"""A labelled folder, FOLDER/CLASS/CLIP, and what a classifier makes of it: accuracy and mean average precision.

A class belongs to the labels of the net that share a word with it ("dog_bark": Dog, Bark), or to those that
FOLDER/classes.csv names, a line each: CLASS,LABEL.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import UsageError

CLASSES_FILE = "classes.csv"
_SUFFIXES = frozenset({".wav", ".ogg", ".flac", ".mp3", ".aiff", ".aif"})
# Two words are one where they begin with so many equal letters and differ by an ending: crackling, crackle.
_STEM = 5


@dataclass(frozen=True)
class Labelled:
    """Clips with their classes.

    Attributes:
        folder: where they are.
        classes: names, sorted.
        labels: per class, the indices of the net's labels that stand for it.
        clips: (file, index of its class), by path.
    """

    folder: Path
    classes: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    clips: tuple[tuple[Path, int], ...]

    def class_scores(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """A clip's score for each class: of its labels the largest, each averaged over the windows.

        Args:
            scores: [windows, labels].

        Returns:
            float64 [classes].
        """
        means = np.asarray(scores, np.float64).mean(axis=0)
        return np.array([means[list(indices)].max() for indices in self.labels])


def open_labelled(folder: Path, labels: Sequence[str]) -> Labelled:
    """A labelled folder, for a net with these labels.

    Raises:
        UsageError: no such folder, no clips, or a class that no label stands for.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected FOLDER/CLASS/CLIP.wav")
    found = {
        place.name: sorted(f for f in place.rglob("*") if f.suffix.lower() in _SUFFIXES)
        for place in sorted(folder.iterdir())
        if place.is_dir() and not place.name.startswith(".")
    }
    classes = tuple(name for name, files in found.items() if files)
    if not classes:
        raise UsageError(f"{folder}: holds no clips; expected FOLDER/CLASS/CLIP.wav (or .ogg, .flac, .mp3)")
    given = _given(folder / CLASSES_FILE, labels)
    indices = tuple(given.get(name) or _by_words(name, labels) for name in classes)
    unknown = [name for name, own in zip(classes, indices, strict=True) if not own]
    if unknown:
        raise UsageError(
            f"{folder}: no label of the net stands for {', '.join(unknown)}; say which in {CLASSES_FILE}, "
            f"a line each: CLASS,LABEL"
        )
    clips = tuple((file, classes.index(name)) for name in classes for file in found[name])
    return Labelled(folder, classes, indices, clips)


def accuracy(class_scores: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Per clip, 1 where its own class has the largest score, else 0. Takes [clips, classes] and [clips]."""
    right: NDArray[np.float64] = (class_scores.argmax(axis=1) == truth).astype(np.float64)
    return right


def mean_average_precision(class_scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Mean over the classes of the average precision of their clips, ranked by score; ties by the clips' order.

    Args:
        class_scores: [clips, classes].
        truth: [clips].

    Returns:
        0 to 1, over the classes that have clips.
    """
    precisions = []
    for index in np.unique(truth):
        hits = (truth == index)[np.argsort(-class_scores[:, index], kind="stable")]
        ranks = np.flatnonzero(hits) + 1
        precisions.append(float(np.mean(np.arange(1, ranks.size + 1) / ranks)))
    return float(np.mean(precisions))


def _given(file: Path, labels: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
    if not file.is_file():
        return {}
    places = {label: index for index, label in enumerate(labels)}
    named: dict[str, list[int]] = {}
    with file.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.reader(stream), start=1):
            if len(row) != 2 or row[1].strip() not in places:
                raise UsageError(f"{file}, line {number}: expected CLASS,LABEL with a label of the net, got {row}")
            named.setdefault(row[0].strip(), []).append(places[row[1].strip()])
    return {name: tuple(indices) for name, indices in named.items()}


def _by_words(name: str, labels: Sequence[str]) -> tuple[int, ...]:
    """Labels that share most words with a class's name."""
    wanted = _words(name)
    shared = [sum(any(_same(a, b) for b in _words(label)) for a in wanted) for label in labels]
    most = max(shared, default=0)
    return tuple(index for index, count in enumerate(shared) if count == most and most > 0)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", text.lower()) if len(word) > 1]


def _same(a: str, b: str) -> bool:
    if a == b or a + "s" == b or b + "s" == a:
        return True
    return len(a) > _STEM and len(b) > _STEM and a[:_STEM] == b[:_STEM]
