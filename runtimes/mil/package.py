"""An .mlpackage on disk: find the model and its weights, parse the specification, refuse everything else."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.common.errors import ArtefactError
from models.common.files import copy_tree, read_text
from models.common.parsing import parse_json
from runtimes.mil.deps import require_model_proto

# What coremltools 9 writes: specification version 10 is iOS 26. A newer file may hold operations whose
# meaning is unknown here.
NEWEST_SPECIFICATION = 10
WEIGHTS, MODEL, AUTHOR = "weights", "model.mlmodel", "com.apple.CoreML"
MINIMUM_IOS = {1: "11", 2: "11.2", 3: "12", 4: "13", 5: "14", 6: "15", 7: "16", 8: "17", 9: "18", 10: "26"}


@dataclass(frozen=True)
class Package:
    """An opened .mlpackage, or a specification with its weights folder.

    Attributes:
        root: the package directory, or the weights folder.
        model_path: the specification file inside it.
        spec: coremltools' Model message, with an ML Program inside.
        weights: folder of the weights files where they do not lie beside the specification.
    """

    root: Path
    model_path: Path
    spec: Any
    weights: Path | None = None

    @property
    def weights_folder(self) -> Path | None:
        """The folder of the weights files; None where the package has none."""
        folder = self.model_path.parent / WEIGHTS if self.weights is None else self.weights
        return folder if folder.is_dir() else None

    def resolve(self, file_name: str) -> Path:
        """A file that the program names ("@model_path/weights/weight.bin"), never outside the package."""
        relative, shown = file_name.removeprefix("@model_path/"), f"{file_name!r:.80}"
        start = self.model_path.parent
        if self.weights is not None:
            start, relative = self.weights, relative.removeprefix(f"{WEIGHTS}/")
        try:
            path = (start / relative).resolve()
            inside, there = path.is_relative_to(self.root.resolve()), path.is_file()
        except (ValueError, OSError, RuntimeError) as exc:  # a NUL, too long, links in a circle
            raise ArtefactError(
                f"{self.root.name}: weights file {shown} cannot be a file's name; export it again"
            ) from exc
        if not inside:
            raise ArtefactError(f"{self.root.name}: weights file {shown} lies outside the package; export it again")
        if not there:
            raise ArtefactError(f"{self.root.name}: weights file {shown} is missing from the package; copy it whole")
        return path

    def stored_bytes(self) -> int:
        """What the files under the model's folder take; links are not followed."""
        start = self.model_path.parent if self.weights is None else self.weights
        files = (f for f in start.rglob("*") if f.is_file() and not f.is_symlink())
        return sum(f.stat().st_size for f in files)


def _model_path(root: Path) -> Path:
    manifest = root / "Manifest.json"
    try:
        fields: Any = parse_json(read_text(manifest))
        item = fields["itemInfoEntries"][fields["rootModelIdentifier"]]["path"]
        path = (root / "Data" / item).resolve()
        usable = path.is_relative_to(root.resolve()) and path.is_file()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ArtefactError(
            f"{root}: no usable Manifest.json inside; expected an .mlpackage directory ({exc})"
        ) from exc
    if not usable:
        raise ArtefactError(f"{root}: the model file {item!r:.80} that Manifest.json names is not in the package")
    return Path(path)


def parse(file: Path, shown: str) -> Any:
    """A specification file as coremltools' Model message.

    Raises:
        ArtefactError: broken, or no Core ML model.
        MissingDependencyError: coremltools is not installed.
    """
    proto = require_model_proto()
    from google.protobuf.message import DecodeError

    spec = proto.Model()
    try:
        spec.ParseFromString(file.read_bytes())
    except (DecodeError, OSError) as exc:
        raise ArtefactError(
            f"{shown}: the specification cannot be parsed; the file is broken or no Core ML model"
        ) from exc
    return spec


