"""What the tests of the iOS sample share: where things are, and how a command runs where Swift is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "ios-sample"
KIT = SAMPLE / "HearpackKit"
RUN = ROOT / "tools" / "swift_run.sh"
BUILD = ROOT / "build" / "ios"


@dataclass(frozen=True)
class Swift:
    """Runs commands where Swift is. `folders` are visible there under their own paths, besides the repository's."""

    folders: tuple[Path, ...] = ()

    def run(self, *command: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """The finished process, whatever its exit code."""
        line = [str(RUN), str(ROOT), *map(str, self.folders), "--", "env"]
        line += [f"{k}={v}" for k, v in {"HEARPACK_PROBE": "1", **(env or {})}.items()]
        return subprocess.run([*line, *map(str, command)], capture_output=True, text=True, check=False)

    def check(self, *command: str | Path, env: dict[str, str] | None = None) -> str:
        """stdout of a command that must succeed."""
        done = self.run(*command, env=env)
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout


def litert_library() -> Path:
    """libLiteRt of the ai-edge-litert in this environment."""
    litert = pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    name = "libLiteRt.dylib" if sys.platform == "darwin" else "libLiteRt.so"
    return Path(litert.__file__).parent / name


@dataclass(frozen=True)
class Kit:
    """The built kit: its probe, and where the build lies."""

    swift: Swift
    build: Path

    def probe(
        self, job: str, bundle: Path | None = None, artefact: str = "litert-fp32", **fields: Any
    ) -> dict[str, Any]:
        """The probe's answer; fails with its message if it ends with an error."""
        done = self.attempt(job, bundle, artefact, **fields)
        assert done.returncode == 0, done.stderr[-3000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def attempt(
        self, job: str, bundle: Path | None = None, artefact: str = "litert-fp32", **fields: Any
    ) -> subprocess.CompletedProcess[str]:
        if bundle is not None:
            fields |= {"bundle": bundle, "artefact": artefact, "library": litert_library()}
        return self.swift.run(self.build / "release" / "kit-probe", job, *(f"{k}={v}" for k, v in fields.items()))


def build_flags() -> list[str | Path]:
    """The flags that build and test share, so that one build serves both."""
    return ["-c", "release", "-Xswiftc", "-enable-testing", "--package-path", ROOT, "--scratch-path", BUILD]
