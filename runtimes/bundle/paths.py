"""The one gate for the paths of a bundle: a name that stays inside, no link on the way, a plain file of a known bound.

A bundle is a foreign folder. Nothing in it is opened, copied or measured by a path that did not come through `inside`,
and nothing is written under a name that did not pass `check_name`.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from models.common.errors import BundleError

LONGEST_PATH = 1024
# Read whole into memory: a minute of 8 channels at 48 kHz, and the largest golden vectors there are, are far below.
LARGEST_READ = 256 * 1024 * 1024
# An artefact or a weights file is handed to a library by its path.
LARGEST_FILE = 8 * 1024 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# Control characters, C1 and lone surrogates; the slash of Windows; a drive, or a stream of NTFS.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\:\ud800-\udfff]")


def check_path(path: str) -> str:
    """A path relative to a bundle's folder, as it stands in a manifest or in golden.json.

    Returns:
        the path itself.

    Raises:
        ValueError: it does not stay inside the bundle; pydantic turns that into its report.
    """
    parts = path.split("/") if isinstance(path, str) else []
    if not parts or _FORBIDDEN.search(path) or len(path) > LONGEST_PATH or any(p in ("", ".", "..") for p in parts):
        raise ValueError(
            f"path {path!r:.80} does not stay inside the bundle; expected names with / between, without '..' and links"
        )
    return path


def check_name(name: str) -> str:
    """A name that files, folders and tensors are called by: one part of a path, the same on every system.

    Raises:
        ValueError: as `check_path`.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name {name!r:.80}: expected up to 128 letters, digits, '_', '-' and '.', no '-' or '.' first"
        )
    return name


def inside(folder: Path, path: str, most_bytes: int = LARGEST_FILE) -> Path:
    """The place of a bundle's file, proven to be a plain file in the bundle.

    Args:
        folder: the bundle's folder, which the user named; it may be a link itself.
        path: relative to it, with "/" between its parts.
        most_bytes: its largest size.

    Raises:
        BundleError: the path leaves the bundle or goes through a link; no file there, or something that is no plain
            file (a folder, a device, a pipe); too large.
    """
    again = "export the bundle again"
    try:
        parts = check_path(path).split("/")
        place = folder
        for index, part in enumerate(parts):
            place = place / part
            there = place.lstat()
            plain = stat.S_ISREG if index == len(parts) - 1 else stat.S_ISDIR
            if stat.S_ISLNK(there.st_mode):
                raise BundleError(f"{folder}: {path!r:.80} goes through a link, a bundle holds plain files; {again}")
            if not plain(there.st_mode):
                raise BundleError(f"{folder}: {path!r:.80} is no plain file; {again}")
        if there.st_size > most_bytes:
            raise BundleError(f"{folder}: {path!r:.80} has {there.st_size} bytes, expected at most {most_bytes}")
    except FileNotFoundError as exc:
        raise BundleError(f"{folder / path}: missing, the bundle is incomplete; {again}") from exc
    except (OSError, ValueError) as exc:
        raise BundleError(f"{folder}: {exc}; {again}") from exc
    return place


def read_inside(folder: Path, path: str, most_bytes: int = LARGEST_READ) -> bytes:
    """The bytes of a bundle's file; raises as `inside`, and BundleError where it cannot be read."""
    file = inside(folder, path, most_bytes)
    try:
        # What takes its place in between is not waited for, followed or read beyond the bound.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            return stream.read(most_bytes)
    except OSError as exc:
        raise BundleError(f"{file}: cannot be read: {exc.strerror or exc}; export the bundle again") from exc
