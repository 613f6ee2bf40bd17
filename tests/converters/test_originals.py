"""converters.originals: the original where it was, moved, changed, gone; with other weights."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch

import hearpack
from converters.custom import open_custom
from converters.originals import is_custom_bundle, remember, reopen
from models.common.errors import WeightsError
from models.custom.entry import CustomEntry
from models.nets.dtln.entry import DTLN
from models.weights.fetch import cache_dir
from runtimes.bundle import Bundle
from tests.converters.bundle.nets import manifest_of

NETS = Path(__file__).resolve().parents[1] / "fixtures" / "custom"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CustomEntry]:
    """A net opened with a checkpoint beside it, and the folder of both."""
    folder = tmp_path_factory.mktemp("original")
    shutil.copytree(NETS / "mfcc", folder / "net")
    torch.save(runpy.run_path(str(folder / "net" / "net.py"))["build"]().state_dict(), folder / "mine.pt")
    return folder, open_custom(f"{folder / 'net' / 'net.py'}:build", weights=folder / "mine.pt")


@pytest.fixture
def remembered(opened: tuple[Path, CustomEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle that is a manifest alone, its original and checkpoint remembered in a cache of the test's own."""
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path / "cache"))
    folder, entry = opened
    remember(entry, f"{folder / 'net' / 'net.py'}:build", None)
    bundle = tmp_path / "out" / "bundle"
    bundle.mkdir(parents=True)
    return Bundle(bundle, manifest_of(entry, bundle, weights=entry.original.weights_sha256))


def record() -> Path:
    (file,) = (cache_dir() / "originals").iterdir()
    return file


def test_what_is_remembered_is_found_and_stays_out_of_the_bundle(
    remembered: Bundle, opened: tuple[Path, CustomEntry]
) -> None:
    folder, entry = opened
    sources = [list(pair) for pair in entry.source_files]
    assert [path for path, _ in sources] == ["net.py"]
    where = {
        "target": f"{folder / 'net' / 'net.py'}:build",
        "geometry": None,
        "weights": str(folder / "mine.pt"),
        "sources": sources,
    }
    assert json.loads(record().read_text()) == where
    assert str(folder) not in remembered.manifest.dump()
    found = reopen(remembered)
    assert found == entry
    assert found.weights_file == str(folder / "mine.pt")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_memory_is_as_none(remembered: Bundle, text: str) -> None:
    record().write_text(text)
    with pytest.raises(
        WeightsError, match=r"the original net.py:build is not where it was exported from.*--original PATH"
    ):
        reopen(remembered)


def test_a_checkpoint_that_is_gone_is_asked_for(remembered: Bundle, opened: tuple[Path, CustomEntry]) -> None:
    mine = opened[0] / "mine.pt"
    where = json.loads(record().read_text())
    record().write_text(json.dumps({**where, "weights": str(mine.with_name("gone.pt"))}))
    with pytest.raises(
        WeightsError, match=r"the checkpoint that net.py:build was exported with is gone; give --weights"
    ):
        reopen(remembered)
    assert reopen(remembered, weights=mine).weights_file == str(mine)


def test_the_users_word_goes_before_the_memory(remembered: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(NETS / "mfcc", other)
    file = other / "net.py"
    file.write_text(file.read_text().replace("manual_seed(13)", "manual_seed(14)"))
    with pytest.raises(WeightsError, match=r"has changed since the export: net.py is not .*so it was not run"):
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

    def test_beside_the_bundle_it_is_not_looked_for(self, place: Path) -> None:
        for file in place.iterdir():
            shutil.move(file, self.bundle.parent / file.name)
        assert hearpack.verify(self.bundle, seconds=3).reference == "golden"
        beside = str(self.bundle.parent / "net.py")
        assert hearpack.verify(self.bundle, seconds=3, original=beside).reference == "torch original"

    @pytest.mark.parametrize(
        ("old", "new"), [("4 * self.second", "5 * self.second"), ("import torch", "import torch\nraise SystemExit")]
    )
    def test_changed_it_is_not_run(self, place: Path, old: str, new: str) -> None:
        file, message = place / "net.py", "has changed since the export: net.py is not the file that was exported"
        file.write_text(file.read_text().replace(old, new, 1))
        report = hearpack.verify(self.bundle, seconds=3)
        assert report.reference == "golden"
        assert message in report.material
        with pytest.raises(WeightsError, match=message):
            hearpack.verify(self.bundle, seconds=3, original=str(file))

    def test_geometry_changed(self, place: Path) -> None:
        file = place / "geometry.toml"
        file.write_text(file.read_text().replace("top_db = 80", "top_db = 60"))
        assert "geometry has changed" in hearpack.verify(self.bundle, seconds=3).material
