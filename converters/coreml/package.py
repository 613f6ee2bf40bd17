"""A .mlpackage written so that the same program gives the same bytes, in any process on any day.

coremltools' own writer draws random item identifiers, leaves protobuf maps in hash order and stores
the date. The layout is small and fixed, so it is written here:

    NAME.mlpackage/
      Manifest.json                                identifiers derived from what they stand for
      Data/com.apple.CoreML/model.mlmodel          the specification, maps in key order
      Data/com.apple.CoreML/weights/weight.bin     as coremltools wrote it: already the same every time
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

from models.common.files import copy_tree
from models.common.hashing import sha256_bytes, sha256_tree

AUTHOR = "com.apple.CoreML"
MODEL_FILE = "model.mlmodel"
WEIGHTS_FOLDER = "weights"
DATE_KEY = "com.github.apple.coremltools.conversion_date"


def write_package(spec: Any, weights_folder: Path | None, package: Path) -> None:
    """Write a Core ML specification and its weights as a package.

    Args:
        spec: the `Model` protobuf message of coremltools; its conversion date is taken out.
        weights_folder: the folder that holds weight.bin, or None where the program has no large constants.
        package: an existing empty folder that becomes the package.

    Raises:
        OSError: the folder cannot be written.
    """
    spec.description.metadata.userDefined.pop(DATE_KEY, None)
    data = package / "Data" / AUTHOR
    data.mkdir(parents=True)
    model = spec.SerializeToString(deterministic=True)
    (data / MODEL_FILE).write_bytes(model)
    items = {MODEL_FILE: ("CoreML Model Specification", sha256_bytes(model))}
    if weights_folder is not None and weights_folder.is_dir():
        copy_tree(weights_folder, data / WEIGHTS_FOLDER)
        items[WEIGHTS_FOLDER] = ("CoreML Model Weights", sha256_tree(data / WEIGHTS_FOLDER))
    (package / "Manifest.json").write_text(_manifest(items), encoding="utf-8")


def _manifest(items: dict[str, tuple[str, str]]) -> str:
    """The text of Manifest.json for items {name: (description, sha256 of the content)}."""
    # A UUID stands for an item with this content, and for nothing else.
    hashes = {name: hashlib.sha256(f"{name}\0{digest}".encode()).digest() for name, (_, digest) in items.items()}
    identifiers = {name: str(uuid.UUID(bytes=value[:16], version=4)).upper() for name, value in hashes.items()}
    entries = {
        identifiers[name]: {"author": AUTHOR, "description": description, "name": name, "path": f"{AUTHOR}/{name}"}
        for name, (description, _) in items.items()
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": identifiers[MODEL_FILE],
    }
    return json.dumps(manifest, indent=4, sort_keys=True) + "\n"
