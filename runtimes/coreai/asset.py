"""An .aimodel on disk: what it must hold before Apple's native code reads it.

NAME.aimodel/
  main.mlirb       the program, MLIR bytecode
  main.hash        sha256 of main.mlirb, 32 bytes; on Linux nobody but us compares it
  metadata.json    assetVersion, producer, author, licence, and creatorDefinedMetadata: hearpack's facts
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.common.errors import ArtefactError
from models.common.files import read_text
from models.common.parsing import parse_json

SUFFIX = ".aimodel"
PROGRAM, HASH, METADATA = "main.mlirb", "main.hash", "metadata.json"
ASSET_VERSION = "2.0"  # of coreai-core 1.0.0b3; assets of 0.4.0's time do not load in later betas of iOS 27
MAGIC = b"ML\xefR"


@dataclass(frozen=True)
class Asset:
    """An .aimodel whose files are whole.

    Attributes:
        path: the folder.
        metadata: metadata.json.
        program_bytes, sha256: of the program.
    """

    path: Path
    metadata: dict[str, Any]
    program_bytes: int
    sha256: str

    @property
    def key(self) -> str:
        """What it is known by in runtimes/trial.py: its hash, and the Core AI that runs it here."""
        return f"{self.sha256}-coreai-{importlib.metadata.version('coreai-core')}"

    @property
    def producer(self) -> str:
        """The package that wrote it, "coreai-core 1.0.0b3"."""
        return str(self.metadata.get("producer", ""))


def open_asset(path: Path | str) -> Asset:
    """Read an .aimodel's files and compare what they say of each other; nothing is run.

    Raises:
        ArtefactError: no such folder, a file is missing or damaged, or the asset is of another version.
    """
    folder = Path(path)
    if not folder.is_dir() or folder.suffix != SUFFIX:
        raise ArtefactError(f"{folder}: expected a folder NAME{SUFFIX}")
    try:
        program, stated = (folder / PROGRAM).read_bytes(), (folder / HASH).read_bytes()
        metadata = parse_json(read_text(folder / METADATA))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise ArtefactError(
            f"{folder}: expected {PROGRAM}, {HASH} and {METADATA} inside ({exc}); export it again"
        ) from exc
    version = metadata.get("assetVersion") if isinstance(metadata, dict) else None
    if version != ASSET_VERSION:
        raise ArtefactError(
            f"{folder}: expected an asset of version {ASSET_VERSION}, got {version!r:.40}: Core AI is in beta and its "
            f"format changes; export it again with the coreai-core that hearpack pins"
        )
    if not program.startswith(MAGIC):
        raise ArtefactError(f"{folder / PROGRAM}: expected MLIR bytecode, got {program[:4]!r}; export it again")
    if hashlib.sha256(program).digest() != stated:
        raise ArtefactError(
            f"{folder}: {PROGRAM} does not match {HASH}, so the program was changed or damaged; export it again"
        )
    return Asset(folder, metadata, len(program), stated.hex())
