"""A bundle's original, found again, and run only where this user said where it is.

A bundle says which net it was made of; it never says what to run. `verify` takes the place that the user names, else
the one where this user exported the very same net from, which the cache of this machine remembers; the sources there
are compared with their hashes before any is executed. Where neither is, there is no original.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from converters.custom import GeometrySource, open_custom
from models.common.errors import OutputError, WeightsError
from models.common.files import write_atomic
from models.common.hashing import sha256_bytes, sha256_file
from models.common.parsing import parse_json
from models.custom.entry import CustomEntry, CustomOriginal
from models.custom.loading import ARCHIVES, Sources, changed_sources, parse_target
from models.weights.fetch import cache_dir
from runtimes.bundle import Bundle, Original


class _Place(NamedTuple):
    """A target, its geometry.toml, its checkpoint, and the sources that it must have."""

    target: str
    geometry: str | Path | None
    weights: Path | None
    sources: Sources


def _record(original: CustomOriginal | Original) -> Path:
    key = sha256_bytes(f"{original.factory}\n{original.source_sha256}\n{original.weights_sha256}".encode())
    return cache_dir() / "originals" / f"{key[:32]}.json"


def remember(entry: CustomEntry, target_text: str, geometry: GeometrySource) -> None:
    """Keep where the original lies, on this machine only; nothing of it goes into a bundle."""
    target = parse_target(target_text)
    where: dict[str, Any] = {
        "target": f"{Path(target.module).resolve()}:{target.callable_name}" if target.is_file else target_text,
        "geometry": str(Path(geometry).resolve()) if isinstance(geometry, str | Path) else None,
        "weights": entry.weights_file or None,
        "sources": entry.source_files,
    }
    if not target.callable_name:
        where["target"] = str(Path(target.module).resolve())
    with contextlib.suppress(OutputError):  # a cache that cannot be written: `verify` asks for --original then
        write_atomic(_record(entry.original), json.dumps(where, indent=2, sort_keys=True) + "\n")


def is_custom_bundle(bundle: Bundle) -> bool:
    """Whether a bundle was made from a custom net."""
    return bundle.manifest.original.source_sha256 is not None


def reopen(
    bundle: Bundle, target_text: str | None = None, geometry: str | Path | None = None, weights: Path | None = None
) -> CustomEntry:
    """The original of a bundle, found again and proven to be the same, before it is executed and after.

    Args:
        bundle: made by `export` of a custom net.
        target_text: where the original is, if the user says so.
        geometry: its geometry.toml, if the user says so.
        weights: the checkpoint it was exported with, if the user says so.

    Raises:
        WeightsError: it is not to be found, or is not the one that was exported; says which.
        HearpackError: as `open_custom`.
    """
    original = bundle.manifest.original
    if target_text is not None:
        stated = tuple((source.path, source.sha256) for source in original.sources or ())
        place: _Place | None = _Place(target_text, geometry, weights, stated)
    else:
        place = _remembered(original, geometry, weights)
    if place is None:
        raise WeightsError(
            f"the original {original.factory} is not where it was exported from on this machine; "
            f"give its place with --original PATH"
        )
    _refuse_changed(place, original)
    allowed = bool(original.insensitive)
    entry = open_custom(place.target, place.geometry, place.weights, allow_insensitive=allowed)
    _same_original(entry, original)
    return entry


def _remembered(original: Original, geometry: str | Path | None, weights: Path | None) -> _Place | None:
    try:
        where = parse_json(_record(original).read_text(encoding="utf-8"))
        text, toml, checkpoint = str(where["target"]), where["geometry"], where["weights"]
        sources = tuple((str(path), str(sha256)) for path, sha256 in where["sources"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_file = text.endswith((".keras", *ARCHIVES)) or ".py:" in text
    if is_file and not Path(text.removesuffix(":" + text.rpartition(":")[2]) if ".py:" in text else text).is_file():
        return None
    if weights is None and checkpoint is not None:
        if not Path(checkpoint).is_file():
            raise WeightsError(f"the checkpoint that {original.factory} was exported with is gone; give --weights")
        weights = Path(checkpoint)
    return _Place(text, geometry if geometry is not None else toml, weights, sources)


def _refuse_changed(place: _Place, original: Original) -> None:
    """Raise WeightsError, nothing executed yet, where a file is not the one that was exported."""
    target = parse_target(place.target)
    if target.is_keras:  # a .keras file is its weights
        file = Path(target.module)
        changed: tuple[str, ...] = () if sha256_file(file) == original.weights_sha256 else (file.name,)
    else:
        changed = changed_sources(target, place.sources)
    if changed:
        raise WeightsError(
            f"{original.factory}, what it imports or its geometry has changed since the export: {changed[0]} is not "
            f"the file that was exported, so it was not run; export again, or give the old one with --original"
        )


def _same_original(entry: CustomEntry, original: Original) -> None:
    came = entry.original
    if came.weights_sha256 != original.weights_sha256:
        raise WeightsError(
            f"the weights of {original.factory} have changed since the export (sha256 "
            f"{original.weights_sha256[:12]}… then, {came.weights_sha256[:12]}… now); "
            f"export again, or give the old ones with --weights"
        )
    if came.source_sha256 != original.source_sha256:
        raise WeightsError(
            f"{original.factory}, what it imports or its geometry has changed since the export (sha256 "
            f"{str(original.source_sha256)[:12]}… then, {came.source_sha256[:12]}… now); export again"
        )
