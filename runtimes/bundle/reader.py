"""A bundle on disk: opening one, and reading nothing of it that is not what was exported (docs/bundle.md)."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from models.common.documents import DocumentKind
from models.common.errors import BundleError, UsageError
from models.common.hashing import sha256_bytes, sha256_file
from models.geometry import OutputKind
from runtimes.bundle.manifest import MANIFEST, PACKAGES, SCHEMA, Artefact, FileEntry, Manifest, is_exempt
from runtimes.bundle.paths import inside, read_inside

_LARGEST_MANIFEST = 16 * 1024 * 1024
LABELS = "labels.txt"
_MANIFEST = DocumentKind(
    SCHEMA,
    "manifest",
    not_json="not JSON (line {line}: {message}); export the bundle again",
    newer="schema {schema} is not one this hearpack reads ({expected!r}); update hearpack or export again",
    invalid="invalid against {expected}: {where}: {message}{more}",
    minor_versions=True,
    error=BundleError,
)


def parse_manifest(text: str, origin: str) -> Manifest:
    """Read and validate the text of a manifest.

    Raises:
        BundleError: not JSON, of a newer schema, or invalid against the schema.
    """
    return _MANIFEST.parse(text, origin, Manifest.model_validate)


_NETS: Mapping[OutputKind, str] = {
    "scores": "a classifier",
    "audio": "an enhancer",
    "sources": "a separator",
    "embedding": "an embedder",
}


def require_output(manifest: Manifest, what: str, *kinds: OutputKind) -> None:
    """Raise UsageError where `what`, which takes nets with outputs of `kinds`, is given another."""
    kind = manifest.output_kind
    if kind in kinds:
        return
    inside, hint = "", f"it takes {' or '.join(_NETS[k] for k in kinds)}"
    if kind == "sources":
        inside = f" ({manifest.geometry.channels} channels in, {len(manifest.outputs)} outputs)"
        hint = "hearpack run and hearpack verify do"
    raise UsageError(f"{what}: {manifest.name} is {_NETS[kind]}{inside}, which {what} does not take; {hint}")


def require_mono(manifest: Manifest, what: str) -> None:
    """Raise UsageError where `what`, which feeds one channel, is given a net that takes several or more inputs."""
    if manifest.lanes == 1:
        return
    takes = f"{manifest.geometry.channels} channels" if manifest.geometry.channels > 1 else ""
    more = " and ".join(t.name for t in manifest.far)
    came = " and ".join(filter(None, (takes, more and f"the input {more}")))
    raise UsageError(
        f"{what}: {manifest.name} takes {came}, and {what} feeds one channel; hearpack run, verify, coldstart and "
        f"calibrate do more"
    )


class Bundle:
    """An opened bundle: its folder and its validated manifest."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open a bundle's folder (or the path of its manifest.json).

        Raises:
            BundleError: no such folder, no manifest, or an invalid one.
        """
        folder = Path(path)
        if folder.name == MANIFEST:
            folder = folder.parent
        if not folder.exists():
            raise BundleError(f"{folder}: no such bundle; make one with: hearpack export NAME")
        file = folder / MANIFEST
        if not folder.is_dir() or not file.is_file():
            raise BundleError(
                f"{folder}: expected a bundle (a folder with {MANIFEST}), found none; "
                f"make one with: hearpack export NAME"
            )
        data = read_inside(folder, MANIFEST, _LARGEST_MANIFEST)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise BundleError(f"{file}: cannot be read as UTF-8 text: {exc}") from exc
        return cls(folder, parse_manifest(text, str(file)))

    @classmethod
    def of(cls, bundle: Bundle | str | Path) -> Bundle:
        """`bundle` itself where it is open already, else `Bundle.open` of its folder."""
        return bundle if isinstance(bundle, Bundle) else cls.open(bundle)

    def artefact(self, artefact_id: str) -> Artefact:
        """The artefact called `artefact_id`; BundleError naming those there are."""
        for artefact in self.manifest.artefacts:
            if artefact.id == artefact_id:
                return artefact
        raise BundleError(
            f"{self.path}: no artefact {artefact_id!r}; it has: {', '.join(a.id for a in self.manifest.artefacts)}"
        )

    def artefact_path(self, artefact: Artefact) -> Path:
        return self.path / artefact.path

    def read(self, path: str) -> bytes:
        """The bytes of a file of `files`, proven to be those that were exported.

        Raises:
            BundleError: the manifest does not list it, the gate refuses it, or it was changed.
        """
        entry = next((entry for entry in self.manifest.files if entry.path == path), None)
        if entry is None:
            raise BundleError(
                f"{self.path}: {path!r:.80} is not among the `files` of the manifest, so nothing vouches for it; "
                f"export the bundle again"
            )
        data = read_inside(self.path, path)
        self._compare(entry, len(data), sha256_bytes(data), path)
        return data

    def read_artefact(self, artefact: Artefact) -> bytes:
        """The bytes of a .tflite, compared as `check_files` does; read once, so that what is opened was compared.

        Raises:
            BundleError: it is missing or is not the one that was exported.
        """
        entry, what = artefact.files[0], f"artefact {artefact.id}"
        size = inside(self.path, entry.path).stat().st_size
        data = read_inside(self.path, entry.path, max(1, size)) if size == entry.bytes else b""
        self._compare(entry, size, sha256_bytes(data), what)
        return data

    def labels(self) -> tuple[str, ...]:
        """One label a line of labels.txt; empty for all but classifiers.

        Raises:
            BundleError: labels.txt is missing, was changed, or has another count than the scores.
        """
        if self.manifest.output_kind != "scores":
            return ()
        file = self.path / LABELS
        try:
            labels = tuple(self.read(LABELS).decode("utf-8").splitlines())
        except UnicodeDecodeError as exc:
            raise BundleError(f"{file}: labels cannot be read: {exc}; export the bundle again") from exc
        count = self.manifest.outputs[0].shape[-1]
        if len(labels) != count:
            raise BundleError(f"{file}: expected {count} labels, one per line, got {len(labels)}")
        return labels

    def check_files(self, artefacts: Sequence[Artefact] | None = None) -> None:
        """Compare every file of the artefacts with its size and sha256.

        Raises:
            BundleError: a file is missing, is not the one that was exported, or lies in a package and in no list.
        """
        for artefact in self.manifest.artefacts if artefacts is None else artefacts:
            for entry in artefact.files:
                self._check(entry, f"artefact {artefact.id}")
            if artefact.format in PACKAGES:
                known = {entry.path for entry in artefact.files}
                self._refuse_strangers(self.strangers(known, artefact.path))

    def check_others(self) -> None:
        """Compare every file that is no artefact's (labels, golden vectors, licences, card) with its size and sha256.

        Raises:
            BundleError: one is missing or is not the one that was exported.
        """
        for entry in self.manifest.files:
            self._check(entry, entry.path)

    def damaged(self) -> Iterator[str]:
        """What `check_others` says of each file, one by one."""
        for entry in self.manifest.files:
            try:
                self._check(entry, entry.path)
            except BundleError as exc:
                yield str(exc)

    def strangers(self, known: Collection[str], below: str = "") -> tuple[str, ...]:
        """What lies in the bundle and is neither `known` nor exempt: plain files, links, devices; sorted.

        Args:
            known: paths relative to the bundle.
            below: a folder of it to look at; all of it when empty.
        """
        found = []
        for folder, folders, files in os.walk(self.path / below):
            places = [Path(folder, name) for name in files]
            places += [place for place in (Path(folder, name) for name in folders) if place.is_symlink()]
            paths = (place.relative_to(self.path).as_posix() for place in places)
            found += [path for path in paths if path not in known and not is_exempt(path)]
        return tuple(sorted(found))

    def check_whole(self) -> None:
        """Compare every file with its hash, and refuse what no list names.

        Raises:
            BundleError: as `check_files` and `check_others`, or a file was added.
        """
        self.check_files()
        self.check_others()
        self._refuse_strangers(self.strangers(self.manifest.paths))

    def _refuse_strangers(self, strangers: Sequence[str]) -> None:
        if strangers:
            raise BundleError(
                f"{self.path}: {strangers[0]!r:.80} is in no list of the manifest, so nothing vouches for it; "
                f"take it out or export the bundle again"
            )

    def _check(self, entry: FileEntry, what: str) -> None:
        file = inside(self.path, entry.path)
        size = file.stat().st_size
        self._compare(entry, size, sha256_file(file) if size == entry.bytes else "", what)

    def _compare(self, entry: FileEntry, size: int, digest: str, what: str) -> None:
        if (size, digest) != (entry.bytes, entry.sha256):
            came = f"sha256 {digest[:12]}…" if size == entry.bytes else f"{size} bytes"
            raise BundleError(
                f"{self.path / entry.path}: does not match the manifest (expected {entry.bytes} bytes, "
                f"sha256 {entry.sha256[:12]}…, got {came}); {what} was changed or damaged, export the bundle again"
            )
