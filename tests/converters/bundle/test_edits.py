"""converters.bundle.edits: what a user edited is found, kept from an older bundle, and never lost to a slip."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.bundle.edits import edits_of, present_bundle
from models.common.errors import OutputError
from runtimes.bundle import Bundle
from tests.fixtures.hostile_bundles import edit, make_good


@pytest.fixture
def made(tmp_path: Path) -> Bundle:
    return Bundle.open(make_good(tmp_path / "made", coreml=False))


@pytest.fixture
def present(tmp_path: Path) -> Path:
    return make_good(tmp_path / "present", coreml=False)


def test_nothing_edited_is_nothing(present: Path, made: Bundle) -> None:
    bundle = present_bundle(present, made)
    assert bundle is not None
    assert edits_of(bundle) == {}
    assert present_bundle(present.parent / "none", made) is None


def test_edits_of_a_bundle_without_hashes_are_kept(present: Path, made: Bundle) -> None:
    edit(present, lambda m: (m.pop("files"), m["decisions"].update(on_threshold=0.77)))
    bundle = present_bundle(present, made)
    assert bundle is not None
    decisions = bundle.manifest.decisions
    assert decisions is not None
    assert decisions.on_threshold == 0.77
    assert edits_of(bundle) == {"decisions": decisions}


def test_a_slip_in_an_edit_is_named_and_nothing_is_replaced(present: Path, made: Bundle) -> None:
    edit(present, lambda m: m["decisions"].update(on_treshold=0.1))
    with pytest.raises(OutputError, match=r"did you mean 'on_threshold'.*an export keeps such edits: mend it"):
        present_bundle(present, made)


def test_a_damaged_manifest_is_replaced(present: Path, made: Bundle) -> None:
    edit(present, lambda m: m.pop("geometry"))
    assert present_bundle(present, made) is None
    (present / "manifest.json").write_text("{")
    assert present_bundle(present, made) is None
