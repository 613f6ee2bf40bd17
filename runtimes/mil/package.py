"""An .mlpackage on disk: find the model and its weights, parse the specification, refuse everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.common.errors import ArtefactError
from models.common.parsing import parse_json
from runtimes.mil.deps import require_coremltools

# What coremltools 9 writes: specification version 10 is iOS 26. A newer file may hold operations whose
# meaning is unknown here.
NEWEST_SPECIFICATION = 10
MINIMUM_IOS = {1: "11", 2: "11.2", 3: "12", 4: "13", 5: "14", 6: "15", 7: "16", 8: "17", 9: "18", 10: "26"}


@dataclass(frozen=True)
class Package:
    """An opened .mlpackage.

    Attributes:
        root: the package directory.
        model_path: the specification file inside it.
        spec: coremltools' Model message, with an ML Program inside.
    """

    root: Path
    model_path: Path
    spec: Any

    def resolve(self, file_name: str) -> Path:
        """A file that the program names ("@model_path/weights/weight.bin"), never outside the package."""
        relative = file_name.removeprefix("@model_path/")
        path = (self.model_path.parent / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise ArtefactError(
                f"{self.root.name}: weights file {file_name!r} lies outside the package; export it again"
            )
        if not path.is_file():
            raise ArtefactError(
                f"{self.root.name}: weights file {file_name!r} is missing from the package; copy it whole"
            )
        return path


def _model_path(root: Path) -> Path:
    manifest = root / "Manifest.json"
    try:
        fields: Any = parse_json(manifest.read_text(encoding="utf-8"))
        item = fields["itemInfoEntries"][fields["rootModelIdentifier"]]["path"]
        path = (root / "Data" / item).resolve()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ArtefactError(
            f"{root}: no usable Manifest.json inside; expected an .mlpackage directory ({exc})"
        ) from exc
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        raise ArtefactError(f"{root}: the model file {item!r} that Manifest.json names is not in the package")
    return Path(path)


def open_package(path: Path | str) -> Package:
    """Open an ML Program package.

    Args:
        path: the .mlpackage directory.

    Returns:
        the package with its parsed specification.

    Raises:
        ArtefactError: not a package, a neural-network model, a broken or newer specification.
        MissingDependencyError: coremltools is not installed.
    """
    root = Path(path)
    if not root.exists():
        raise ArtefactError(f"{root} does not exist; expected an .mlpackage directory")
    model_path = _model_path(root) if root.is_dir() else root
    if root.is_file() and root.suffix not in (".mlmodel", ".mlpackage"):
        raise ArtefactError(f"{root} is a file; expected an .mlpackage directory")
    require_coremltools()
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError

    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(model_path.read_bytes())
    except (DecodeError, OSError) as exc:
        raise ArtefactError(
            f"{root}: the specification cannot be parsed; the file is broken or no Core ML model"
        ) from exc
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        name = {"neuralNetwork": "a neural network", "neuralNetworkClassifier": "a neural-network classifier"}.get(
            kind or "", f"{kind or 'an empty model'}"
        )
        raise ArtefactError(
            f"{root}: this model is {name}, not an ML Program; "
            "convert with convert_to='mlprogram' (iOS 15 or later) and save as .mlpackage"
        )
    if spec.specificationVersion > NEWEST_SPECIFICATION:
        raise ArtefactError(
            f"{root}: specification version {spec.specificationVersion} is newer than {NEWEST_SPECIFICATION}, "
            "the newest known here; update hearpack or convert for an older deployment target"
        )
    if root.is_file():
        raise ArtefactError(f"{root} is an ML Program without its package; expected an .mlpackage directory")
    return Package(root, model_path, spec)
