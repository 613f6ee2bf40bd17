"""The command line as functions. Each returns a frozen report; nothing prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.common.errors import ArtefactError, UsageError
from models.common.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streaming.files.stream_file import RunResult
    from streaming.metrics.partition import PartitionReport
    from streaming.runs.record import RunRecord
    from streaming.simulator.command import SimulateOptions
    from streaming.simulator.fit import FittedProfile
    from streaming.simulator.simulate import Tick


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
