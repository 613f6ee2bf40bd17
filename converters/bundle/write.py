"""What is in a bundle beside the converted files: manifest, labels, licences, model card."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from converters.compress.recipe import FLOATS, first_ios, kept_modules, plan_of, precision_entry
from converters.spec import ExportSpec, toolchain_versions
from models.common.errors import WeightsError
from models.common.hashing import sha256_file
from models.common.version import __version__
from models.entry import ModelEntry
from models.geometry import TensorSpec
from models.weights.store import WeightsFile
from runtimes.bundle import (
    MANIFEST,
    PACKAGES,
    SCHEMA,
    Artefact,
    Buffer,
    Bundle,
    ConstantFile,
    CreatedBy,
    Decisions,
    FileEntry,
    Format,
    Geometry,
    Manifest,
    MinimumOS,
    Original,
    Precision,
    SourceFile,
    StateTensor,
    Tensor,
    Tolerance,
    WeightsOrigin,
)
from runtimes.inspect.bundle import download_bytes

# LiteRT 2.x's CompiledModel wants API 26 of our app; an ML Program and a Core AI asset the iOS they are converted for.
_MINIMUM = {"litert": MinimumOS(android_api=26), "coreml": MinimumOS(ios="16.0"), "coreai": MinimumOS(ios="27.0")}


def artefact_path(artefact_format: Format, name: str, precision: str) -> str:
    """Path of a .tflite, .mlpackage or .aimodel inside its bundle."""
    return f"{artefact_format}/{name}.{precision}{PACKAGES.get(artefact_format, '.tflite')}"


def _precision(artefact_format: Format, precision: str, model: ModelEntry) -> Precision:
    """What is stored and what is computed; "mixed" where submodules stay in float32 (the model card names them)."""
    if precision not in FLOATS:
        return precision_entry(artefact_format, precision, model)
    kept = "mixed-" if precision == "fp16" and model.fp32_modules else ""
    weights = f"{kept}{precision}"
    # LiteRT's CPU kernels widen halves when they load and compute in float32.
    return Precision(weights=weights, compute="fp32" if artefact_format == "litert" else weights)


def artefact_entry(
    folder: Path,
    path: Path,
    artefact_format: Format,
    precision: str,
    model: ModelEntry,
    limits: tuple[Tolerance, ...],
    plan: Mapping[str, str] | None = None,
) -> Artefact:
    """The manifest's entry for a converted file or package.

    Args:
        folder: the bundle being written.
        path: the .tflite, or the .mlpackage or .aimodel directory, inside it.
        artefact_format: "litert", "coreml" or "coreai".
        precision: "fp32", "fp16" or a compressed one.
        model: the catalogue entry.
        limits: what it may differ by.
        plan: of a mixed precision, as `ExportSpec.modules_of`.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    minimum = _MINIMUM[artefact_format]
    if artefact_format == "coreml" and precision not in FLOATS:
        minimum = MinimumOS(ios=first_ios(plan_of(model, precision, plan)))
    return Artefact(
        id=f"{artefact_format}-{precision}",
        format=artefact_format,
        precision=_precision(artefact_format, precision, model),
        files=tuple(_file_entry(folder, f) for f in files),
        minimum_os=minimum,
        allowed_compute=("cpu",),
        tolerance=limits,
    )


def _file_entry(folder: Path, file: Path) -> FileEntry:
    return FileEntry(path=file.relative_to(folder).as_posix(), sha256=sha256_file(file), bytes=file.stat().st_size)


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Write manifest.json with a hash of every file that lies in the folder now.

    Args:
        folder: the bundle being written.
        manifest: all but its `files`.

    Returns:
        the manifest with them.
    """
    open_list = manifest.model_copy(update={"files": ()})
    others = Bundle(folder, open_list).strangers(open_list.paths)
    sealed = manifest.model_copy(update={"files": tuple(_file_entry(folder, folder / path) for path in others)})
    (folder / MANIFEST).write_text(sealed.dump(), encoding="utf-8")
    return sealed


def _decisions(spec: ExportSpec) -> Decisions | None:
    """The entry's decisions; a step net gives scores once per call, whatever the call takes."""
    if not spec.model.decisions:
        return None
    fields = dict(spec.model.decisions)
    if spec.model.buffer_kind == "step":
        fields["window_hop_samples"] = spec.model.buffer_samples(spec.hops_per_call)
    return Decisions.model_validate(fields)


def build_manifest(spec: ExportSpec, weights: WeightsFile, artefacts: Sequence[Artefact]) -> Manifest:
    """The manifest of an export (docs/bundle.md), its `files` still open: `seal` fills them in."""
    model = spec.model
    signature = model.signature(spec.hops_per_call)

    def tensor(t: TensorSpec) -> Tensor:
        return Tensor(name=t.name, shape=t.shape, dtype=t.dtype, range=t.range, meaning=t.meaning)

    return Manifest(
        schema_id=SCHEMA,
        name=model.name,
        task=model.task,
        created_by=CreatedBy(hearpack=__version__, toolchain=toolchain_versions(spec.formats)),
        original=Original(
            factory=model.factory,
            weights_sha256=weights.sha256,
            source_sha256=model.source_sha256,
            insensitive=model.insensitive or None,
            constants=tuple(ConstantFile(name=n, shape=s, sha256=h) for n, s, h in model.constant_files) or None,
            sources=tuple(SourceFile(path=path, sha256=sha256) for path, sha256 in model.source_files) or None,
        ),
        geometry=Geometry(**dataclasses.asdict(model.geometry)),
        buffer=Buffer(
            kind=model.buffer_kind,
            hops_per_call=spec.hops_per_call,
            samples=model.buffer_samples(spec.hops_per_call),
        ),
        inputs=tuple(map(tensor, signature.inputs)),
        outputs=tuple(map(tensor, signature.outputs)),
        states=tuple(
            StateTensor.model_validate(
                {"in": s.name, "out": s.out_name, "shape": s.shape, "dtype": s.dtype, "reset": s.reset}
            )
            for s in signature.states
        ),
        decisions=_decisions(spec),
        artefacts=tuple(artefacts),
        files=(),
        weights=tuple(WeightsOrigin(**origin._asdict()) for origin in model.origins(weights)),
    )


