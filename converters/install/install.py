"""A bundle into a sample app: hashes checked, golden vectors run, copied whole or not at all.

The app's project says in `bundle-schema.txt` which manifests it reads. What is copied is what was exported, byte for
byte: manifest, labels, the artefacts of the platform's format that were asked for, golden vectors, licences. Nothing
is generated, because the manifest carries everything; the app takes the first artefact whose files are there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.bundle.golden import check_golden, read_golden
from converters.install.ios import check_ios
from converters.tolerances import lax
from models.common.errors import BundleError, MissingDependencyError, UsageError
from models.common.files import atomic_folder, read_text
from runtimes.bundle import MANIFEST, Artefact, Bundle, Format, inside, require_mono, require_output
from runtimes.bundle.signature import check_signature
from runtimes.engines import Choice, cannot_run, engines_for, open_runtime
from streaming.metrics.parity import Check

SCHEMA_FILE = "bundle-schema.txt"


@dataclass(frozen=True)
class Platform:
    """What a sample app takes.

    Attributes:
        name: as messages call it.
        format: the artefacts it runs.
        bundles: the folder of bundles, relative to the sample's own.
        check: compares an artefact with the manifest and the sample, beyond its hashes; raises ArtefactError.
        beside: artefacts that it runs on newer systems alone, copied where they are named.
    """

    name: str
    format: Format
    bundles: str
    check: Callable[[Bundle, Artefact, Path], None]
    beside: Format | None = None


@dataclass(frozen=True)
class GoldenRun:
    """The golden vectors through one artefact.

    Attributes:
        artefact, engine: what ran, or would have.
        checks: its figures beside their limits; empty where it was not run.
        not_run: why it was not run; empty where it was.
    """

    artefact: str
    engine: str
    checks: tuple[Check, ...]
    not_run: str = ""


@dataclass(frozen=True)
class Installed:
    """What was put where.

    Attributes:
        platform: "android" or "ios".
        folder: the bundle's folder in the app.
        artefacts: ids of the artefacts copied.
        files: how many files were copied.
        bytes: their size.
        golden: how each artefact reproduced the golden vectors here.
        others: bundles that lie beside it in the app.
    """

    platform: str
    folder: str
    artefacts: tuple[str, ...]
    files: int
    bytes: int
    golden: tuple[GoldenRun, ...]
    others: tuple[str, ...]


def _loads(bundle: Bundle, artefact: Artefact, _sample: Path) -> None:
    """The library takes the .tflite, and its tensors are those of the manifest: no state is missing."""
    open_runtime(bundle, Choice(artefact, "litert-interpreter")).close()


_MARKERS = {"android": "settings.gradle.kts", "ios": "HearpackKit"}  # what tells whose project a folder is
PLATFORMS = {
    "android": Platform("android", "litert", "app/src/main/assets/bundles", _loads),
    "ios": Platform("ios", "coreml", "App/Bundles", check_ios, beside="coreai"),
}


def install(
    bundle: Bundle | str | Path,
    *,
    android: str | Path | None = None,
    ios: str | Path | None = None,
    artefacts: Sequence[str] = (),
    public_key: str | Path | None = None,
) -> tuple[Installed, ...]:
    """Put a bundle into one or both sample apps, replacing the same bundle if an older one is there.

    Args:
        bundle: a bundle, or its folder.
        android: the folder android-sample.
        ios: the folder ios-sample.
        artefacts: ids to copy; by default the platform's first fp32 one, else its first.
        public_key: of whoever signed the bundle; without it no signature is asked for.

    Returns:
        what was copied, for each platform.

    Raises:
        UsageError: neither folder, artefacts for both, a folder that is no sample app, an artefact that is not of its
            format, or a separator: the apps' streams are mono.
        BundleError: the app does not read this schema, a hash or the signature is wrong, golden vectors or labels are
            missing, the manifest asks for less than hearpack's limits, or an artefact does not give its golden vectors.
        ArtefactError: the artefact does not fit the manifest.
        OutputError: the folder cannot be written.
    """
    targets = [(PLATFORMS[n], Path(f)) for n, f in (("android", android), ("ios", ios)) if f is not None]
    if not targets:
        raise UsageError("expected --android DIR or --ios DIR (or both), got neither; DIR is the sample's folder")
    if artefacts and len(targets) > 1:
        raise UsageError("--artefact belongs to one platform; install for Android and iOS one after the other")
    opened = Bundle.of(bundle)
    if public_key is not None:
        check_signature(opened, public_key)
    return tuple(_install(opened, platform, sample, artefacts) for platform, sample in targets)


def _install(bundle: Bundle, platform: Platform, sample: Path, artefact_ids: Sequence[str]) -> Installed:
    _check_sample(bundle, platform, sample)
    require_output(bundle.manifest, "install", "audio", "scores")
    require_mono(bundle.manifest, "install")
    artefacts = _choose(bundle, platform, artefact_ids)
    bundle.check_files(artefacts)
    bundle.check_others()
    bundle.labels()
    read_golden(bundle)
    for artefact in artefacts:
        platform.check(bundle, artefact, sample)
    golden = tuple(_run_golden(bundle, artefact) for artefact in artefacts)
    files = _wanted(bundle, artefacts)
    target = sample / platform.bundles / bundle.manifest.folder_name
    with atomic_folder(target) as folder:
        for name in files:
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(inside(bundle.path, name), copy)
    others = (p.name for p in target.parent.iterdir() if (p / MANIFEST).is_file() and p != target)
    return Installed(
        platform=platform.name,
        folder=str(target),
        artefacts=tuple(a.id for a in artefacts),
        files=len(files),
        bytes=sum((target / name).stat().st_size for name in files),
        golden=golden,
        others=tuple(sorted(others)),
    )


def _run_golden(bundle: Bundle, artefact: Artefact) -> GoldenRun:
    """The artefact over ten seconds of golden audio on its usual engine here, within hearpack's limits."""
    short = lax(bundle.manifest, artefact)
    if short:
        raise BundleError(f"{bundle.path}: {short[0]}; export the bundle again")
    engine = engines_for(artefact)[0]
    reason = cannot_run(artefact)
    if reason:
        return GoldenRun(artefact.id, engine, (), reason)
    try:
        (result,) = check_golden(bundle, [Choice(artefact, engine)])
    except MissingDependencyError as exc:
        return GoldenRun(artefact.id, engine, (), str(exc))
    for check in result.checks:
        if not check.passed:
            raise BundleError(
                f"{bundle.path}: {artefact.id} on {engine} does not give the golden vectors: {check.metric} is "
                f"{check.value:.3g}, expected {check.direction} {check.limit:g}; nothing was installed"
            )
    return GoldenRun(artefact.id, engine, result.checks)


