"""A bundle's original, found again.

A bundle holds no path. Where its original lay is kept in the cache of this machine; `verify` looks at the place that
the user names, else at that one, else beside the bundle and in the working folder.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from converters.custom import GeometrySource, open_custom
from models.common.errors import OutputError, WeightsError
from models.common.files import write_atomic
from models.common.hashing import sha256_bytes
from models.common.parsing import parse_json
from models.custom.entry import CustomEntry, CustomOriginal
from models.custom.loading import parse_target
from models.weights.fetch import cache_dir
from runtimes.bundle import Bundle

_Place = tuple[str, str | Path | None, Path | None]  # a target, its geometry.toml, its checkpoint


def _record(original: CustomOriginal | Any) -> Path:
    key = sha256_bytes(f"{original.factory}\n{original.source_sha256}\n{original.weights_sha256}".encode())
    return cache_dir() / "originals" / f"{key[:32]}.json"


def remember(entry: CustomEntry, target_text: str, geometry: GeometrySource) -> None:
    """Keep where the original lies, on this machine only; nothing of it goes into a bundle."""
    target = parse_target(target_text)
    where = {
        "target": f"{Path(target.module).resolve()}:{target.callable_name}" if target.is_file else target_text,
        "geometry": str(Path(geometry).resolve()) if isinstance(geometry, str | Path) else None,
        "weights": entry.weights_file or None,
    }
    if target.is_keras:
        where["target"] = str(Path(target.module).resolve())
    with contextlib.suppress(OutputError):  # a cache that cannot be written: `verify` asks for --original then
        write_atomic(_record(entry.original), json.dumps(where, indent=2, sort_keys=True) + "\n")


def is_custom_bundle(bundle: Bundle) -> bool:
    """Whether a bundle was made from a custom net."""
    return bundle.manifest.original.source_sha256 is not None


def reopen(
    bundle: Bundle, target_text: str | None = None, geometry: str | Path | None = None, weights: Path | None = None
) -> CustomEntry:
    """The original of a bundle, found again and proven to be the same.

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
        place: _Place | None = (target_text, geometry, weights)
    else:
        place = _remembered(original, geometry, weights) or _beside(bundle, geometry, weights)
    if place is None:
        raise WeightsError(
            f"the original {original.factory} is not where it was exported from, nor beside the bundle; "
            f"give its place with --original PATH"
        )
    entry = open_custom(*place)
    _same_original(entry, original)
    return entry


def _remembered(original: Any, geometry: str | Path | None, weights: Path | None) -> _Place | None:
    try:
        where = parse_json(_record(original).read_text(encoding="utf-8"))
        text, toml, checkpoint = where["target"], where["geometry"], where["weights"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_file = text.endswith(".keras") or ".py:" in text
    if is_file and not Path(text.removesuffix(":" + text.rpartition(":")[2]) if ".py:" in text else text).is_file():
        return None
    if weights is None and checkpoint is not None:
        if not Path(checkpoint).is_file():
            raise WeightsError(f"the checkpoint that {original.factory} was exported with is gone; give --weights")
        weights = Path(checkpoint)
    return text, geometry if geometry is not None else toml, weights


def _beside(bundle: Bundle, geometry: str | Path | None, weights: Path | None) -> _Place | None:
    factory = bundle.manifest.original.factory
    name, _, function = factory.partition(":")
    if not name.endswith((".py", ".keras")):
        return factory, geometry, weights
    files = [folder / name for folder in (bundle.path.resolve().parent, Path.cwd())]
    file = next((file for file in files if file.is_file()), None)
    return None if file is None else (f"{file}:{function}" if function else str(file), geometry, weights)


def _same_original(entry: CustomEntry, original: Any) -> None:
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
            f"{original.source_sha256[:12]}… then, {came.source_sha256[:12]}… now); export again"
        )
