"""An .aimodel's files, looked at before Apple's code sees them; no package of Apple's is needed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from models.common.errors import ArtefactError
from runtimes.coreai import deps
from runtimes.coreai.asset import open_asset


@pytest.fixture
def asset(tmp_path: Path) -> Path:
    folder = tmp_path / "net.aimodel"
    folder.mkdir()
    program = b"ML\xefR" + bytes(range(200))
    (folder / "main.mlirb").write_bytes(program)
    (folder / "main.hash").write_bytes(hashlib.sha256(program).digest())
    (folder / "metadata.json").write_text(json.dumps({"assetVersion": "2.0", "producer": "coreai-core 1.0.0b3"}))
    return folder


def test_a_whole_asset_is_read(asset: Path) -> None:
    opened = open_asset(asset)
    assert (opened.producer, opened.program_bytes) == ("coreai-core 1.0.0b3", 204)


def test_every_flipped_byte_of_the_program_is_seen(asset: Path) -> None:
    program = (asset / "main.mlirb").read_bytes()
    for at in range(4, len(program), 7):
        (asset / "main.mlirb").write_bytes(program[:at] + bytes([program[at] ^ 1]) + program[at + 1 :])
        with pytest.raises(ArtefactError, match=r"main\.mlirb does not match main\.hash.*export it again"):
            open_asset(asset)


@pytest.mark.parametrize("name", ["main.mlirb", "main.hash", "metadata.json"])
def test_a_missing_file_is_named(asset: Path, name: str) -> None:
    (asset / name).unlink()
    with pytest.raises(ArtefactError, match=name):
        open_asset(asset)


@pytest.mark.parametrize("metadata", ['{"assetVersion": "1.0"}', "{}", "[]", '"2.0"'])
def test_another_version_says_which_is_expected(asset: Path, metadata: str) -> None:
    (asset / "metadata.json").write_text(metadata)
    with pytest.raises(ArtefactError, match=r"expected an asset of version 2\.0, got .*beta"):
        open_asset(asset)


def test_what_is_no_bytecode_and_no_folder_is_refused(asset: Path, tmp_path: Path) -> None:
    (asset / "main.mlirb").write_bytes(b"module {}")
    with pytest.raises(ArtefactError, match=r"expected MLIR bytecode, got b'modu'"):
        open_asset(asset)
    with pytest.raises(ArtefactError, match=r"expected a folder NAME\.aimodel"):
        open_asset(tmp_path)


@pytest.mark.parametrize(
    ("system", "machine", "libc", "expected"),
    [
        ("linux", "x86_64", ("glibc", "2.34"), ""),
        ("linux", "x86_64", ("glibc", "2.31"), "glibc 2.31"),
        ("linux", "x86_64", ("", ""), "another libc"),
        ("linux", "aarch64", ("glibc", "2.39"), "aarch64"),
        ("win32", "AMD64", ("", ""), "AMD64"),
    ],
)
def test_a_machine_without_packages_is_told_so(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, libc: tuple[str, str], expected: str
) -> None:
    monkeypatch.setattr(deps.sys, "platform", system)
    monkeypatch.setattr(deps.platform, "machine", lambda: machine)
    monkeypatch.setattr(deps.platform, "libc_ver", lambda: libc)
    reason = deps.missing_because()
    assert expected in reason
    assert bool(reason) == bool(expected)
