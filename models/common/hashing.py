"""sha256 of files and trees, in one place."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_tree(folder: Path, skip: frozenset[str] = frozenset()) -> str:
    """Hex sha256 over the relative paths and contents of all files below a folder.

    Args:
        folder: the tree.
        skip: top-level names left out.
    """
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = file.relative_to(folder)
        if relative.parts[0] in skip:
            continue
        digest.update(relative.as_posix().encode() + b"\0" + sha256_file(file).encode() + b"\n")
    return digest.hexdigest()
