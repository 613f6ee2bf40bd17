"""models.custom.taken: what takes part in building a net changes what an export is known by, and nothing else does."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.custom.loading import Loaded, load, parse_target

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def loaded(file: Path) -> Loaded:
    return load(parse_target(str(file)))


def test_a_package_from_elsewhere_is_imported_anew_and_known_by_its_content(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = write("elsewhere/door_parts/blocks.py", "GAIN = 1\n")
    write("elsewhere/door_parts/__init__.py", "")
    net = write("net/net.py", "from door_parts.blocks import GAIN\ndef build(): return GAIN\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    first = loaded(net)
    assert loaded(net).taken_sha256 == first.taken_sha256
    parts.write_text("GAIN = 22\n")
    second = loaded(net)
    assert (first.result, second.result) == (1, 22)
    assert first.sources == second.sources
    assert first.taken_sha256 != second.taken_sha256
    sys.modules.pop("door_parts.blocks", None)
    sys.modules.pop("door_parts", None)


@pytest.mark.parametrize(
    "reads",
    [
        "import json\ndef build(): return json.load(open(HERE / 'config.json'))['gain']\n",
        "def build(): return len((HERE / 'config.json').read_bytes())\n",
        "import numpy as np\ndef build(): return len(np.fromfile(HERE / 'config.json', 'u1'))\n",
        "TEXT = (HERE / 'config.json').read_text()\ndef build(): return TEXT\n",
    ],
)
def test_a_file_that_is_read_counts_with_its_content(reads: str, write: Write) -> None:
    config = write("config.json", '{"gain": 1}')
    net = write("net.py", f"from pathlib import Path\nHERE = Path(__file__).parent\n{reads}")
    first = loaded(net)
    config.write_text('{"gain": 10}')
    second = loaded(net)
    assert first.result != second.result
    assert first.sources == second.sources
    assert first.taken_sha256 != second.taken_sha256
    config.write_text('{"gain": 1}')
    assert loaded(net).taken_sha256 == first.taken_sha256


def test_the_same_files_at_another_place_are_the_same(write: Write, tmp_path: Path) -> None:
    write("one/data/config.json", "{}")
    net = write(
        "one/net.py",
        "import json\nfrom pathlib import Path\n"
        "def build(): return json.loads((Path(__file__).parent / 'data' / 'config.json').read_text())\n",
    )
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert loaded(net).taken_sha256 == loaded(tmp_path / "two" / "net.py").taken_sha256


def test_what_is_only_written_or_read_by_an_import_does_not_count(write: Write, tmp_path: Path) -> None:
    plain = write("plain.py", "def build(): return 1\n")
    busy = write(
        "busy.py",
        "import importlib, pathlib, wave\n"  # imports read files of Python's own
        f"LOG = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "def build():\n    importlib.reload(wave)\n    LOG.open('a').write('x')\n    return 1\n",
    )
    assert loaded(plain).taken_sha256 == loaded(busy).taken_sha256 == loaded(busy).taken_sha256


def test_another_version_of_what_the_user_imports_counts(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("site-packages/door_blocks/__init__.py", "")
    record = write("site-packages/Door_Blocks-1.0.dist-info/RECORD", "door_blocks/__init__.py,sha256=a,0\n")
    net = write("net.py", "import sys, door_blocks as blocks\ndef build(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    first = loaded(net)
    assert loaded(net).taken_sha256 == first.taken_sha256
    record.write_text("door_blocks/__init__.py,sha256=b,0\n")
    assert loaded(net).taken_sha256 != first.taken_sha256
    sys.modules.pop("door_blocks", None)
