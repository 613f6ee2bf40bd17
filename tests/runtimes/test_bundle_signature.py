"""A signed bundle passes as it was signed, and fails in one clear line after any change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import minisign
import pytest
from typer.testing import CliRunner

import hearpack
from hearpack.cli import app
from hearpack.commands.sign import VARIABLE
from models.common.errors import BundleError, MissingDependencyError, UsageError
from runtimes.bundle import Bundle
from runtimes.bundle.signature import check_signature, sign
from streaming.tuning.tune import write_decisions
from tests.fixtures.hostile_bundles import TFLITE, edit, make_good, rehash

PASSWORD = "a long password"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key pairs: me (plain), locked (encrypted) and other."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("me", "locked", "other"):
        pair = minisign.KeyPair.generate()
        (folder / f"{name}.pub").write_bytes(bytes(pair.public_key))
        if name == "locked":
            pair.secret_key.encrypt(PASSWORD, opslimit=minisign.OPSLIMIT, memlimit=minisign.MEMLIMIT)
        (folder / f"{name}.key").write_bytes(bytes(pair.secret_key))
    return folder


@pytest.fixture
def bundle(tmp_path: Path, keys: Path) -> Path:
    folder = make_good(tmp_path, coreml=False)
    sign(folder, keys / "me.key")
    return folder


def test_a_signed_bundle_passes_with_the_key_as_file_and_as_text(bundle: Path, keys: Path) -> None:
    signed = sign(bundle, keys / "me.key")
    assert signed.signature == str(bundle / "manifest.json.minisig")
    check_signature(Bundle.open(bundle), keys / "me.pub")
    check_signature(Bundle.open(bundle), signed.public_key)
    assert hearpack.verify(bundle, public_key=keys / "me.pub").passed
    check_signature(Bundle.open(bundle), keys / "me.pub")  # parity/ is no change
    assert hearpack.inspect(bundle).signed
    minisign.PublicKey.from_file(keys / "me.pub").verify_file(bundle / "manifest.json")


def _flip(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / path).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / path).write_bytes(data)

    return change


def _labels_and_hash(folder: Path) -> None:
    (folder / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    rehash(folder)


CHANGES: dict[str, Callable[[Path], None]] = {
    **{path: _flip(path) for path in (TFLITE, "labels.txt", "golden/input.f32", "LICENSES/WEIGHTS.txt")},
    "card": _flip("MODEL_CARD.md"),
    "hash fits": _labels_and_hash,
    "decisions": lambda folder: edit(folder, lambda m: m["decisions"].update(on_threshold=0.6)),
    "a space": lambda folder: (folder / "manifest.json").open("a").write(" ") and None,
    "added": lambda folder: (folder / "LICENSES" / "more.txt").write_text("x") and None,
    "gone": lambda folder: (folder / "MODEL_CARD.md").unlink(),
    "signature gone": lambda folder: (folder / "manifest.json.minisig").unlink(),
    "signature cut": lambda folder: (folder / "manifest.json.minisig").write_text("untrusted comment: x\n") and None,
    "signature a link": lambda folder: (
        (folder / "manifest.json.minisig").rename(folder.parent / "s")
        and (folder / "manifest.json.minisig").symlink_to(folder.parent / "s")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_after_signing_is_one_clear_line(change: str, bundle: Path, keys: Path, tmp_path: Path) -> None:
    CHANGES[change](bundle)
    with pytest.raises(BundleError) as refused:
        check_signature(Bundle.open(bundle), keys / "me.pub")
    assert "\n" not in str(refused.value)
    sample = tmp_path / "android-sample"
    sample.mkdir()
    for call in (
        lambda: hearpack.verify(bundle, public_key=keys / "me.pub"),
        lambda: hearpack.install(bundle, android=sample, public_key=keys / "me.pub"),
    ):
        with pytest.raises(BundleError):
            call()


def test_tuned_decisions_want_a_new_signature(bundle: Path, keys: Path) -> None:
    opened = Bundle.open(bundle)
    decisions = opened.manifest.decisions
    assert decisions is not None
    write_decisions(opened, decisions.model_copy(update={"on_threshold": 0.7}))
    assert Bundle.open(bundle).manifest.files == opened.manifest.files
    Bundle.open(bundle).check_whole()
    with pytest.raises(BundleError, match="changed after it was signed"):
        check_signature(Bundle.open(bundle), keys / "me.pub")
    sign(bundle, keys / "me.key")
    check_signature(Bundle.open(bundle), keys / "me.pub")


def test_another_key_is_refused(bundle: Path, keys: Path) -> None:
    with pytest.raises(BundleError, match="or somebody else signed it"):
        check_signature(Bundle.open(bundle), keys / "other.pub")


def test_what_is_no_key_is_named(bundle: Path, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "no.key").write_text("hello\n")
    for bad in (tmp_path / "no.key", tmp_path / "none", keys):
        with pytest.raises(UsageError, match="secret key"):
            sign(bundle, bad)
        with pytest.raises(UsageError, match="public key"):
            check_signature(Bundle.open(bundle), bad)
    with pytest.raises(UsageError, match="public key"):
        check_signature(Bundle.open(bundle), "A" * 56)


def test_a_bundle_that_is_not_whole_is_not_signed(bundle: Path, keys: Path) -> None:
    (bundle / "stranger.txt").write_text("x")
    with pytest.raises(BundleError, match=r"'stranger.txt' is in no list"):
        sign(bundle, keys / "me.key")


def test_an_encrypted_key_needs_its_password(bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="its password is needed"):
        sign(bundle, keys / "locked.key")
    with pytest.raises(UsageError, match="wrong password"):
        sign(bundle, keys / "locked.key", "another")
    monkeypatch.setenv(VARIABLE, PASSWORD)
    done = CliRunner().invoke(app, ["sign", str(bundle), "--key", str(keys / "locked.key"), "--json"])
    assert done.exit_code == 0, done.output
    check_signature(Bundle.open(bundle), json.loads(done.stdout)["public_key"])


def test_without_the_extra_it_says_which_one(bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "minisign", None)
    with pytest.raises(MissingDependencyError, match=r"hearpack\[sign\]"):
        sign(bundle, keys / "me.key")
