"""A bundle on disk: opening one, and reading nothing of it that is not what was exported (docs/bundle.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.common.documents import DocumentKind
from models.common.errors import BundleError, UsageError
from models.common.hashing import sha256_file
from models.geometry import OutputKind
from runtimes.bundle.manifest import MANIFEST, SCHEMA, Artefact, FileEntry, Manifest
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
        """The bytes of a file, proven to be those that were exported.

        Raises:
            BundleError: the gate refuses the path, or the file is not the one that the manifest lists.
        """
        return read_inside(self.path, path)

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
            raise BundleError(f"{file}: expected {count} labels, one a line, got {len(labels)}")
        return labels

    def check_files(self, artefacts: Sequence[Artefact] | None = None) -> None:
        """Compare every file of the artefacts with its size and sha256.

        Raises:
            BundleError: a file is missing or is not the one that was exported.
        """
        for artefact in self.manifest.artefacts if artefacts is None else artefacts:
            for entry in artefact.files:
                self._check(entry, f"artefact {artefact.id}")

    def _check(self, entry: FileEntry, what: str) -> None:
        file = inside(self.path, entry.path)
        size = file.stat().st_size
        digest = sha256_file(file) if size == entry.bytes else ""
        if digest != entry.sha256:
            came = f"sha256 {digest[:12]}…" if digest else f"{size} bytes"
            raise BundleError(
                f"{file}: does not match the manifest (expected {entry.bytes} bytes, sha256 {entry.sha256[:12]}…, "
                f"got {came}); {what} was changed or damaged, export the bundle again"
            )
