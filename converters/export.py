"""From a spec to a bundle: a pipeline of plain functions, a cache in front of it, one rename at its end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.bundle.edits import edits_of, present_bundle
from converters.bundle.make import Job, Refused, make_bundle
from converters.cache import EXPORTS, cache_limit_bytes, trim
from converters.compress.recipe import refuse_impossible
from converters.custom import GeometrySource, open_custom
from converters.delay import refuse_wrong_delay
from converters.originals import remember
from converters.spec import (
    FORMATS,
    PRECISIONS,
    USUAL_FORMATS,
    USUAL_PRECISIONS,
    ExportSpec,
    check_formats,
    export_key,
    parse_choices,
)
from models import pretrained
from models.catalog import find
from models.common.errors import HearpackError, OutputError, UsageError
from models.common.files import (
    as_path,
    atomic_folder,
    cannot_write,
    copy_tree,
    exclusive,
    is_full,
    no_space,
    write_atomic,
)
from models.common.hashing import sha256_tree
from models.common.parsing import parse_json
from models.common.progress import Progress, silent
from models.common.temporary import scratch
from models.custom.entry import CustomEntry
from models.custom.loading import is_custom
from models.entry import ModelEntry
from models.weights.fetch import cache_dir
from runtimes.bundle import MANIFEST, PARITY, SIGNATURE, Bundle


@dataclass(frozen=True)
class ExportResult:
    """What an export left.

    Attributes:
        path: the bundle.
        cached: whether nothing had to be converted.
        key: name of the export in the cache.
        kept_decisions: whether edited decisions, dsp or playout of an earlier bundle at this place were kept.
        refused: artefacts that were asked for and are not in the bundle.
        kept: what more stays in float32 so that an fp16 artefact passes, a sentence for each such artefact.
    """

    path: Path
    cached: bool
    key: str
    kept_decisions: bool
    refused: tuple[Refused, ...] = ()
    kept: tuple[str, ...] = ()


def export(
    name: str | ModelEntry,
    output: str | Path = ".",
    *,
    hops_per_call: int = 1,
    formats: Sequence[str] = USUAL_FORMATS,
    precisions: Sequence[str] = USUAL_PRECISIONS,
    weights: str | Path | None = None,
    geometry: GeometrySource = None,
    allow_insensitive: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> ExportResult:
    """Export a model to a bundle in the folder `output`.

    Args:
        name: a model of `hearpack models`; or a custom net: "path/net.py:build", "package.module:build",
            "path/model.keras", "path/model.pt" of TorchScript (docs/bring-your-own.md); or an entry of `open_model`.
        output: folder that is to hold the bundle; made if missing.
        hops_per_call: hops one call takes.
        formats: any of "litert", "coreml", and "coreai" (experimental, fp32 alone; extra `coreai`).
        precisions: any of "fp32", "fp16", and the compressed ones of docs/precision.md: "int8", "int4", "pal4", ...
        weights: a checkpoint of your own, or None for the pretrained weights.
        geometry: of a custom net: a geometry.toml, a mapping of its shape, or a StreamGeometry; None: the
            geometry.toml beside it, or GEOMETRY in it.
        allow_insensitive: go on with a custom net that hardly reacts to its input, as many do with random weights; the
            bundle says so.
        force: convert again even if this very export is in the cache.
        progress: called with (what, fraction done).

    Returns:
        where the bundle is, whether the cache had it, and which artefacts it lacks because they are `refused`.

    Raises:
        UsageError: unknown model, format or precision, no such buffer, or a geometry that does not belong there.
        WeightsError: weights missing, corrupt, or of another net.
        ConversionError: no artefact can be converted within its tolerance.
        OutputError: the place cannot be written; whatever stood there is untouched.
    """
    model = name if isinstance(name, ModelEntry) else open_model(name, geometry, weights, allow_insensitive)
    model.signature(hops_per_call)
    chosen_formats = parse_choices(",".join(formats), FORMATS, "formats")
    chosen_precisions = parse_choices(",".join(precisions), PRECISIONS, "precisions")
    check_formats(chosen_formats, chosen_precisions)
    refuse_impossible(chosen_formats, chosen_precisions)
    spec = ExportSpec(model, hops_per_call, chosen_formats, chosen_precisions, as_path(weights))
    return export_spec(spec, output, force=force, progress=progress)


def export_spec(
    spec: ExportSpec, output: str | Path, *, force: bool = False, progress: Progress = silent
) -> ExportResult:
    """`export` of a spec whose choices were checked; the search for a mixed precision ends here.

    Args:
        spec: what to export.
        output, force, progress: as in `export`.

    Raises:
        HearpackError: as `export`.
    """
    model, limit_bytes = spec.model, cache_limit_bytes()
    target = Path(output) / spec.folder_name
    _check_target(target)
    file = model.given_weights(spec.weights_file) or pretrained.pull(model.name)
    key = export_key(spec, file.sha256)
    stored = cache_dir() / EXPORTS / key[:32] / spec.folder_name
    with _entry(stored, force) as hit:
        if not hit:
            if isinstance(model, CustomEntry):
                refuse_wrong_delay(model)
            try:
                with atomic_folder(stored, "set HEARPACK_CACHE to another folder, or free space") as folder:
                    refused, kept = make_bundle(Job(spec, file, folder, progress))
                _remember_refused(stored, refused)
                write_atomic(_kept_file(stored), json.dumps(kept) + "\n")
                write_atomic(_tree_sum(stored), sha256_tree(stored) + "\n")
            except HearpackError as exc:
                if is_full(exc) and not isinstance(exc, OutputError):  # a converter says it in its own words
                    raise no_space(stored) from exc
                raise
        edits = _install(stored, target)
        refused, kept = _refused(stored), _kept(stored)
    if not hit:
        trim(stored.parent, limit_bytes)
    return ExportResult(target, hit, key, edits, refused, kept)


@contextlib.contextmanager
def _entry(stored: Path, force: bool) -> Iterator[bool]:
    """The cache's place for an export, for this process alone; yields whether the export is there.

    Raises:
        OutputError: it is not, and the cache cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(stored.parent))
        except OutputError:  # a cache that cannot be written is good for what it has
            if force or not _is_intact(stored):
                raise
        yield not force and _is_intact(stored)


