"""Classes find their labels by words; accuracy and mean average precision against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.quality.labelled import accuracy, mean_average_precision, open_labelled
from models.common.errors import UsageError

LABELS = ("Speech", "Dog", "Bark", "Crackle", "Fire alarm", "Waves, surf", "Rain")


def _clips(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "1.wav").touch()
    return folder


def test_a_class_is_found_by_its_words(tmp_path: Path) -> None:
    found = open_labelled(_clips(tmp_path, "dog_bark", "crackling", "sea_waves"), LABELS)
    assert dict(zip(found.classes, found.labels, strict=True)) == {
        "crackling": (3,),
        "dog_bark": (1, 2),
        "sea_waves": (5,),
    }
    assert [(file.parent.name, index) for file, index in found.clips] == [
        ("crackling", 0),
        ("dog_bark", 1),
        ("sea_waves", 2),
    ]
    scores = found.class_scores(np.array([[0.0, 0.2, 0.4, 0.1, 0, 0.3, 0], [0.0, 0.8, 0.2, 0.1, 0, 0.1, 0]]))
    assert scores == pytest.approx([0.1, 0.5, 0.2])


def test_a_class_may_be_told_its_labels(tmp_path: Path) -> None:
    _clips(tmp_path, "huey", "rain")
    with pytest.raises(UsageError, match=r"stands for huey; say which in classes.csv"):
        open_labelled(tmp_path, LABELS)
    (tmp_path / "classes.csv").write_text('huey,"Waves, surf"\nhuey,Speech\n')
    assert open_labelled(tmp_path, LABELS).labels == ((5, 0), (6,))
    (tmp_path / "classes.csv").write_text("huey,Whale\n")
    with pytest.raises(UsageError, match="line 1: expected CLASS,LABEL"):
        open_labelled(tmp_path, LABELS)


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no clips"):
        open_labelled(tmp_path, LABELS)
    with pytest.raises(UsageError, match="no such folder"):
        open_labelled(tmp_path / "none", LABELS)


def test_accuracy_and_precision_by_hand() -> None:
    scores = np.array([[0.9, 0.1], [0.6, 0.7], [0.2, 0.4], [0.1, 0.3]])
    truth = np.array([0, 0, 1, 1])
    assert accuracy(scores, truth).tolist() == [1.0, 0.0, 1.0, 1.0]
    # Class 0 ranks its two first: 1. Class 1 ranks clip 1 before its own: (1/2 + 2/3) / 2.
    assert mean_average_precision(scores, truth) == pytest.approx((1.0 + (1 / 2 + 2 / 3) / 2) / 2)
