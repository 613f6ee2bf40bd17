"""The Android toolchain, and one run of all Kotlin tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fixtures import hostile_bundles
from tools.android import jvm, reference, toolchain


@pytest.fixture(scope="session")
def tools() -> toolchain.Toolchain:
    """The installed toolchain; its absence skips by name, except in CI, where nothing may be missing."""
    if reason := toolchain.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, so nothing may be skipped: {reason}")
        pytest.skip(reason)
    return toolchain.find()


@pytest.fixture(scope="session")
def kotlin(
    tools: toolchain.Toolchain, exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> jvm.KotlinRun:
    """All Kotlin tests, in one JVM."""
    folder = tmp_path_factory.mktemp("kotlin") / "given"
    reference.write(exported, folder)
    hostile_bundles.main(folder / "hostile")
    return jvm.run_tests(tools, folder)
