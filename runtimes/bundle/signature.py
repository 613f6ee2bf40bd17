"""A bundle signed by whoever exported it: minisign's format, over the bytes of manifest.json, which hashes every file.

The signature lies beside it, as manifest.json.minisig; `minisign -V -p KEY.pub -m manifest.json` checks it as well.
Offline; the library (py-minisign, of minisign's author) is the extra `sign`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.common.errors import BundleError, MissingDependencyError, UsageError
from models.common.files import write_atomic
from runtimes.bundle.manifest import MANIFEST, SIGNATURE
from runtimes.bundle.paths import read_inside
from runtimes.bundle.reader import Bundle, parse_manifest

_LARGEST_SIGNATURE = 4096
_LARGEST_KEY = 4096


@dataclass(frozen=True)
class Signed:
    """What `sign` wrote.

    Attributes:
        bundle: name of the bundle's folder.
        signature: the file.
        public_key: what the signature is checked with, as the text of minisign's base64.
    """

    bundle: str
    signature: str
    public_key: str


def _minisign() -> Any:
    try:
        import minisign
    except ImportError as exc:
        raise MissingDependencyError("py-minisign", "sign", "signing a bundle or checking its signature") from exc
    return minisign


def needs_password(key: str | Path) -> bool:
    """Whether a secret key is encrypted; raises as `sign`."""
    return bool(_secret_key(Path(key)).is_encrypted())


def sign(bundle: Bundle | str | Path, key: str | Path, password: str | None = None) -> Signed:
    """Sign a bundle that is whole: every file is what the manifest says, and none is there that it does not list.

    Args:
        bundle: a bundle, or its folder.
        key: a secret key of minisign's (`minisign -G`).
        password: of the key, where it is encrypted.

    Returns:
        where the signature is, and what it is checked with.

    Raises:
        BundleError: a file was changed, added or is missing.
        UsageError: no usable key, or another password.
        OutputError: the bundle's folder cannot be written.
    """
    bundle = Bundle.of(bundle)
    bundle.check_whole()
    data = _manifest_bytes(bundle)
    with _secret_key(Path(key)) as secret:
        try:
            if secret.is_encrypted():
                if password is None:
                    raise UsageError(f"{key}: is encrypted; its password is needed")
                secret.decrypt(password)
            signature = secret.sign(data, trusted_comment=f"hearpack bundle {bundle.manifest.folder_name}")
            public = bytes(secret.get_public_key().to_base64()).decode()
        except ValueError as exc:
            raise UsageError(f"{key}: cannot sign: {exc}") from exc
    file = bundle.path / SIGNATURE
    write_atomic(file, bytes(signature), "the bundle is not signed")
    return Signed(bundle.path.resolve().name, str(file), public)


def check_signature(bundle: Bundle, public_key: str | Path) -> None:
    """Compare a bundle with its signature, and every file of it with the manifest that was signed.

    Args:
        bundle: the opened bundle.
        public_key: minisign's file, or its base64 text (56 characters).

    Raises:
        BundleError: there is no signature, it is another key's, or anything was changed or added since.
        UsageError: no public key.
    """
    minisign, key = _minisign(), _public_key(public_key)
    data = _manifest_bytes(bundle)
    place = bundle.path / SIGNATURE
    if not place.is_symlink() and not place.exists():
        raise BundleError(f"{bundle.path}: is not signed; expected {SIGNATURE}, which hearpack sign writes")
    try:
        key.verify(data, minisign.Signature.from_bytes(read_inside(bundle.path, SIGNATURE, _LARGEST_SIGNATURE)))
    except ValueError as exc:
        raise BundleError(
            f"{bundle.path}: {MANIFEST} and its signature do not fit the public key ({exc}): the bundle was changed "
            f"after it was signed, or somebody else signed it"
        ) from exc
    bundle.check_whole()


def _manifest_bytes(bundle: Bundle) -> bytes:
    """The manifest as it lies there, which must be the one that was opened."""
    data = read_inside(bundle.path, MANIFEST)
    file = str(bundle.path / MANIFEST)
    if parse_manifest(data.decode("utf-8", "replace"), file) != bundle.manifest:
        raise BundleError(f"{file}: is not the manifest that was opened; open the bundle again")
    return data


def _read_key(file: Path, what: str) -> bytes:
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_KEY:
            raise UsageError(f"{file}: expected a {what} of minisign's, a small file; make one with: minisign -G")
        return file.read_bytes()
    except (OSError, ValueError) as exc:
        raise UsageError(f"{file}: the {what} cannot be read: {exc}") from exc


def _secret_key(file: Path) -> Any:
    minisign = _minisign()
    data = _read_key(file, "secret key")
    try:
        return minisign.SecretKey.from_bytes(data)
    except ValueError as exc:
        raise UsageError(f"{file}: is no secret key of minisign's ({exc}); make one with: minisign -G") from exc


def _public_key(text: str | Path) -> Any:
    minisign = _minisign()
    plain = len(str(text)) == 56 and not Path(text).exists()  # base64 of 42 bytes, which may hold a slash
    try:
        if plain:
            return minisign.PublicKey.from_base64(str(text))
        return minisign.PublicKey.from_bytes(_read_key(Path(text), "public key"))
    except ValueError as exc:
        raise UsageError(f"{text}: is no public key of minisign's ({exc}); expected its .pub file or its text") from exc
