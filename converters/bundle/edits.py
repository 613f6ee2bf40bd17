"""What a user edited in a bundle that an export is about to replace: decisions, dsp and playout, which are theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.common.errors import BundleError, OutputError
from models.common.parsing import parse_json
from runtimes.bundle import MANIFEST, Bundle, Decisions, parse_manifest, read_inside

EDITED = ("decisions", "dsp", "playout")


def present_bundle(target: Path, made: Bundle) -> Bundle | None:
    """The bundle that stands where an export is to go.

    Args:
        target: the place.
        made: what is to go there.

    Returns:
        it, one of an earlier hearpack included; None where there is none, or its manifest is damaged.

    Raises:
        OutputError: what its user edited is not valid: replacing it would lose it without a word.
    """
    if not (target / MANIFEST).is_file():
        return None
    try:
        return Bundle.open(target)
    except BundleError as exc:
        reason = exc
    try:
        data: dict[str, Any] = parse_json(read_inside(target, MANIFEST).decode("utf-8"))
        data.setdefault("files", [])  # of before there were hashes of every file
    except (BundleError, ValueError, AttributeError):
        return None
    manifest = _parsed(data, target)
    if manifest is not None:
        return manifest
    plain = json.loads(made.manifest.dump())
    unedited = {key: value for key, value in data.items() if key not in EDITED}
    if _parsed({**unedited, **{key: plain[key] for key in EDITED if key in plain}}, target) is not None:
        raise OutputError(f"{reason}; an export keeps such edits: mend it, or move the bundle away") from reason
    return None


def _parsed(data: dict[str, Any], target: Path) -> Bundle | None:
    try:
        return Bundle(target, parse_manifest(json.dumps(data), str(target / MANIFEST)))
    except BundleError:
        return None


def edits_of(present: Bundle) -> dict[str, object]:
    """The fields that the user changed, by name (no export writes dsp and playout)."""
    manifest = present.manifest
    edits: dict[str, object] = {
        "decisions": _edited_decisions(present),
        "dsp": manifest.dsp,
        "playout": manifest.playout,
    }
    return {field: value for field, value in edits.items() if value is not None}


def _edited_decisions(present: Bundle) -> Decisions | None:
    """The decisions of a bundle if they are not those it was exported with, which golden/ has a copy of."""
    try:
        golden = parse_json(read_inside(present.path, "golden/golden.json").decode("utf-8"))
        exported = Decisions.model_validate(golden["decisions"])
    except (BundleError, ValueError, KeyError, TypeError):
        return present.manifest.decisions
    return None if present.manifest.decisions == exported else present.manifest.decisions