def write_labels(folder: Path, model: ModelEntry) -> tuple[str, ...]:
    """labels.txt of a classifier: one label a line, index = line.

    Raises:
        WeightsError: the label list does not fit the net's scores.
    """
    if model.output_kind != "scores":
        return ()
    labels = model.label_names()
    if len(labels) != model.output.shape[-1]:
        raise WeightsError(f"{model.name}: expected {model.output.shape[-1]} labels, its package has {len(labels)}")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return labels


def write_licences(folder: Path, model: ModelEntry, weights: WeightsFile) -> None:
    """LICENSES/: what came with the weights, or that the user supplied them."""
    target = folder / "LICENSES"
    target.mkdir()
    for licence in weights.licences:
        shutil.copyfile(licence, target / licence.name)
    text = model.licence_text(weights)
    if text:
        (target / "WEIGHTS.txt").write_text(text, encoding="utf-8")


def write_model_card(
    folder: Path, spec: ExportSpec, manifest: Manifest, refused: Mapping[str, str], kept: Sequence[str] = ()
) -> None:
    """MODEL_CARD.md: for the person who finds the bundle in an app two years later.

    Args:
        folder: the bundle being written.
        spec: what was asked for.
        manifest: what is there.
        refused: artefacts that were asked for and are not there, each with the reason.
        kept: what more stays in float32 so that an fp16 artefact passes, a sentence for each such artefact.
    """
    lines = _card_lines(folder, spec, manifest, refused, kept)
    (folder / "MODEL_CARD.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _card_lines(
    folder: Path, spec: ExportSpec, manifest: Manifest, refused: Mapping[str, str], kept: Sequence[str]
) -> list[str]:
    model, geometry, buffer = spec.model, spec.model.geometry, manifest.buffer
    lines = [
        f"# {model.name}: {model.summary}",
        "",
        f"Task: {model.task}. {model.parameters_millions:g} M parameters. {model.paper}.",
        "",
        "## What one call does",
        "",
        f"- takes `audio` {list(manifest.inputs[0].shape)}, which lasts {geometry.ms(buffer.samples):g} ms",
        *(f"- takes `{t.name}` {list(t.shape)}: {t.meaning}" for t in manifest.far),
        f"- at {geometry.sample_rate_hz} Hz, float32, full scale 1.0",
        *(f"- gives `{t.name}` {list(t.shape)}: {t.meaning}" for t in manifest.outputs),
        f"- algorithmic delay: {geometry.delay_samples} samples = {geometry.ms(geometry.delay_samples):g} ms",
        f"- states: {', '.join(f'`{s.in_name}` -> `{s.out_name}` {list(s.shape)}' for s in manifest.states) or 'none'}",
        "",
        "## Artefacts",
        "",
        "| id | bytes | download | weights | compute | may differ from the original by |",
        "|---|---:|---:|---|---|---|",
    ]
    for a in manifest.artefacts:
        limits = ", ".join(f"{t.metric} {t.limit:g}" for t in a.tolerance)
        packed = download_bytes(Bundle(folder, manifest), a)
        lines.append(
            f"| {a.id} | {a.size_bytes:,} | {packed:,} | {a.precision.weights} | {a.precision.compute} | {limits} |"
        )
    stored = [("the fp16 artefacts", model.fp32_modules, "fp16" in spec.precisions)]
    stored += [("the compressed artefacts", kept_modules(model), bool(set(spec.precisions) - set(FLOATS)))]
    for where, modules, there in stored:
        if modules and there:
            lines += ["", f"Kept in float32 in {where}: {', '.join(modules)} (docs/precision.md says why)."]
    for artefact_format, (precision, otherwise) in sorted(spec.mixed.items()):
        lines += ["", f"Stored otherwise than the rest in {artefact_format}-{precision}:", ""]
        lines += [f"- {module or 'the graph itself'}: {stored}" for module, stored in sorted(otherwise.items())]
    if kept:
        lines += ["", "More is kept, found by hearpack, because half precision alone did not do:", ""]
        lines += [f"- {sentence}" for sentence in kept]
    if refused:
        lines += ["", "## Asked for, and not in this bundle", "", *(f"- {a}: {why}" for a, why in refused.items())]
    lines += ["", "## Weights", ""]
    lines += [f"- {w.source} {w.version}, sha256 {w.sha256}, {w.licence}. {w.citation}" for w in manifest.weights]
    known = model.card_lines()
    lines += ["", *known] if known else []
    lines += [
        "",
        "## Limits",
        "",
        "- The net is as good as its pretrained weights; it was not retrained. Try it on your own recordings.",
        "- `hearpack verify` measures each artefact on your machine. Core ML figures from a machine that is no Mac",
        "  come from the evaluator: half precision is emulated there, it is not Apple's hardware.",
    ]
    if any(a.format == "coreai" for a in manifest.artefacts):
        lines += [
            "- coreai-fp32 is experimental: Core AI (iOS 27) is in beta. The asset was executed by Apple's interpreter",
            "  on the machine of the export; nobody ran it on a phone.",
        ]
    return lines
