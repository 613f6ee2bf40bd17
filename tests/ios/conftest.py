"""Swift for the tests: the toolchain, where there is one, and the kit, built once for all of them.

On Debian Swift lives in a chroot (make swift-toolchain, tools/swift_run.sh); a Mac has its own. Where there is none,
every test that needs it skips by name with the reason; with CI=true it fails instead.
"""

from __future__ import annotations

import fcntl
import os
import subprocess

import pytest

from tests.ios.swift_kit import BUILD, ROOT, RUN, Kit, Swift, build_flags, litert_library


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Swift:
    """Swift with the repository, the environment's packages and pytest's temporary folder in sight."""
    ready = subprocess.run(
        [str(RUN), str(ROOT), "--", "swift", "--version"], capture_output=True, text=True, check=False
    )
    if ready.returncode != 0:
        reason = f"no Swift 6 here ({ready.stderr.strip().splitlines()[-1]})"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}: CI must not skip this")
        pytest.skip(reason)
    return Swift((litert_library().parent, tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="session")
def kit(swift: Swift) -> Kit:
    """HearpackKit with its tests and its probe, built once; workers of xdist wait for each other."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        output = swift.check("swift", "build", "--build-tests", *build_flags())
    assert "warning:" not in output, output
    return Kit(swift, BUILD)