def open_model(
    name: str,
    geometry: GeometrySource = None,
    weights: str | Path | None = None,
    allow_insensitive: bool = False,
) -> ModelEntry:
    """The entry of a model of the catalogue, or of a custom net, loaded and checked.

    Args:
        name, geometry, weights, allow_insensitive: as in `export`.

    Returns:
        what `export` takes instead of a name.

    Raises:
        UsageError: unknown model, or a geometry for one of the catalogue.
        HearpackError: as `converters.custom.open_custom`.
    """
    if is_custom(name):
        entry = open_custom(name, geometry, as_path(weights), allow_insensitive=allow_insensitive)
        remember(entry, name, geometry)
        return entry
    model = find(name)
    if geometry is not None:
        raise UsageError(f"{name} is a model of the catalogue and has its geometry; leave --geometry out")
    return model


def _check_target(target: Path) -> None:
    """Refuse early what could not be written at the end, and never replace what is not a bundle."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise cannot_write(exc, target.parent, "choose another folder with --output") from exc
    with scratch("export", target.parent):
        pass
    if target.exists() and not (target / MANIFEST).is_file() and any(target.iterdir() if target.is_dir() else [target]):
        raise OutputError(f"{target}: is there already and is not a bundle; move it away or choose another --output")


def _tree_sum(stored: Path) -> Path:
    """Where the sum over every file of a stored bundle is kept, its manifest among them."""
    return stored.with_name("tree.sha256")


def _refused_file(stored: Path) -> Path:
    """Where the cache keeps what an export refused, so that it can be said again."""
    return stored.with_name("refused.json")


def _remember_refused(stored: Path, refused: Sequence[Refused]) -> None:
    write_atomic(_refused_file(stored), json.dumps([[r.artefact, r.reason] for r in refused]) + "\n")


def _refused(stored: Path) -> tuple[Refused, ...]:
    pairs = parse_json(_refused_file(stored).read_text(encoding="utf-8"))
    return tuple(Refused(str(artefact), str(reason)) for artefact, reason in pairs)


def _kept_file(stored: Path) -> Path:
    """Where the cache keeps what an export found to need float32, so that it can be said again."""
    return stored.with_name("kept.json")


def _kept(stored: Path) -> tuple[str, ...]:
    return tuple(str(sentence) for sentence in parse_json(_kept_file(stored).read_text(encoding="utf-8")))


def _is_intact(stored: Path) -> bool:
    try:
        _refused(stored)
        _kept(stored)
        return _tree_sum(stored).read_text(encoding="ascii").strip() == sha256_tree(stored)
    except (OSError, ValueError, TypeError):
        return False


def _install(stored: Path, target: Path) -> bool:
    """Copy the cached bundle to where the user wants it; an unchanged one is left alone.

    Returns:
        whether decisions, dsp or playout that the user edited were kept.
    """
    made = Bundle.open(stored)
    present = present_bundle(target, made)
    edits = {} if present is None else edits_of(present)
    if present is not None and _same_but_edits(present, made):
        return bool(edits)
    with atomic_folder(target) as folder:
        copy_tree(stored, folder)
        if edits:
            manifest = Bundle.open(folder).manifest.model_copy(update=edits)
            (folder / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
    return bool(edits)


def _same_but_edits(present: Bundle, stored: Bundle) -> bool:
    skip = frozenset({MANIFEST, SIGNATURE, PARITY})
    without = {"decisions": None, "dsp": None, "playout": None}
    same_manifest = present.manifest.model_copy(update=without) == stored.manifest.model_copy(update=without)
    return same_manifest and sha256_tree(present.path, skip) == sha256_tree(stored.path, skip)
