"""From a net and its weights to a finished folder: each artefact converted, executed, and kept if it passes."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.bundle.write import (
    artefact_entry,
    artefact_path,
    build_manifest,
    seal,
    write_labels,
    write_licences,
    write_model_card,
)
from converters.compress.recipe import FLOATS, plan_of, refusal
from converters.spec import ExportSpec
from converters.tolerances import tolerance
from models.common.errors import ArtefactError, ConversionError, HearpackError
from models.common.files import is_full
from models.common.progress import Progress
from models.custom.entry import CustomEntry
from models.weights.store import WeightsFile
from runtimes.bundle import Artefact, Bundle, Manifest
from runtimes.coreai.deps import refuse_missing

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Refused:
    """An artefact that cannot be converted, or does not compute what the original computes.

    Attributes:
        artefact: "coreml-fp16".
        reason: a sentence, with the figure and its limit where there is one.
    """

    artefact: str
    reason: str


@dataclass(frozen=True)
class Job:
    """What the steps of one build share."""

    spec: ExportSpec
    weights: WeightsFile
    folder: Path
    progress: Progress
    lowered: dict[str, bytes] = field(default_factory=dict)  # the others are made from fp32: one conversion for all
    programs: dict[str, Any] = field(default_factory=dict)  # the same for Core ML, by iOS

    def has_lowered(self, artefact_format: str) -> bool:
        """Whether the net itself went through a format's converter."""
        return bool(self.lowered if artefact_format == "litert" else self.programs)


def make_bundle(job: Job) -> tuple[tuple[Refused, ...], tuple[str, ...]]:
    """Everything from weights to a finished folder that holds what passed.

    Returns:
        what did not pass; and a sentence for each fp16 artefact of which more stays in float32 than its net names.
    """
    from converters.bundle.golden import write_golden
    from runtimes.torch import load_net

    spec = job.spec
    if "coreai" in spec.formats:
        refuse_missing("exporting to Core AI")
    job.progress("weights and net", 0.0)
    net = load_net(spec.model, spec.model.arrays(job.weights))
    graph = spec.model.load_graph(net, spec.hops_per_call)
    job.progress("weights and net", 1.0)
    labels = write_labels(job.folder, spec.model)
    artefacts, unconverted = _convert_all(job, graph, labels)
    manifest = build_manifest(spec, job.weights, artefacts)
    write_licences(job.folder, spec.model, job.weights)
    what = f"{spec.folder_name}: golden vectors"
    job.progress(what, 0.0)
    write_golden(job.folder, seal(job.folder, manifest), net, job.spec.model)
    wrong, kept = [], []
    for item in _past_tolerance(Bundle(job.folder, seal(job.folder, manifest))):
        at = next(index for index, artefact in enumerate(artefacts) if artefact.id == item.artefact)
        mended = _mended(job, labels, manifest, artefacts[at], item)
        if mended is None:
            wrong.append(item)
        else:
            artefacts[at] = mended[0]
            kept.append(mended[1])
    for item in wrong:
        _remove_artefact(job, next(a for a in artefacts if a.id == item.artefact))
    passed = tuple(a for a in artefacts if a.id not in {item.artefact for item in wrong})
    refused = (*unconverted, *wrong)
    for place in (job.folder / name for name in spec.formats):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    if not passed:
        raise ConversionError(f"{refused[0].reason}; no bundle was written")
    manifest = manifest.model_copy(update={"artefacts": passed})
    write_model_card(job.folder, spec, manifest, {r.artefact: r.reason for r in refused}, kept)
    seal(job.folder, manifest)
    job.progress(what, 1.0)
    return refused, tuple(kept)


def _convert_all(job: Job, graph: nn.Module, labels: tuple[str, ...]) -> tuple[list[Artefact], list[Refused]]:
    """Each artefact that its format can express; a format that cannot says it once for all of its precisions.

    Raises:
        ConversionError: none can.
    """
    spec = job.spec
    artefacts: list[Artefact] = []
    errors: dict[str, HearpackError] = {}
    for artefact_format in spec.formats:
        convert = _CONVERT[artefact_format]
        precisions = spec.precisions_of(artefact_format)
        for precision in precisions:
            what = f"{spec.folder_name}: {artefact_format} {precision}"
            impossible = refusal(artefact_format, precision)
            if impossible is not None:
                errors[f"{artefact_format}-{precision}"] = ConversionError(impossible)
                continue
            job.progress(what, 0.0)
            path = job.folder / artefact_path(artefact_format, spec.model.name, precision)
            path.parent.mkdir(exist_ok=True)
            try:
                convert(job, graph, precision, labels, path)
            except (ConversionError, ArtefactError) as exc:
                if is_full(exc):
                    raise
                if precision not in FLOATS and job.has_lowered(artefact_format):  # the net can be converted
                    errors[f"{artefact_format}-{precision}"] = exc
                    continue
                rest = precisions[precisions.index(precision) :]
                errors |= {f"{artefact_format}-{same}": exc for same in rest}
                break
            limits = tolerance(spec.model.output_kind, precision)
            modules = spec.modules_of(artefact_format, precision)
            entry = artefact_entry(job.folder, path, artefact_format, precision, spec.model, limits, modules)
            artefacts.append(entry)
            job.progress(what, 1.0)
    if not artefacts:
        raise next(iter(errors.values()))
    return artefacts, [Refused(artefact, str(exc)) for artefact, exc in errors.items()]


