"""`compress`: the smallest mix of precisions within a budget of what people notice, for both formats, as a bundle."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converters.bundle.reference import entry_of
from converters.bundle.write import artefact_entry, build_manifest
from converters.compress.litert import weights_of
from converters.compress.recipe import MIXED, SCHEMES, kept_modules
from converters.compress.recipe import Plan as StoragePlan
from converters.custom import GeometrySource
from converters.export import export_spec, open_model
from converters.litert.convert import convert
from converters.originals import is_custom_bundle, reopen
from converters.quality.judge import Judge, Series
from converters.quality.labelled import open_labelled
from converters.quality.pairs import USUAL_PAIRS, made_pairs, read_pairs
from converters.quality.report import figure_of
from converters.search.budget import Budget, parse_budget, usual_losses
from converters.search.builders import Builder, CoreMLBuilder, LiteRTBuilder
from converters.search.journal import Journal
from converters.search.parts import parts_of
from converters.search.plot import draw
from converters.search.report import CompressReport, FormatResult, Plan
from converters.search.search import FLOAT, Choices, Found, PartOf, Trial, search
from converters.spec import ExportSpec, parse_choices, toolchain_versions
from models import pretrained
from models.common.errors import ConversionError, UsageError
from models.common.files import as_path
from models.common.hashing import sha256_bytes
from models.common.progress import Progress, silent
from models.common.temporary import scratch
from models.common.version import __version__
from models.custom.entry import CustomEntry
from models.entry import ModelEntry
from models.weights.store import WeightsFile
from runtimes.bundle import MANIFEST, Bundle, Format, Manifest
from runtimes.engines import Choice, engines_for, open_runtime
from runtimes.litert import LiteRTRuntime
from runtimes.torch import load_net

# Clips on which a part is tried by itself; whole plans hear all of them.
FEW = 12
_FORMATS: tuple[Format, ...] = ("litert", "coreml")
_UNIFORM = "int8"
# Where the budget names nothing that few clips tell, what they tell orders the steps and refuses only the worst.
_LENIENT = 10.0


def compress(
    subject: str | Path | Bundle | ModelEntry,
    budget: str,
    output: str | Path = ".",
    *,
    formats: Sequence[str] = _FORMATS,
    hops_per_call: int = 1,
    weights: str | Path | None = None,
    geometry: GeometrySource = None,
    pairs: int = USUAL_PAIRS,
    pairs_folder: str | Path | None = None,
    labelled: str | Path | None = None,
    progress: Progress = silent,
) -> CompressReport:
    """Find the precision of each part of a net, and export the result.

    Args:
        subject: a bundle (its net and buffer), or what `export` takes.
        budget: "size=1MB,pesq=-0.05,si-sdr=-0.2"; docs/compression.md has the names.
        output: folder that is to hold the bundle, the plot and the journal.
        formats: "litert", "coreml", or both.
        hops_per_call: of a net that is no bundle yet.
        weights, geometry: as in `export`.
        pairs, pairs_folder, labelled: what is heard, as in `quality`.
        progress: called with (what, fraction done).

    Returns:
        the report; `.met` says whether a bundle was written.

    Raises:
        UsageError: a budget that says nothing or of another kind of net, no such net, or a folder that holds nothing.
        HearpackError: as `export`.
    """
    chosen_formats = parse_choices(",".join(formats), _FORMATS, "formats")
    model, hops = _opened(subject, hops_per_call, geometry, as_path(weights))
    limits = parse_budget(budget, model.output_kind, labelled is not None)
    if isinstance(model, CustomEntry) and model.form == "keras":
        raise UsageError("a .keras file is compressed as a whole: hearpack export --precision int8")
    net = _Net(model, hops, as_path(weights), progress)
    place, own = Path(output), as_path(pairs_folder)
    rate = model.geometry.sample_rate_hz
    clips = made_pairs(rate, pairs, progress) if own is None else read_pairs(own, rate)
    folder = None if labelled is None else open_labelled(Path(labelled), net.labels)
    names = [*limits.losses, *usual_losses(model.output_kind), "score_error"]
    reference = LiteRTRuntime(net.tflite, net.signature, "compiled", tried=True)
    judge = Judge(net.manifest, net.labels, reference, clips, folder, names, progress)
    stem = net.spec.folder_name.removesuffix(".hearpack")
    heard = [sha256_bytes(p.noisy.tobytes() + p.clean.tobytes()) for p in clips]
    context = {
        "hearpack": __version__,
        "net": sha256_bytes(net.tflite),
        "heard": sha256_bytes("".join(heard).encode()),
        "labelled": None if folder is None else [str(f.relative_to(folder.folder)) for f, _ in folder.clips],
        "names": judge.names,
        "toolchain": toolchain_versions(),
    }
    journal = Journal(place / f"{stem}.compress.jsonl", context)
    try:
        found = {f: _Search(net, judge, journal, _builder(net, f), progress).run(limits) for f in chosen_formats}
    finally:
        journal.close()
    if all(search_.found.met for search_ in found.values()):
        mixed = {f: (s.precision, s.modules(s.found.chosen.choices)) for f, s in found.items()}
        spec = ExportSpec(model, hops, chosen_formats, (), as_path(weights), mixed)
        path = export_spec(spec, place, progress=progress).path
        results = tuple(s.result(judge, limits, Bundle.open(path), progress) for s in found.values())
    else:
        path = None
        results = tuple(s.result(judge, limits, None, progress) for s in found.values())
    plot = place / f"{stem}.compress.png"
    report = CompressReport(model.name, budget, path, plot, journal.path, len(clips), results)
    draw(report, plot)
    return report


def _opened(
    subject: str | Path | Bundle | ModelEntry, hops: int, geometry: GeometrySource, weights: Path | None
) -> tuple[ModelEntry, int]:
    """The net, and its hops per call."""
    if isinstance(subject, ModelEntry):
        return subject, hops
    if isinstance(subject, str | Path) and not (Path(subject) / MANIFEST).is_file():
        return open_model(str(subject), geometry, weights), hops
    bundle = Bundle.of(subject)
    entry = reopen(bundle, None, None, weights) if is_custom_bundle(bundle) else entry_of(bundle.manifest)
    return entry, bundle.manifest.buffer.hops_per_call


class _Net:
    """A net, its float32 .tflite, its parts, and a manifest to stream by."""

    def __init__(self, model: ModelEntry, hops: int, weights: Path | None, progress: Progress) -> None:
        progress("the net in float32", 0.0)
        file: WeightsFile = model.given_weights(weights) or pretrained.pull(model.name)
        self.model, self.signature = model, model.signature(hops)
        self.graph = model.load_graph(load_net(model, model.arrays(file)), hops)
        self.tflite = convert(self.graph, self.signature, "fp32", model.fp32_modules)
        self.labels = model.label_names()
        self.parts = parts_of(weights_of(self.tflite, self.graph), model)
        self.spec = ExportSpec(model, hops, ("litert",), ("fp32",), weights)
        with scratch("compress") as folder:
            path = folder / "fp32.tflite"
            path.write_bytes(self.tflite)
            entry = artefact_entry(folder, path, "litert", "fp32", model, ())
            self.manifest: Manifest = build_manifest(self.spec, file, [entry])
        progress("the net in float32", 1.0)
        if not self.parts:
            raise UsageError(f"{model.name}: has no weights that can be compressed; ship the fp32 artefact")


def _builder(net: _Net, artefact_format: Format) -> Builder:
    kinds: Mapping[Format, Any] = {"litert": LiteRTBuilder, "coreml": CoreMLBuilder}
    builder: Builder = kinds[artefact_format](net.tflite, net.graph, net.signature)
    if isinstance(builder, CoreMLBuilder):  # one package is made, so that the others can be told within a per cent
        plan = {m: FLOAT if part.kept else _UNIFORM for part in net.parts for m in part.modules}
        builder.more_bytes = _package_bytes(net, plan) - builder.make(plan)[1]
    return builder


def _package_bytes(net: _Net, modules: Mapping[str, str]) -> int:
    from converters.coreml.convert import CoreMLMetadata
    from converters.coreml.convert import convert as convert_coreml

    model = net.model
    metadata = CoreMLMetadata(model.summary, model.paper, "", "1", model.geometry, net.labels)
    with scratch("compress") as folder:
        path = folder / "int8.mlpackage"
        convert_coreml(net.graph, net.signature, "fp32", (), path, metadata, StoragePlan(FLOAT, modules))
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


class _Search:
    """The search of one format: it measures plans by the judge and keeps them in the journal."""

    def __init__(self, net: _Net, judge: Judge, journal: Journal, builder: Builder, progress: Progress) -> None:
        self._net, self._judge, self._journal, self._builder = net, judge, journal, builder
        self._progress = progress
        self._parts = {part.name: part for part in net.parts}
        self._expected = sum(len(builder.precisions(part)) for part in net.parts) + 1
        self._done = self._measured = self._plain_bytes = 0
        # PESQ takes most of the time; decisions are counted, and few windows give a coarse count.
        self._few = FEW if net.model.output_kind == "audio" else 0
        self.found: Found
        self._uniform: Trial

    def run(self, budget: Budget) -> _Search:
        """Search, and measure int8 everywhere for comparison."""
        parts = [PartOf(p.name, self._builder.precisions(p), p.protected) for p in self._net.parts]
        before = self._journal.found
        uniform = {part.name: FLOAT if part.kept else _UNIFORM for part in self._net.parts}
        eights = {part.name: self._builder.precisions(part)[0] for part in self._net.parts}
        # A part by itself is not tried on the labelled clips, so what is measured there cannot weigh it.
        weights = _of_few(budget) or {
            n: _LENIENT * most for n, most in usual_losses(self._net.model.output_kind).items()
        }
        self.found = search(parts, self._measure, budget, weights, (uniform, eights))
        self._uniform, self._plain_bytes = self._measure(uniform, True), self._measure({}, False).size_bytes
        self._remembered = self._journal.found - before
        self._progress(self._title(True), 1.0)
        return self

    @property
    def precision(self) -> str:
        """ "mixed-" and the precision with the fewest bits in the plan."""
        used = {p for p in self.found.chosen.choices.values() if p in SCHEMES} or {_UNIFORM}
        return MIXED + min(used, key=lambda name: (SCHEMES[name].bits, name != "int4"))

    def modules(self, choices: Choices) -> dict[str, str]:
        """Module -> precision, for all modules; what compression keeps stays in float32 unless it was chosen."""
        named = {m: choices.get(name, FLOAT) for name, part in self._parts.items() for m in part.modules}
        return {**dict.fromkeys(kept_modules(self._net.model), FLOAT), **named}

    def _title(self, whole: bool) -> str:
        return f"{self._builder.format}: {'whole plans on all clips' if whole else 'each part by itself'}"

    def _measure(self, choices: Choices, whole: bool) -> Trial:
        chosen = {name: p for name, p in sorted(choices.items()) if p != FLOAT}
        heard = len(self._judge.pairs) if whole or not self._few else min(self._few, len(self._judge.pairs))
        what = {"format": self._builder.format, "choices": chosen, "whole": whole, "pairs": heard}
        known = self._journal.get(what)
        if not whole and len(chosen) <= 1:
            self._done += 1
            self._progress(self._title(False), min(1.0, self._done / self._expected))
        if known is None:
            known = self._judged(chosen, whole, heard)
            self._journal.put(what, known)
            self._measured += 1
        return Trial(dict(choices), int(known["bytes"]), known["losses"], float(known["tie"]))

    def _judged(self, chosen: Choices, whole: bool, heard: int) -> dict[str, Any]:
        try:
            runtime, size = self._builder.make(self.modules(chosen))
        except ConversionError:  # the library has no such operation in this form: the part is never stored so
            return {"bytes": sys.maxsize, "losses": {}, "tie": 0.0}
        try:
            if not whole and len(chosen) > 1:  # only its size is asked for
                return {"bytes": size, "losses": {}, "tie": 0.0}
            labelled: list[int] | None = None if whole else []
            progress = self._progress if whole else silent
            series = self._judge.figures(runtime, range(heard), labelled, self._title(True), progress)
        finally:
            runtime.close()
        losses = {name: s.loss for name, s in series.items()}
        return {"bytes": size, "losses": losses, "tie": losses.get("score_error", 0.0)}

    def result(self, judge: Judge, budget: Budget, bundle: Bundle | None, progress: Progress) -> FormatResult:
        """What was found; of a bundle its own artefact is executed on all clips."""
        chosen, size = self.found.chosen, self.found.chosen.size_bytes
        name, met = f"{self._builder.format}-{self.precision}", self.found.met
        if bundle is not None:
            artefact = next(a for a in bundle.manifest.artefacts if a.id == name)
            runtime, size = open_runtime(bundle, Choice(artefact, engines_for(artefact)[0])), artefact.size_bytes
        else:
            runtime, _ = self._builder.make(self.modules(chosen.choices))
        series = judge.figures(runtime, what=f"{name} on all clips", progress=progress)
        if bundle is not None:
            met = _within(budget, size, series)
        return FormatResult(
            name,
            met,
            size,
            tuple(figure_of(s) for s in series.values()),
            Plan(self._uniform.size_bytes, self._uniform.losses),
            dict(chosen.choices),
            tuple(Plan(t.size_bytes, t.losses) for t in self.found.tried if t.losses),
            tuple(_single(t, self._plain_bytes) for t in self.found.sensitivity if t.losses),
            self._measured,
            self._remembered,
        )


def _single(trial: Trial, plain_bytes: int) -> tuple[str, str, int, Mapping[str, float]]:
    ((part, precision),) = trial.choices.items()
    return part, precision, plain_bytes - trial.size_bytes, trial.losses


def _of_few(budget: Budget) -> dict[str, float]:
    return {name: allowed for name, allowed in budget.losses.items() if name not in ("accuracy", "map")}


def _within(budget: Budget, size: int, series: Mapping[str, Series]) -> bool:
    small = budget.size_bytes is None or size <= budget.size_bytes
    return small and budget.used({name: s.loss for name, s in series.items()}) <= 1.0
