"""A journal gives back what it was told, to the same question alone, also after a kill in the middle of a line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from converters.search.journal import Journal
from models.common.errors import OutputError

ROOT = Path(__file__).resolve().parents[3]
_KILLED = """
import os, sys
from pathlib import Path
from converters.search.journal import Journal
journal = Journal(Path(sys.argv[1]), {"net": "a"})
for n in range(5):
    journal.put({"n": n}, {"bytes": n})
journal._file.write(b'{"key": "half a li')
journal._file.flush()
os.kill(os.getpid(), 9)
"""


def test_what_was_measured_is_known_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.jsonl"
    done = subprocess.run([sys.executable, "-c", _KILLED, str(path)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    journal = Journal(path, {"net": "a"})
    assert [journal.get({"n": n}) for n in range(5)] == [{"bytes": n} for n in range(5)]
    assert journal.get({"n": 5}) is None
    assert journal.found == 5
    journal.put({"n": 5}, {"bytes": 5})
    journal.close()
    assert Journal(path, {"net": "a"}).get({"n": 5}) == {"bytes": 5}
    assert Journal(path, {"net": "b"}).get({"n": 1}) is None  # other weights, clips or versions


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--output"):
        Journal(tmp_path / "file" / "net.jsonl", {})
