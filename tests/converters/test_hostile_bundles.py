"""Every spoiled bundle of tests/fixtures/hostile_bundles.py at every door of ours: refused, and nothing outside."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hearpack
from converters.install.install import install
from models.common.errors import BundleError, HearpackError
from models.common.hashing import sha256_tree
from runtimes.bundle import Bundle
from streaming.files.wav import write_wav
from tests.fixtures.hostile_bundles import CASES, FACTORIES, LABELS, MARK, RATE, edit, make, make_good, with_factory

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """An Android sample app, as far as `install` looks at one."""
    folder = tmp_path / "android-sample"
    folder.mkdir()
    shutil.copyfile(ROOT / "android-sample" / "bundle-schema.txt", folder / "bundle-schema.txt")
    (folder / "build.gradle.kts").write_text("// ours\n")
    return folder


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    file = tmp_path / "a.wav"
    write_wav(file, np.zeros((1, RATE), np.float32), RATE)
    return file


@pytest.fixture
def doors(sample: Path, audio: Path) -> dict[str, Callable[[Path], Any]]:
    """What reads a bundle; each raises, or returns what it found."""

    def verify(folder: Path) -> None:
        report = hearpack.verify(folder, artefacts=["litert-fp32"], seconds=2.0)
        if not report.passed:
            failed = [c.metric for item in report.artefacts for c in item.checks if not c.passed]
            raise BundleError("; ".join([*report.artefacts[0].lax, *failed]))

    def inspect(folder: Path) -> None:
        report: Any = hearpack.inspect(folder)
        if report.damaged:
            raise BundleError(report.damaged[0])
        for artefact in Bundle.open(folder).manifest.artefacts:  # `intact` says so without the reason
            if not next(a.intact for a in report.artefacts if a.id == artefact.id):
                Bundle.open(folder).check_files([artefact])

    return {
        "open": Bundle.open,
        "verify": verify,
        "inspect": inspect,
        "install": lambda folder: install(folder, android=sample),
        "run": lambda folder: hearpack.run(folder, audio),
    }


def test_the_good_bundle_passes_every_door(
    doors: dict[str, Callable[[Path], Any]], tmp_path: Path, sample: Path
) -> None:
    bundle = make_good(tmp_path / "good")
    for door in doors.values():
        door(bundle)
    Bundle.open(bundle).check_whole()
    assert Bundle.open(bundle).labels() == LABELS
    target = sample / "app" / "src" / "main" / "assets" / "bundles" / bundle.name
    copied = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    manifest = Bundle.open(bundle).manifest
    assert copied == {"manifest.json", "litert/tiny.fp32.tflite", *(entry.path for entry in manifest.files)}


@pytest.mark.parametrize("name", CASES)
def test_a_spoiled_bundle_is_refused(
    name: str, doors: dict[str, Callable[[Path], Any]], tmp_path: Path, sample: Path
) -> None:
    case = CASES[name]
    folder = make(name, tmp_path)
    app = sha256_tree(sample)
    outside = tmp_path / "outside"
    before = sha256_tree(outside) if outside.is_dir() else ""
    for door in case.doors:
        with pytest.raises(HearpackError, match=case.why):
            doors[door](folder)
    assert sha256_tree(sample) == app
    assert not outside.is_dir() or sha256_tree(outside) == before
    if "open" in case.doors:  # then nothing else gets past it either
        for door in doors.values():
            with pytest.raises(HearpackError):
                door(folder)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60
    assert sum(case.apps for case in CASES.values()) >= 40


@pytest.mark.parametrize("custom", [True, False], ids=["custom", "catalogue"])
@pytest.mark.parametrize("name", FACTORIES)
def test_nothing_that_a_bundle_names_is_run(
    name: str, custom: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path / "cache"))
    folder = make_good(tmp_path / name, coreml=False)
    with_factory(folder, FACTORIES[name], custom)
    monkeypatch.chdir(folder.parent)
    report = hearpack.verify(folder)
    assert report.reference == "golden"
    assert report.passed
    assert not list(tmp_path.rglob(MARK))


@pytest.mark.parametrize("sources", [None, [], [{"path": "other.py", "sha256": "0" * 64}]], ids=str)
def test_the_users_word_is_run_only_where_its_hash_fits(sources: Any, tmp_path: Path) -> None:
    folder = make_good(tmp_path / "a", coreml=False)
    with_factory(folder, "evil.py:build", custom=True)
    edit(folder, lambda m: m["original"].update(sources=sources))
    with pytest.raises(HearpackError, match=r"evil.py is not the file that was exported, so it was not run"):
        hearpack.verify(folder, original=f"{folder.parent / 'evil.py'}:build")
    assert not list(tmp_path.rglob(MARK))


def test_a_bundle_that_is_not_of_the_net_it_names_is_refused(tmp_path: Path) -> None:
    folder = make_good(tmp_path / "a", coreml=False)
    edit(folder, lambda m: m.update(original={"factory": "models.yamnet:build", "weights_sha256": "1" * 64}))
    with pytest.raises(BundleError, match=r"the manifest's geometry is not that of 'models.yamnet:build'"):
        hearpack.verify(folder)


def test_a_link_in_place_of_parity_is_not_written_through(tmp_path: Path) -> None:
    folder = make_good(tmp_path / "a", coreml=False)
    (tmp_path / "outside").mkdir()
    (folder / "parity").symlink_to(tmp_path / "outside")
    report = hearpack.verify(folder)
    assert report.passed
    assert "is a link" in report.not_kept
    assert not list((tmp_path / "outside").iterdir())
