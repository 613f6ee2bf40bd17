"""The two bundles that the simulator's tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtimes.bundle import Bundle


@pytest.fixture(scope="session")
def dtln(exported: dict[str, Path]) -> Bundle:
    return Bundle.open(exported["dtln"])


@pytest.fixture(scope="session")
def yamnet(exported: dict[str, Path]) -> Bundle:
    return Bundle.open(exported["yamnet"])
