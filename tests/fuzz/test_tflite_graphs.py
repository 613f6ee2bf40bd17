"""Valid flatbuffers with a wrong graph: the checks refuse them, LiteRT does, or the child dies in our place."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "tests" / "fixtures" / "tflite"
CASES = 250
AGAIN = (
    "import tests.fuzz.tflite_graphs as g\nfrom tests.fuzz.tflite_mutators import Mutator\n"
    "from models.common.errors import ArtefactError\n"
    "base = open({file!r}, 'rb').read(); _, tflite = Mutator(base).mutate({seed})\n"
    "for engine in g.ENGINES:\n"
    "    try:\n"
    "        g.LiteRTRuntime(tflite, g.signature_of(base), engine)\n"
    "    except ArtefactError as exc:\n"
    "        assert len(str(exc).splitlines()) == 1, exc\n"
    "print('alive')\n"
)


@pytest.mark.parametrize(
    ("name", "first"), [("step.tflite", 500_000), ("window.tflite", 600_000), ("window.tflite", 2_000)]
)
def test_one_wrong_field_is_refused_or_dies_in_the_child(name: str, first: int) -> None:
    file, end, outcomes = FILES / name, first + CASES, Counter[str]()
    while first < end:
        command = [sys.executable, "-m", "tests.fuzz.tflite_graphs", str(file), str(first), str(end - first)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        lines = done.stdout.splitlines()
        outcomes.update(line.split()[2] for line in lines if line.startswith("end "))
        if done.returncode == 0:
            break
        assert lines, done.stderr
        seed = int(lines[-1].split()[1])
        assert lines[-1].startswith("begin "), "it died between two cases"
        outcomes["died"] += 1
        code = AGAIN.format(file=str(file), seed=seed)
        again = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert (again.returncode, again.stdout) == (0, "alive\n"), f"{lines[-1]}: {again.stderr[-500:]}"
        first = seed + 1
    assert outcomes.total() > 0.8 * CASES, outcomes
    assert outcomes["refused"] > 0.2 * CASES, outcomes
    assert outcomes["ran"] > 0.2 * CASES, "nearly nothing runs: the changes are no fuzz of LiteRT"
    assert outcomes["died"] < 0.02 * CASES, "the checks let through what kills LiteRT"
