"""Every artefact of a bundle against the torch original: a minute of real audio, and streams that break models."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.bundle.golden import read_golden, through_resampler
from converters.bundle.reference import StreamOutput, check_entry, compare, compare_extras, entry_of, original, stream
from converters.bundle.test_audio import VERIFY_SECONDS, stream_programme
from converters.originals import is_custom_bundle, reopen
from converters.spec import toolchain_versions
from converters.tolerances import lax, limits_of
from models import pretrained
from models.common.errors import MissingDependencyError, OutputError, UsageError, WeightsError
from models.common.files import as_path, write_atomic
from models.common.progress import Progress, silent
from models.entry import ModelEntry
from models.weights.checkpoint import load_file
from models.weights.store import user_file
from runtimes.bundle import PARITY, Artefact, Bundle, Manifest
from runtimes.bundle.signature import check_signature
from runtimes.engines import Choice, Engine, cannot_run, engines_for, open_runtime
from runtimes.protocol import Runtime
from runtimes.torch import load_net
from streaming.core.resample import resample
from streaming.files.wav import read_wav
from streaming.metrics.parity import Check, Parity, judge
from streaming.metrics.stress import stress_streams

Array = NDArray[np.float32]

STRESS_SECONDS = 4.0
# Apple's interpreter of Core AI takes up to one and a half times as long as the sound lasts.
SLOW_SECONDS, SLOW_STRESS_SECONDS = 10.0, 2.0
SHORTEST_SECONDS = 2.0
_INSENSITIVE = (
    "the net hardly reacts to its input (it was exported with --allow-insensitive): that artefacts agree with it "
    "proves nothing; export it with real weights"
)
_NOT_KEPT = ("level", "warnings", "not_kept")


@dataclass(frozen=True)
class StressFigures:
    """One stress stream: reported, and no NaN allowed."""

    stream: str
    figures: Parity


@dataclass(frozen=True)
class ArtefactReport:
    """One artefact on one engine.

    Attributes:
        artefact, engine, engine_version, detail: what computed.
        seconds: of the stream: all of it, or its beginning on a slow engine.
        figures: over so much of the stream.
        checks: hearpack's limits for the task and precision, each the manifest's own where that is stricter; then those
            of extra outputs, "NAME snr_db".
        stress: the streams that break models.
        lax: where the manifest's tolerance falls short of hearpack's limits, a sentence each.
        passed: every check holds, no stress stream gave a NaN, and the manifest asks for no less than hearpack does.
    """

    artefact: str
    engine: str
    engine_version: str
    detail: str
    seconds: float
    figures: Parity
    checks: tuple[Check, ...]
    stress: tuple[StressFigures, ...]
    lax: tuple[str, ...]
    passed: bool


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` measured; parity/MACHINE.json holds the same.

    Attributes:
        bundle: name of the bundle's folder.
        machine: system and processor family; no host name.
        toolchain: versions of what computed.
        reference: "torch original", or "golden" where torch, the weights or the original are absent: the bundle's own
            word on itself, which says that its artefacts agree with its vectors and no more.
        material, seconds: the stream.
        artefacts: one report for each artefact and engine.
        passed: all of them passed.
        level, warnings: of a file of your own: a line about its level, and what a person has to know of it; that the
            net hardly reacts to its input.
        not_kept: why there is no parity/MACHINE.json of it (a bundle that cannot be written); empty where there is.
    """

    bundle: str
    machine: str
    toolchain: Mapping[str, str]
    reference: str
    material: str
    seconds: float
    artefacts: tuple[ArtefactReport, ...]
    passed: bool
    level: str = ""
    warnings: tuple[str, ...] = ()
    not_kept: str = ""


class _Material(NamedTuple):
    """The stream that is compared, and what a person has to know of it if it is a file of theirs."""

    name: str
    samples: Array
    level: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Truth:
    """Streams and what the original gives for each."""

    kind: str
    material: str
    samples: Array
    output: StreamOutput
    stress: dict[str, tuple[Array, StreamOutput]]
    level: str = ""
    warnings: tuple[str, ...] = ()
    short: _Truth | None = None