def _past_tolerance(bundle: Bundle) -> list[Refused]:
    """Every artefact executed and compared with the golden vectors, before it is called converted."""
    from converters.bundle.golden import check_golden
    from runtimes.engines import Choice, engines_for

    refused = []
    for artefact in bundle.manifest.artefacts:
        try:
            results = check_golden(bundle, [Choice(artefact, engine) for engine in engines_for(artefact)])
            worst = next(((r, c) for r in results for c in r.checks if not c.passed), None)
        except ArtefactError as exc:
            refused.append(Refused(artefact.id, str(exc)))
            continue
        if worst is not None:
            result, check = worst
            nan = " (it gives NaN)" if result.figures.nan_count else ""
            refused.append(
                Refused(
                    artefact.id,
                    f"{artefact.id} on {result.engine} does not compute what the original computes: {check.metric} is "
                    f"{check.value:.3g}{nan}, expected {check.direction} {check.limit:g}",
                )
            )
    return refused


def _mended(
    job: Job, labels: tuple[str, ...], manifest: Manifest, artefact: Artefact, item: Refused
) -> tuple[Artefact, str] | None:
    """An fp16 artefact of a user's net, converted again with more of it in float32; None if that does not help."""
    from converters.half_parts import ATTEMPTS, parts_for

    spec, model = job.spec, job.spec.model
    if "fp16" not in artefact.precision.weights or not isinstance(model, CustomEntry) or model.form == "keras":
        return None
    what = f"{spec.folder_name}: {artefact.id}, parts in float32"
    convert, path = _CONVERT[artefact.format], job.folder / artefact.path
    tried = 0

    def heard(fraction: float) -> None:
        job.progress(what, (tried + fraction) / (ATTEMPTS + 1))

    for parts in parts_for(model, spec.hops_per_call, artefact.format, heard):
        tried += 1
        entry = dataclasses.replace(model, fp32_modules=parts.fp32_modules)
        own = dataclasses.replace(job, spec=dataclasses.replace(spec, model=entry), lowered={}, programs={})
        try:
            convert(own, parts.graph, "fp16", labels, path)
        except ConversionError as exc:
            if is_full(exc):
                raise
            continue
        new = artefact_entry(job.folder, path, artefact.format, "fp16", entry, artefact.tolerance)
        alone = manifest.model_copy(update={"artefacts": (new,)})
        if not _past_tolerance(Bundle(job.folder, seal(job.folder, alone))):
            job.progress(what, 1.0)
            figure = item.reason.partition(" computes: ")[2]
            return new, f"{artefact.id}: in half alone {figure}; {parts}"
    return None


def _remove_artefact(job: Job, artefact: Artefact) -> None:
    path = job.folder / artefact.path
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _convert_litert(job: Job, graph: nn.Module, precision: Any, labels: tuple[str, ...], path: Path) -> None:
    from converters.compress.litert import compress
    from converters.litert import convert as litert
    from converters.litert.metadata import add_mediapipe_metadata
    from runtimes import trial
    from runtimes.litert import trial_key

    model = job.spec.model
    signature = model.signature(job.spec.hops_per_call)
    if isinstance(model, CustomEntry) and model.form == "keras":
        data = _lower_keras(job, model, precision)
    else:
        data = job.lowered.get("fp32") or litert.convert(graph, signature, "fp32", model.fp32_modules)
        job.lowered["fp32"] = data
        if precision == "fp16":
            data = litert.halve(data, graph, signature, model.fp32_modules).tflite
        elif precision != "fp32":
            data = compress(data, graph, plan_of(model, precision, job.spec.modules_of("litert", precision)))
            litert.prove_runs(data, signature)
    if model.output_kind == "scores" and model.buffer_kind == "window" and model.geometry.channels == 1:
        data = add_mediapipe_metadata(
            data,
            labels=labels,
            sample_rate_hz=model.geometry.sample_rate_hz,
            channels=model.geometry.channels,
            name=model.name,
            description=model.summary,
            version="1",
            licence=model.origins(job.weights)[0].licence,
            author=model.paper,
        )
    path.write_bytes(data)
    trial.remember(trial_key(data))


def _lower_keras(job: Job, model: CustomEntry, precision: Any) -> bytes:
    """A .keras file goes to LiteRT by TensorFlow's own converter."""
    from converters.compress.litert import compress
    from converters.litert import keras
    from converters.litert.convert import prove_runs

    data = job.lowered.get("fp32") or keras.convert(model, Path(model.keras_file))
    job.lowered["fp32"] = data
    if precision == "fp32":
        return data
    if precision == "fp16":
        return keras.halve(model, data)
    data = compress(data, None, plan_of(model, precision))
    prove_runs(data, model.signature(1))
    return data


def _convert_coreml(job: Job, graph: nn.Module, precision: Any, labels: tuple[str, ...], path: Path) -> None:
    from converters.coreml import convert as coreml

    model = job.spec.model
    signature = model.signature(job.spec.hops_per_call)
    metadata = coreml.CoreMLMetadata(
        description=model.summary,
        author=model.paper,
        licence=model.origins(job.weights)[0].licence,
        version="1",
        geometry=model.geometry,
        labels=labels,
    )
    if precision in FLOATS:
        coreml.convert(graph, signature, precision, model.fp32_modules, path, metadata, lowered=job.programs)
        return
    plan = plan_of(model, precision, job.spec.modules_of("coreml", precision))
    coreml.convert(graph, signature, "fp32", (), path, metadata, plan, job.programs)


def _convert_coreai(job: Job, graph: nn.Module, _precision: Any, labels: tuple[str, ...], path: Path) -> None:
    from converters.coreai import convert as coreai

    model = job.spec.model
    texts = {"author": model.paper, "description": model.summary, "license": model.origins(job.weights)[0].licence}
    coreai.convert(graph, model.signature(job.spec.hops_per_call), path, model.geometry, texts, labels)


_CONVERT = {"litert": _convert_litert, "coreml": _convert_coreml, "coreai": _convert_coreai}
