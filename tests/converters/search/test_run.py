"""The whole command on a small net; and a search that is killed goes on where it was, to the same end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from converters.quality.judge import Series
from converters.search.budget import Budget
from converters.search.journal import Journal
from converters.search.parts import Part
from converters.search.run import _Search, compress
from models.common.errors import UsageError
from models.nets.dtln.entry import DTLN
from runtimes.bundle import Bundle

ROOT = Path(__file__).resolve().parents[3]
_SIZES = {"fp32": 40, "int8": 10, "int4": 5}
_LOST = {"fp32": 0.0, "int8": 0.004, "int4": 0.02}


class FakeBuilder:
    """Sizes and losses add up; a runtime is its own modules."""

    format = "litert"

    def precisions(self, part: Part) -> tuple[str, ...]:
        return ("int8",) if part.kept else ("int8", "int4")

    def make(self, modules: dict[str, str]) -> tuple[Any, int]:
        size = sum(_SIZES[p] for p in modules.values())
        return SimpleNamespace(modules=modules, close=lambda: None), size


class FakeJudge:
    """Counts what it is asked for, and kills the process at a count."""

    def __init__(self, kill_at: int = 0) -> None:
        self.pairs, self.asked, self.kill_at = (1, 2), 0, kill_at

    def figures(self, runtime: Any, *_further: Any) -> dict[str, Series]:
        self.asked += 1
        if self.asked == self.kill_at:
            os.kill(os.getpid(), 9)
        lost = sum(_LOST[p] for p in runtime.modules.values())
        return {"pesq": Series("pesq", np.array([2.0]), np.array([2.0 - lost]), 0.0, 0.0)}


def searched(journal: Path, kill_at: int = 0) -> tuple[dict[str, str], int]:
    """The choices of a search, and how much it measured."""
    parts = tuple(
        Part(name, (name,), 1000, frozenset({"CONV_2D"}), name == "p0", False) for name in ("p0", "p1", "p2", "p3")
    )
    judge, kept = FakeJudge(kill_at), Journal(journal, {"net": "fake"})
    net: Any = SimpleNamespace(parts=parts, model=DTLN)
    ran = _Search(net, judge, kept, FakeBuilder(), lambda _what, _fraction: None).run(  # type: ignore[arg-type]
        Budget(None, {"pesq": 0.05})
    )
    kept.close()
    return dict(ran.found.chosen.choices), judge.asked


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, asked = searched(tmp_path / "whole.jsonl")
    for kill_at in (3, 4, 5):  # a kill in each of three runs, one after the other
        code = (
            "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from test_run import searched\n"
            f"searched(Path(sys.argv[2]), {kill_at})"
        )
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "killed.jsonl")]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
        assert done.returncode == -9
    resumed, rest = searched(tmp_path / "killed.jsonl")
    assert resumed == whole
    assert rest == asked - (2 + 3 + 4)
    again, nothing = searched(tmp_path / "killed.jsonl")
    assert (again, nothing) == (whole, 0)


def test_a_net_is_compressed_into_a_bundle_within_its_budget(tmp_path: Path) -> None:
    report = compress("silero-vad", "size=0.45MB,decisions=90", tmp_path, formats=["litert"], pairs=2)
    assert report.met
    assert report.path is not None
    (result,) = report.formats
    (artefact,) = Bundle.open(report.path).manifest.artefacts
    assert artefact.id == result.artefact
    assert artefact.size_bytes == result.size_bytes <= 450_000
    assert artefact.precision.weights == result.artefact.removeprefix("litert-")
    figures = {f.name: f for f in result.figures}
    assert figures["decisions"].difference >= -10.0
    assert result.uniform.size_bytes > result.size_bytes  # its front end stays in float32
    assert report.plot.read_bytes().startswith(b"\x89PNG")
    assert result.measured > 0

    hopeless = compress("silero-vad", "size=1kB,decisions=90", tmp_path, formats=["litert"], pairs=2)
    assert not hopeless.met
    assert hopeless.path is None
    assert hopeless.formats[0].remembered > 0
    assert hopeless.formats[0].size_bytes < 450_000  # the nearest that can


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pesq is no figure of this net"):
        compress("silero-vad", "pesq=-0.1", tmp_path)
    with pytest.raises(UsageError, match="formats: expected one or more of litert, coreml"):
        compress("silero-vad", "decisions=99", tmp_path, formats=["onnx"])
    with pytest.raises(UsageError, match="found none"):
        compress("silero-vad", "decisions=99", tmp_path, pairs_folder=tmp_path)