def _check_sample(bundle: Bundle, platform: Platform, sample: Path) -> None:
    file = sample / SCHEMA_FILE
    for name, marker in _MARKERS.items():
        if name != platform.name and (sample / marker).exists() and not (sample / _MARKERS[platform.name]).exists():
            raise UsageError(
                f"{sample}: is the project of another platform ({marker} is in it); --{platform.name} expects the "
                f"folder {platform.name}-sample, and this one goes with --{name}"
            )
    if not file.is_file():
        raise UsageError(
            f"{sample}: expected a sample app's folder (android-sample or ios-sample), which has {SCHEMA_FILE}"
        )
    try:
        known = read_text(file).split()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{file}: cannot be read as UTF-8 text: {exc}; take it from the sample again") from exc
    schema = bundle.manifest.schema_id
    if schema.split(".")[0] not in known:
        raise BundleError(
            f"{bundle.path}: the app in {sample} reads {', '.join(known) or 'no schema'}, the bundle is {schema}; "
            f"update the sample or export the bundle with the hearpack it belongs to"
        )


def _choose(bundle: Bundle, platform: Platform, artefact_ids: Sequence[str]) -> tuple[Artefact, ...]:
    usual = [a for a in bundle.manifest.artefacts if a.format == platform.format]
    fitting = usual + [a for a in bundle.manifest.artefacts if a.format == platform.beside]
    if not artefact_ids:
        full = [a for a in usual if a.precision.weights == "fp32"]
        chosen = (full or usual)[:1]
        if not chosen:
            raise UsageError(f"{bundle.path}: no {platform.format} artefact, which {platform.name} needs; export one")
        return tuple(chosen)
    named = [bundle.artefact(i) for i in artefact_ids]
    for artefact in named:
        if artefact not in fitting:
            raise UsageError(
                f"--artefact {artefact.id}: {platform.name} runs {platform.format}; "
                f"this bundle has: {', '.join(a.id for a in fitting) or 'none'}"
            )
    if not any(artefact in usual for artefact in named):
        raise UsageError(
            f"--artefact {named[0].id}: an older {platform.name} cannot run it; name one of format {platform.format} "
            f"beside it"
        )
    return tuple(named)


def _wanted(bundle: Bundle, artefacts: Sequence[Artefact]) -> tuple[str, ...]:
    """Files to copy, relative to the bundle: what the manifest vouches for, and nothing that merely lies there."""
    names = {MANIFEST, *(entry.path for entry in bundle.manifest.files)}
    return tuple(sorted(names | {entry.path for artefact in artefacts for entry in artefact.files}))