def check_specification(spec: Any, shown: str) -> None:
    """Stop at everything but an ML Program of a known version.

    Raises:
        ArtefactError: what it is instead, and what to do.
    """
    kind = spec.WhichOneof("Type") or ""
    if kind.startswith("pipeline"):
        models = spec.pipeline.models if kind == "pipeline" else getattr(spec, kind).pipeline.models
        raise ArtefactError(
            f"{shown}: this is a pipeline of {len(models)} models "
            f"({', '.join(str(m.WhichOneof('Type')) for m in models[:6])}); one ML Program can be run at a time: save "
            "each with coremltools.models.MLModel(spec.pipeline.models[i], weights_dir=model.weights_dir).save(...)"
        )
    if kind != "mlProgram":
        name = {"neuralNetwork": "a neural network", "neuralNetworkClassifier": "a neural-network classifier"}.get(
            kind, kind or "an empty model"
        )
        raise ArtefactError(
            f"{shown}: this model is {name}, not an ML Program; "
            "convert with convert_to='mlprogram' (iOS 15 or later) and save as .mlpackage"
        )
    if spec.specificationVersion > NEWEST_SPECIFICATION:
        raise ArtefactError(
            f"{shown}: specification version {spec.specificationVersion} is newer than {NEWEST_SPECIFICATION}, "
            "the newest known here; update hearpack or convert for an older deployment target"
        )


def refuse_compiled(path: Path) -> None:
    """Stop at what Xcode or coremltools compiled from a package.

    Raises:
        ArtefactError: `path` is a compiled model, or a part of one.
    """
    name = path.name.rstrip("/")
    if name.endswith(".mlmodelc") or (path.is_dir() and (path / "coremldata.bin").is_file()):
        raise ArtefactError(
            f"{path}: a compiled model (.mlmodelc); what it is made of cannot be read here: open the .mlpackage that "
            "it was compiled from, or ask its authors for it"
        )
    if name.endswith(".mil"):
        raise ArtefactError(
            f"{path}: the text of a program (.mil), as compiled models hold it; open the .mlpackage that it was "
            "compiled from"
        )


def open_package(path: Path | str) -> Package:
    """Open an ML Program package.

    Args:
        path: the .mlpackage directory.

    Returns:
        the package with its parsed specification.

    Raises:
        ArtefactError: not a package, a neural network, a pipeline or a compiled model, a broken or newer specification.
        MissingDependencyError: coremltools is not installed.
    """
    root = Path(path)
    if not root.exists():
        raise ArtefactError(f"{root} does not exist; expected an .mlpackage directory")
    refuse_compiled(root)
    model_path = _model_path(root) if root.is_dir() else root
    if root.is_file() and root.suffix not in (".mlmodel", ".mlpackage"):
        raise ArtefactError(f"{root} is a file; expected an .mlpackage directory")
    spec = parse(model_path, str(root))
    check_specification(spec, str(root))
    if root.is_file():
        raise ArtefactError(f"{root} is an ML Program without its package; expected an .mlpackage directory")
    return Package(root, model_path, spec)


def of_specification(spec: Any, weights: Path | str | None) -> Package:
    """A specification in memory, with its weights folder, as a package.

    Args:
        spec: coremltools' Model message.
        weights: its weights folder.

    Raises:
        ArtefactError: not an ML Program, a newer one, or no such folder.
    """
    check_specification(spec, "the specification")
    if weights is None or not Path(weights).is_dir():
        raise ArtefactError(
            "an ML Program's specification stores its weights in files: pass their folder as weights_dir "
            f"(MLModel.weights_dir of coremltools); got {weights!r}"
        )
    return Package(Path(weights), Path(weights) / "model.mlmodel", spec, Path(weights))


def write_package(folder: Path, package: Package) -> None:
    """Write a package's files and its (changed) specification into an empty folder.

    Args:
        folder: becomes the .mlpackage.
        package: an opened package, whose files are copied, or a specification with its weights folder.
    """
    if package.weights is None:
        copy_tree(package.root, folder)
        model = folder / package.model_path.relative_to(package.root.resolve())
    else:
        model = folder / "Data" / AUTHOR / MODEL
        copy_tree(package.weights, model.parent / WEIGHTS)
        entries = {MODEL: "CoreML Model Specification", WEIGHTS: "CoreML Model Weights"}
        items = {
            str(uuid.uuid5(uuid.NAMESPACE_URL, name)).upper(): {
                "author": AUTHOR,
                "description": text,
                "name": name,
                "path": f"{AUTHOR}/{name}",
            }
            for name, text in entries.items()
        }
        manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": next(iter(items))}
        (folder / "Manifest.json").write_text(json.dumps(manifest, indent=4), encoding="utf-8")
    model.write_bytes(package.spec.SerializeToString())
