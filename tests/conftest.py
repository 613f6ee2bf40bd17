"""What several test files need: the shared audio, where it is, and the bundles, exported once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """../shared beside the checkout, with audio and reference files for tests."""
    if not (SHARED / "data").is_dir():
        pytest.skip("../shared is not beside this checkout: its audio and reference files are not part of the product")
    return SHARED


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three models exported to both formats at both precisions, through the cache. Never write into these."""
    from hearpack import export

    output = tmp_path_factory.mktemp("exported")
    return {name: export(name, output).path for name in ("yamnet", "dtln", "gtcrn")}


@pytest.fixture
def copy_of(exported: dict[str, Path], tmp_path: Path):
    """A function that copies a bundle to where a test may damage it."""

    def copy(name: str) -> Path:
        target = tmp_path / exported[name].name
        shutil.copytree(exported[name], target)
        return target

    return copy