def verify(
    bundle: Bundle | str | Path,
    *,
    artefacts: Sequence[str] = (),
    seconds: float | None = None,
    audio: str | Path | None = None,
    weights: str | Path | None = None,
    original: str | None = None,
    geometry: str | Path | None = None,
    public_key: str | Path | None = None,
    progress: Progress = silent,
) -> VerifyReport:
    """Stream real audio through every artefact, on every engine of this machine, and compare it with the original.

    Args:
        bundle: a bundle, or its folder.
        artefacts: ids to look at; all when empty.
        seconds: length of the stream; 60 when None, the whole file with `audio`.
        audio: a file of your own; hearpack's material when None.
        weights: the checkpoint a bundle of your own weights was exported from.
        original: where a custom net is, if it is not where this machine exported it from; code of the user's choice,
            its sources compared with their hashes before it is run (converters/originals.py). Nothing that the bundle
            names is ever run.
        geometry: its geometry.toml, where it does not lie beside it.
        public_key: of whoever signed the bundle (runtimes/bundle/signature.py); without it no signature is asked for.
        progress: called with (what, fraction done).

    Returns:
        the figures; also written to parity/MACHINE.json in the bundle, or `not_kept` says why not.

    Raises:
        BundleError: a file does not match its hash, no artefact has such an id, or there are no limits for one.
        UsageError: a stream too short.
        AudioError: the file is not usable.
    """
    if seconds is not None and not SHORTEST_SECONDS <= seconds <= 3600.0:
        raise UsageError(f"--seconds: expected {SHORTEST_SECONDS:g} to 3600, got {seconds:g}")
    bundle = Bundle.of(bundle)
    if public_key is not None:
        check_signature(bundle, public_key)
    chosen = [bundle.artefact(a) for a in artefacts] if artefacts else list(bundle.manifest.artefacts)
    bundle.check_files(chosen)
    bundle.check_others()
    bundle.labels()
    progress("the original", 0.0)
    unable = {} if artefacts else {a.id: reason for a in chosen if (reason := cannot_run(a))}
    slow = any(a.format == "coreai" and a.id not in unable for a in chosen)
    truth = _truth(bundle, seconds, as_path(audio), as_path(weights), (original, as_path(geometry)), slow)
    progress("the original", 1.0)
    reports = [
        _artefact_report(bundle, artefact, engine, truth, progress)
        for artefact in chosen
        if artefact.id not in unable
        for engine in engines_for(artefact)
    ]
    if not reports:
        raise UsageError(f"{bundle.path}: none of its artefacts can be executed here: {'; '.join(unable.values())}")
    report = VerifyReport(
        bundle=bundle.path.resolve().name,
        machine=f"{platform.system()}-{platform.machine()}".lower(),
        toolchain=toolchain_versions(),
        reference=truth.kind,
        material=truth.material,
        seconds=truth.samples.shape[-1] / bundle.manifest.geometry.sample_rate_hz,
        artefacts=tuple(reports),
        passed=all(r.passed for r in reports),
        level=truth.level,
        warnings=(
            *truth.warnings,
            *(f"{name} was not executed here, and says nothing: {reason}" for name, reason in unable.items()),
            *([_INSENSITIVE] if bundle.manifest.original.insensitive else []),
        ),
    )
    return dataclasses.replace(report, not_kept=_keep(bundle, report))


def _keep(bundle: Bundle, report: VerifyReport) -> str:
    """Write parity/MACHINE.json; says why where that cannot be, because the figures are there all the same."""
    fields = {name: value for name, value in dataclasses.asdict(report).items() if name not in _NOT_KEPT}
    folder = bundle.path / PARITY
    if folder.is_symlink():
        return f"{folder}: is a link; expected a folder, take it out"
    try:
        write_atomic(folder / f"{report.machine}.json", json.dumps(fields, indent=2, sort_keys=True) + "\n")
    except OutputError as exc:
        return str(exc)
    return ""


def _samples(manifest: Manifest, entry: ModelEntry, seconds: float | None, audio: Path | None) -> _Material:
    rate = manifest.geometry.sample_rate_hz
    if audio is None:
        length_s = VERIFY_SECONDS if seconds is None else seconds
        what = "street recording" if entry.test_material == "street" else "speech in the street at 5 dB"
        material = stream_programme(entry, rate, length_s)
        return _Material(f"{what}{material.also}", material.samples)
    clip = read_wav(audio)
    if manifest.far:
        raise UsageError(f"--audio: {manifest.name} also takes {manifest.far[0].name}; leave it out")
    if manifest.sources or manifest.lanes > 1:
        channels = clip.spread(manifest.geometry.channels)
        samples = np.stack([resample(channel, clip.sample_rate_hz, rate) for channel in channels])
    else:
        samples = resample(clip.mono(), clip.sample_rate_hz, rate)
    if seconds is not None:
        samples = samples[..., : round(seconds * rate)]
    length = samples.shape[-1]
    if length < SHORTEST_SECONDS * rate:
        raise UsageError(f"{audio}: expected at least {SHORTEST_SECONDS:g} s to verify with, got {length / rate:.2f} s")
    return _Material(audio.name, samples, "" if clip.level is None else clip.level.line(), clip.warnings)


