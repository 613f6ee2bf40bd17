"""docs/api.md: every public name and no other, and its examples run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import hearpack
from models.weights.fetch import cache_dir
from streaming.files.wav import read_wav, write_wav

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
PARTS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}
EXAMPLES = {
    name: block for name, part in PARTS.items() for block in re.findall(r"^```python\n(.*?)^```$", part, re.M | re.S)
}
SLOW = {"Measure"}  # fresh processes, paced calls


def names(page: str) -> list[str]:
    """The names in the first column of the page's tables."""
    return re.findall(r"^\| `(\w+)", page, re.M)


def test_the_page_names_every_public_name_and_no_other() -> None:
    assert sorted(names(PAGE)) == sorted(hearpack.__all__)


def test_a_missing_name_would_be_found() -> None:
    assert sorted(names(PAGE.replace("| `simulate(", "| `simulated("))) != sorted(hearpack.__all__)


def test_every_part_of_the_page_has_an_example() -> None:
    assert list(EXAMPLES) == list(PARTS)
    assert len(PARTS) > 5


@pytest.fixture
def place(exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples name."""
    for name in ("dtln", "yamnet"):
        shutil.copytree(exported[name], tmp_path / exported[name].name)
    street = next(cache_dir().glob("street-*")) / "mini-test.wav"
    shutil.copy(street, tmp_path / "street.wav")
    shutil.copy(street.with_suffix(".csv"), tmp_path / "street.csv")
    clip = read_wav(street)
    write_wav(tmp_path / "noisy.wav", clip.samples[:, : 3 * clip.sample_rate_hz], clip.sample_rate_hz)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_run(place: Path) -> None:
    for name, example in EXAMPLES.items():
        if name not in SLOW:
            exec(compile(example, f"docs/api.md, {name}", "exec"), {})
    assert {"events.csv", "clean.wav", "a.run", "report.html"} <= {path.name for path in place.iterdir()}


@pytest.mark.slow
def test_the_measurements_run(place: Path) -> None:
    for name in SLOW:
        exec(compile(EXAMPLES[name], f"docs/api.md, {name}", "exec"), {})
    assert (place / "calibration.json").is_file()
    assert (place / "cold.json").is_file()
