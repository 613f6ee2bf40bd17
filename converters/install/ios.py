"""The iOS half of `hearpack install`: what a Core ML artefact and an Xcode project must be before they meet.

Core ML itself runs on the device only. What can be seen here is: whether the package is whole and carries the
tensors that the app will ask for by name, and whether the app's deployment target is one the artefact runs on.
"""

from __future__ import annotations

import re
from pathlib import Path

from models.common.errors import ArtefactError, BundleError, UsageError
from models.common.parsing import parse_json
from runtimes.bundle import Artefact, Bundle, read_inside
from runtimes.coreai.asset import open_asset

PROJECT = "HearpackSample.xcodeproj/project.pbxproj"
_TARGET = re.compile(r"\bIPHONEOS_DEPLOYMENT_TARGET = ([\d.]+);")
_STATES_INSIDE_IOS = (18, 0)  # MLState


def check_ios(bundle: Bundle, artefact: Artefact, sample: Path) -> None:
    """Compare an artefact with the app that will run it.

    Args:
        bundle: an opened bundle, its hashes checked.
        artefact: one of format "coreml"; or "coreai", which the app takes on iOS 27 alone.
        sample: the folder ios-sample.

    Raises:
        UsageError: no Xcode project there, or one without a deployment target.
        BundleError: the artefact needs a newer iOS than the app's deployment target.
        ArtefactError: the package is not whole, or `io` hides a tensor that the app will ask for.
    """
    if artefact.format == "coreai":
        open_asset(bundle.artefact_path(artefact))
        return
    _check_package(bundle, artefact)
    target = deployment_target(sample)
    stated = _version(artefact.minimum_os.ios or "0")
    needed = max(stated, _STATES_INSIDE_IOS) if artefact.state_mode == "mlstate" else stated
    if needed > target:
        raise BundleError(
            f"{bundle.path}: artefact {artefact.id} needs iOS {_text(needed)}, the app's deployment target is "
            f"{_text(target)}; raise IPHONEOS_DEPLOYMENT_TARGET in {PROJECT} and platforms in "
            f"HearpackKit/Package.swift, or install another artefact"
        )


def deployment_target(sample: Path) -> tuple[int, ...]:
    """The lowest IPHONEOS_DEPLOYMENT_TARGET of the sample's project.

    Raises:
        UsageError: no project, or none stated.
    """
    file = sample / PROJECT
    if not file.is_file():
        raise UsageError(f"{sample}: expected the folder ios-sample with {PROJECT}, found no project there")
    found = [_version(text) for text in _TARGET.findall(file.read_text(encoding="utf-8"))]
    if not found:
        raise UsageError(f"{file}: expected an IPHONEOS_DEPLOYMENT_TARGET, found none; set it to 16.0 or newer")
    return min(found)


def _check_package(bundle: Bundle, artefact: Artefact) -> None:
    """The package's own index names its model, and every file it names is one that the manifest vouches for."""
    index = bundle.artefact_path(artefact) / "Manifest.json"
    try:
        document = parse_json(read_inside(bundle.path, f"{artefact.path}/Manifest.json").decode("utf-8"))
        items = document["itemInfoEntries"]
        root = items[document["rootModelIdentifier"]]["path"]
        paths = [str(item["path"]) for item in items.values()]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ArtefactError(
            f"{index}: expected the index of an .mlpackage ({type(exc).__name__}: {exc}); export the bundle again"
        ) from exc
    held = {entry.path for entry in artefact.files}
    for path in paths:
        name = f"{artefact.path}/Data/{path}"
        if name not in held and not any(entry.startswith(name + "/") for entry in held):
            raise ArtefactError(f"{index}: names {path}, which the manifest does not; export the bundle again")
    if not root.endswith(".mlmodel"):
        raise ArtefactError(f"{index}: expected a model as its root, got {root}; export the bundle again")


def _version(text: str) -> tuple[int, ...]:
    parts = tuple(int(part) for part in text.split("."))
    return parts + (0,) * (2 - len(parts))


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