def _truth(
    bundle: Bundle,
    seconds: float | None,
    audio: Path | None,
    weights: Path | None,
    own: tuple[str | None, Path | None],
    slow: bool,
) -> _Truth:
    manifest = bundle.manifest
    try:
        if is_custom_bundle(bundle):
            entry: ModelEntry = reopen(bundle, *own, weights)
            check_entry(manifest, entry)
            net = load_net(entry, {})
        else:
            entry = entry_of(manifest)
            check_entry(manifest, entry)
            net = load_net(entry, _original_weights(entry, manifest.original.weights_sha256, weights))
    except (MissingDependencyError, WeightsError) as exc:
        if audio is not None or weights is not None or own != (None, None):
            raise
        return _golden_truth(bundle, str(exc))
    material = _samples(manifest, entry, seconds, audio)
    rate = manifest.geometry.sample_rate_hz

    def truth(samples: Array, stress_seconds: float, short: _Truth | None) -> _Truth:
        stress = _stress(samples, rate, stress_seconds)
        return _Truth(
            "torch original",
            material.name,
            samples,
            original(manifest, net, samples, entry),
            {name: (signal, original(manifest, net, signal, entry)) for name, signal in stress.items()},
            material.level,
            material.warnings,
            short,
        )

    beginning = material.samples[..., : round(SLOW_SECONDS * rate)]
    return truth(material.samples, STRESS_SECONDS, truth(beginning, SLOW_STRESS_SECONDS, None) if slow else None)


def _stress(samples: Array, rate: int, seconds: float) -> dict[str, Array]:
    """The streams that break models, channel by channel where there are several."""
    if samples.ndim == 1:
        return stress_streams(samples, rate, seconds)
    channels = [stress_streams(channel, rate, seconds) for channel in samples]
    return {name: np.stack([streams[name] for streams in channels]) for name in channels[0]}


def _original_weights(entry: ModelEntry, sha256: str, weights: Path | None) -> Mapping[str, np.ndarray[Any, Any]]:
    """The weights that the bundle was made of, proven by their sha256."""
    file = user_file(weights) if weights is not None else pretrained.pull(entry.name)
    if file.sha256 != sha256:
        raise WeightsError(
            f"the bundle was exported from weights with sha256 {sha256[:12]}…, "
            f"{file.path.name} has {file.sha256[:12]}…; give the right file with --weights"
        )
    return load_file(file.path)


def _golden_truth(bundle: Bundle, reason: str) -> _Truth:
    golden = read_golden(bundle)[0]
    rate = bundle.manifest.geometry.sample_rate_hz
    samples = through_resampler(golden.samples, golden.sample_rate_hz, rate)
    ends = np.zeros(0, np.int64)
    return _Truth("golden", f"golden vectors ({reason})", samples, StreamOutput(golden.output, ends, golden.extras), {})


def _artefact_report(
    bundle: Bundle, artefact: Artefact, engine: Engine, truth: _Truth, progress: Progress
) -> ArtefactReport:
    manifest = bundle.manifest
    what = f"{artefact.id} on {engine}"
    truth = truth.short if engine == "coreai" and truth.short is not None else truth
    progress(what, 0.0)
    runtime = open_runtime(bundle, Choice(artefact, engine))
    try:
        info = runtime.info
        figures, extras = _figures(manifest, artefact, runtime, truth.samples, truth.output)
        stress = []
        gone = 0
        for index, (name, (samples, output)) in enumerate(truth.stress.items()):
            progress(what, (index + 1) / (len(truth.stress) + 1))
            found, also = _figures(manifest, artefact, runtime, samples, output)
            stress.append(StressFigures(name, found))
            gone += sum(1 for check in also if check.metric.endswith("nan_count") and not check.passed)
    finally:
        runtime.close()
    progress(what, 1.0)
    checks = (*judge(figures, limits_of(manifest, artefact)), *extras)
    short = lax(manifest, artefact)
    clean = not gone and all(s.figures.nan_count == 0 for s in stress)
    return ArtefactReport(
        artefact=artefact.id,
        engine=info.engine,
        engine_version=info.version,
        detail=info.detail,
        seconds=truth.samples.shape[-1] / manifest.geometry.sample_rate_hz,
        figures=figures,
        checks=checks,
        stress=tuple(stress),
        lax=short,
        passed=clean and not short and all(c.passed for c in checks),
    )


def _figures(
    manifest: Manifest, artefact: Artefact, runtime: Runtime, samples: Array, truth: StreamOutput
) -> tuple[Parity, tuple[Check, ...]]:
    """Of the task's own output, and checks of the others."""
    candidate = stream(manifest, runtime, samples)
    ends = truth.ends if len(truth.ends) else candidate.ends
    figures = compare(manifest, StreamOutput(truth.values, ends), candidate)
    return figures, compare_extras(artefact, truth, candidate)
