"""The user's cache: what is in it, what may go, and a bound for the exports it keeps."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import UsageError
from models.common.files import LOCK, free_to_remove
from models.common.temporary import is_temporary, leftovers, remove, sweep
from models.weights.fetch import SUMS, cache_dir

EXPORTS = "exports"
PACKED = "xnnpack"
LIMIT = "HEARPACK_CACHE_LIMIT"
LIMIT_GB = 10.0
_DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Kind:
    """Things of one kind in the cache.

    Attributes:
        name: "exports", "packed weights", "leftovers", "weights and audio" or "other".
        what: in words.
        items, size_bytes: how many there are, and their size.
        free_items, free_bytes: of them, those that were removed, or would be.
    """

    name: str
    what: str
    items: int
    size_bytes: int
    free_items: int
    free_bytes: int


@dataclass(frozen=True)
class Cleaning:
    """What `clean` found.

    Attributes:
        cache: the folder.
        removed: whether it was removed, or only counted.
        kinds: by kind.
    """

    cache: Path
    removed: bool
    kinds: tuple[Kind, ...]

    @property
    def free_bytes(self) -> int:
        return sum(kind.free_bytes for kind in self.kinds)


def clean(*, dry_run: bool = True, older_than_days: float = 0.0, weights: bool = False) -> Cleaning:
    """Free the user's cache of what can be made again; leftovers of killed processes go too, in TMPDIR as well.

    An export that another process is making or copying stays.

    Args:
        dry_run: only count it; False removes it.
        older_than_days: keep what was used since; leftovers go at any age.
        weights: whether weights and audio go too, which need the network to come back.

    Returns:
        what there is, by kind, and what of it was or would be removed.

    Raises:
        UsageError: a negative age.
    """
    if not (math.isfinite(older_than_days) and older_than_days >= 0.0):
        raise UsageError(f"--older-than: expected 0 days or more, got {older_than_days:g}")
    before = time.time() - older_than_days * _DAY_S
    cache = cache_dir()
    rubble = list(_rubble(cache))
    exports, packed, pulled, other = _exports(cache), _packed(cache), _pulled(cache), _other(cache)

    def kind(name: str, what: str, paths: list[Path], goes: bool, free: Callable[[Path], bool]) -> Kind:
        sizes = {path: _size(path) for path in paths}
        going = [p for p in paths if goes and (paths is rubble or _used(p) <= before)]
        if not dry_run:
            going = [p for p in going if free(p)]
        return Kind(name, what, len(paths), sum(sizes.values()), len(going), sum(sizes[p] for p in going))

    kinds = (
        kind("leftovers", "of processes that were killed", rubble, True, _remove),
        kind("exports", "made again when they are wanted", exports, True, free_to_remove),
        kind("packed weights", "XNNPACK's, made again when they are wanted", packed, True, _remove),
        kind("weights and audio", "fetched again with a network; go with --weights", pulled, weights, _remove),
        kind("other", "records of originals, toolchains; never removed", other, False, _remove),
    )
    return Cleaning(cache, not dry_run, kinds)


def cache_limit_bytes() -> float:
    """How much the exports in the cache may take: $HEARPACK_CACHE_LIMIT in GB, 10 without it.

    Raises:
        UsageError: it is no such number.
    """
    text = os.environ.get(LIMIT) or f"{LIMIT_GB:g}"
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not limit >= 0.0:
        raise UsageError(f"{LIMIT}={text}: expected GB, 0 or more, for the exports that the cache keeps (inf: all)")
    return limit * 1e9


def trim(keep: Path, limit_bytes: float) -> None:
    """Remove the exports that were not used for longest, until the rest is within the limit; and leftovers of kills.

    Args:
        keep: the export that was just made; it stays, as do those that are in use.
        limit_bytes: for all exports together.
    """
    entries = _exports(cache_dir())
    for entry in entries:
        sweep(entry)
    sizes = {entry: _size(entry) for entry in sorted(entries, key=_used)}
    total = sum(sizes.values())
    for entry, size in sizes.items():
        if total <= limit_bytes:
            return
        if entry != keep and free_to_remove(entry):
            total -= size


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _exports(cache: Path) -> list[Path]:
    """Folders of exports; each was last used when its lock was taken."""
    return [p for p in _listed(cache / EXPORTS) if len(p.name) == 32 and p.is_dir() and not p.is_symlink()]


def _packed(cache: Path) -> list[Path]:
    return [p for p in _listed(cache / PACKED) if p.suffix in (".xnn", ".sha256") and not is_temporary(p.name)]


def _pulled(cache: Path) -> list[Path]:
    """Folders that `pull` made: they have a list of their files."""
    return [p for p in _listed(cache) if (p / SUMS).is_file() and not is_temporary(p.name)]


def _other(cache: Path) -> list[Path]:
    known = {EXPORTS, PACKED}
    return [p for p in _listed(cache) if p.name not in known and not is_temporary(p.name) and not (p / SUMS).is_file()]


def _rubble(cache: Path) -> Iterator[Path]:
    folders = [cache, cache / EXPORTS, *_exports(cache), cache / PACKED, cache / "originals"]
    for folder in (*folders, Path(tempfile.gettempdir())):
        yield from leftovers(folder)


def _remove(path: Path) -> bool:
    remove(path)
    return not os.path.lexists(path)


def _used(path: Path) -> float:
    lock = path / LOCK
    try:
        return (lock if lock.exists() else path).lstat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    """Bytes on disk of a file or of all below a folder; links are not followed."""
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        return sum(_size(child) for child in path.iterdir())
    except OSError:
        return 0
