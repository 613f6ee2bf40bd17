"""What needs Apple's packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.coreai.convert import convert
from runtimes.coreai.deps import cannot_run
from tests.converters.coreai.gated import GEOMETRY, SIGNATURE, TEXTS, Gated


@pytest.fixture(scope="session")
def needs_coreai() -> None:
    reason = cannot_run()
    if reason:
        pytest.skip(f"Core AI: {reason}")


@pytest.fixture(scope="session")
def gated(needs_coreai: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net above as an .aimodel. Never write into it."""
    path = tmp_path_factory.mktemp("coreai") / "gated.aimodel"
    convert(Gated().eval(), SIGNATURE, path, GEOMETRY, TEXTS)
    return path
