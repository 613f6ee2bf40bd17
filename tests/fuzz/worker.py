"""One process that tries cases of one kind: python -m tests.fuzz.worker KIND SEED FIRST COUNT FOLDER.

Its lines: "begin NUMBER", then "end NUMBER OUTCOME TEXT". A process that dies, hangs or grows is the parent's finding.
"""

from __future__ import annotations

import faulthandler
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from random import Random

from models.common.errors import HearpackError
from tests.fuzz.kinds import Kind, kinds

LONGEST_LINE = 300


def damaged(kind: Kind, good: Path, seed: int, number: int, folder: Path) -> Random:
    """A damaged copy of the good files in `folder`; the generator that goes on."""
    random = Random(f"{kind.name}/{seed}/{number}")
    shutil.copytree(good, folder)
    name, damage = random.choice(kind.targets)
    file = folder / name
    file.write_bytes(damage(random, file.read_bytes()))
    if kind.after is not None:
        kind.after(folder)
    return random


def outcome(kind: Kind, folder: Path, random: Random) -> tuple[str, str]:
    """(ok, clean, text or traceback; what was said)."""
    try:
        kind.read(folder, random)
    except HearpackError as exc:
        said = str(exc)
        return ("clean" if said.isprintable() and 0 < len(said) <= LONGEST_LINE else "text"), said
    except Exception as exc:
        frames = traceback.extract_tb(exc.__traceback__)
        ours = [f for f in frames if "site-packages" not in f.filename and "/tests/fuzz/" not in f.filename]
        place = (ours or frames)[-1]
        return "traceback", f"{type(exc).__name__} at {Path(place.filename).name}:{place.lineno}: {exc}"
    return "ok", ""


def main(name: str, seed: int, first: int, count: int, place: Path) -> None:
    kind = kinds()[name]
    good = place / "good"
    if not good.is_dir():
        making = place / "making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        kind.make(making)
        making.rename(good)
        kind.read(Path(shutil.copytree(good, place / "first")), Random(0))
    for number in range(first, first + count):
        _tell(f"begin {number}")
        with tempfile.TemporaryDirectory(dir=place) as folder:
            random = damaged(kind, good, seed, number, Path(folder) / "case")
            found, said = outcome(kind, Path(folder) / "case", random)
        _tell(f"end {number} {found} {said.encode('ascii', 'backslashreplace').decode()[:400]}")


def _tell(line: str) -> None:
    _OUT.write(" ".join(line.split()) + "\n")
    _OUT.flush()


if __name__ == "__main__":
    faulthandler.enable()
    warnings.simplefilter("ignore")
    _OUT = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is not our protocol
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
