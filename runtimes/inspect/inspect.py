"""What is inside a bundle, a .tflite, a .mlpackage or an .aimodel."""

from __future__ import annotations

from pathlib import Path

from models.common.errors import ArtefactError, UsageError
from runtimes.bundle import MANIFEST, Bundle
from runtimes.coreai.asset import SUFFIX
from runtimes.inspect import aimodel, mlpackage, tflite
from runtimes.inspect.bundle import BundleReport, describe_bundle
from runtimes.mil.package import refuse_compiled

Report = BundleReport | tflite.TfliteReport | mlpackage.MlPackageReport | aimodel.AimodelReport


def inspect(path: Bundle | str | Path) -> Report:
    """What is inside a bundle, a .tflite, a .mlpackage or an .aimodel; nothing is run.

    Args:
        path: a bundle, its folder, or a file of one of the formats.

    Returns:
        a report for each of the kinds.

    Raises:
        UsageError: none of them.
        ArtefactError, BundleError: damaged.
        MissingDependencyError: a .mlpackage, and coremltools is not installed; an .aimodel, and coreai-core is not.
    """
    if isinstance(path, Bundle):
        return describe_bundle(path)
    file = Path(path)
    if not file.exists():
        raise UsageError(f"{file}: no such file or folder; expected a bundle, a .tflite, a .mlpackage or an .aimodel")
    refuse_compiled(file)
    if file.suffix == ".tflite":
        return tflite.describe(file)
    if file.suffix == ".mlpackage":
        return mlpackage.describe(file)
    if file.suffix == SUFFIX:
        return aimodel.describe(file)
    if file.suffix == ".mlmodel":
        raise ArtefactError(
            f"{file}: a .mlmodel (neural network) has no ML Program; expected a .mlpackage, convert it again"
        )
    if file.is_dir() or file.name == MANIFEST:
        return describe_bundle(file)
    raise UsageError(f"{file}: expected a bundle (folder), a .tflite, a .mlpackage or an .aimodel")
