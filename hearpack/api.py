"""The command line as functions. Each returns a frozen report; nothing prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.common.errors import ArtefactError, UsageError
from models.common.progress import Progress, silent

if TYPE_CHECKING:
    from streaming.files.stream_file import RunResult


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
