"""The table of readers: for each kind of file a good one, how it is damaged, and who reads it.

Another kind is another `Kind` in `KINDS`: its `make` writes good files into an empty folder, `targets` names those to
damage and how, and `read` does what a user would do with the folder. `read` may raise a HearpackError and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.mutate import Mutation

Reader = Callable[[Path, Random], None]


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: in the table of results.
        make: writes good files into a folder.
        targets: (file relative to the folder, damage); one is chosen a case.
        read: the readers' calls; the generator may choose among them.
        after: mends what would hide the damage from the readers behind it, a hash for instance.
        suite: cases that the test suite tries.
        per_process: cases after which a fresh process goes on.
    """

    name: str
    make: Callable[[Path], None]
    targets: tuple[tuple[str, Mutation], ...]
    read: Reader
    after: Callable[[Path], None] | None = None
    suite: int = 150
    per_process: int = 5_000


def kinds() -> dict[str, Kind]:
    """All kinds by name."""
    from tests.fuzz import artefacts, audio, bundles, documents

    found = (*documents.KINDS, *bundles.KINDS, *audio.KINDS, *artefacts.KINDS)
    return {kind.name: kind for kind in found}
