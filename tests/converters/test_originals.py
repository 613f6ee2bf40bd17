"""converters.originals: the original where it was, moved, changed, gone; with other weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import hearpack
from converters.custom import open_custom
from converters.originals import is_custom_bundle, remember, reopen
from models.common.errors import WeightsError
from models.nets.dtln.entry import DTLN
from models.weights.fetch import cache_dir
from runtimes.bundle import Bundle
from tests.converters.bundle.nets import manifest_of

NETS = Path(__file__).resolve().parents[1] / "fixtures" / "custom"


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle that is a manifest alone, its original and a checkpoint remembered in a cache of the test's own."""
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path / "cache"))
    shutil.copytree(NETS / "mfcc", tmp_path / "net")
    target = f"{tmp_path / 'net' / 'net.py'}:build"
    torch.save(open_custom(target).net.state_dict(), tmp_path / "mine.pt")
    entry = open_custom(target, weights=tmp_path / "mine.pt")
    remember(entry, target, None)
    folder = tmp_path / "out" / "bundle"
    folder.mkdir(parents=True)
    return Bundle(folder, manifest_of(entry, folder, weights=entry.original.weights_sha256))


def record() -> Path:
    (file,) = (cache_dir() / "originals").iterdir()
    return file


def test_what_is_remembered_is_found_and_stays_out_of_the_bundle(remembered: Bundle, tmp_path: Path) -> None:
    where = json.loads(record().read_text())
    assert where == {
        "target": f"{tmp_path / 'net' / 'net.py'}:build",
        "geometry": None,
        "weights": str(tmp_path / "mine.pt"),
    }
    assert str(tmp_path) not in remembered.manifest.dump()
    entry = reopen(remembered)
    assert entry.original.source_sha256 == remembered.manifest.original.source_sha256
    assert entry.weights_file == str(tmp_path / "mine.pt")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_memory_is_as_none(remembered: Bundle, text: str) -> None:
    record().write_text(text)
    with pytest.raises(
        WeightsError, match=r"the original net.py:build is not where it was exported from.*--original PATH"
    ):
        reopen(remembered)


def test_a_checkpoint_that_is_gone_is_asked_for(remembered: Bundle, tmp_path: Path) -> None:
    moved = (tmp_path / "mine.pt").rename(tmp_path / "moved.pt")
    with pytest.raises(
        WeightsError, match=r"the checkpoint that net.py:build was exported with is gone; give --weights"
    ):
        reopen(remembered)
    assert reopen(remembered, weights=moved).weights_file == str(moved)


def test_the_users_word_goes_before_the_memory(remembered: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(NETS / "mfcc", other)
    file = other / "net.py"
    file.write_text(file.read_text().replace("manual_seed(13)", "manual_seed(14)"))
    with pytest.raises(WeightsError, match=r"the weights of net.py:build have changed since the export"):
        reopen(remembered, f"{file}:build")


def test_only_a_users_net_has_the_hash_of_its_source(remembered: Bundle, tmp_path: Path) -> None:
    assert is_custom_bundle(remembered)
    assert not is_custom_bundle(Bundle(tmp_path, manifest_of(DTLN, tmp_path)))


class TestFindingTheOriginalAgain:
    """verify: the original where it was, moved, changed, gone; with other weights."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        shutil.copytree(NETS / "mfcc", tmp_path / "net")
        self.bundle = hearpack.export(
            str(tmp_path / "net" / "net.py"), tmp_path / "out", formats=("litert",), precisions=("fp32",)
        ).path
        return tmp_path / "net"

    def test_in_its_place(self, place: Path) -> None:
        assert hearpack.verify(self.bundle, seconds=3).reference == "torch original"

    def test_gone(self, place: Path) -> None:
        shutil.rmtree(place)
        report = hearpack.verify(self.bundle, seconds=3)
        assert report.reference == "golden"
        assert "the original net.py:build is not where it was exported from" in report.material
        assert "--original" in report.material
        assert report.passed

    def test_moved(self, place: Path) -> None:
        moved = place.rename(place.with_name("elsewhere"))
        report = hearpack.verify(self.bundle, seconds=3, original=f"{moved / 'net.py'}:build")
        assert report.reference == "torch original"

    def test_beside_the_bundle(self, place: Path) -> None:
        for file in place.iterdir():
            shutil.move(file, self.bundle.parent / file.name)
        assert hearpack.verify(self.bundle, seconds=3).reference == "torch original"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("4 * self.second", "5 * self.second", "or its geometry has changed since the export"),
            ("manual_seed(13)", "manual_seed(14)", "the weights of net.py:build have changed since the export"),
        ],
    )
    def test_changed(self, place: Path, old: str, new: str, message: str) -> None:
        file = place / "net.py"
        file.write_text(file.read_text().replace(old, new))
        report = hearpack.verify(self.bundle, seconds=3)
        assert report.reference == "golden"
        assert message in report.material
        with pytest.raises(WeightsError, match=message):
            hearpack.verify(self.bundle, seconds=3, original=str(file))

    def test_geometry_changed(self, place: Path) -> None:
        file = place / "geometry.toml"
        file.write_text(file.read_text().replace("top_db = 80", "top_db = 60"))
        assert "geometry has changed" in hearpack.verify(self.bundle, seconds=3).material
