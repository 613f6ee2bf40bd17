"""The gate for the paths of a bundle: what stays inside and is a plain file passes, everything else is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.common.errors import BundleError
from runtimes.bundle.paths import check_name, check_path, inside, read_inside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle = tmp_path / "a.hearpack"
    (bundle / "golden").mkdir(parents=True)
    (bundle / "golden" / "input.f32").write_bytes(b"1234")
    (tmp_path / "secret").write_bytes(b"key")
    return bundle


def test_a_plain_file_passes_and_is_read(folder: Path, tmp_path: Path) -> None:
    assert inside(folder, "golden/input.f32") == folder / "golden" / "input.f32"
    assert read_inside(folder, "golden/input.f32") == b"1234"
    link = tmp_path / "link.hearpack"
    link.symlink_to(folder)  # the folder itself is the user's word
    assert read_inside(link, "golden/input.f32") == b"1234"


OUTSIDE = [
    *("", ".", "..", "/etc/passwd", "../secret", "golden/../../secret", "golden/./input.f32", "golden//input.f32"),
    *("golden/", "golden\\input.f32", "C:/x", "c:x", "golden/in\0put", "golden/\x1b[2J", "a\nb", "\ud800", "a" * 1025),
    *("golden/\x85", "file:stream"),
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_does_not_stay_inside_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(ValueError, match="does not stay inside the bundle"):
        check_path(path)
    with pytest.raises(BundleError, match="does not stay inside the bundle"):
        inside(folder, path)


def test_a_link_on_the_way_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "golden" / "out").symlink_to(tmp_path / "secret")
    (folder / "golden" / "in").symlink_to(folder / "golden" / "input.f32")
    (folder / "gone").symlink_to(tmp_path / "nothing")
    (folder / "LICENSES").symlink_to(tmp_path)
    for path in ("golden/out", "golden/in", "gone", "LICENSES/secret"):
        with pytest.raises(BundleError, match="goes through a link"):
            inside(folder, path)


def test_only_a_plain_file_of_a_known_size_passes(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for path in ("golden", "pipe", "pipe/x", "golden/input.f32/x"):
        with pytest.raises(BundleError, match="is no plain file"):
            inside(folder, path)
    with pytest.raises(BundleError, match="missing"):
        inside(folder, "nothing")
    with pytest.raises(BundleError, match="expected at most 3"):
        read_inside(folder, "golden/input.f32", most_bytes=3)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "a/b", "../..", "a b", "a\n", "é", "a" * 129, "a:b", "a\\b"]
)
def test_a_name_is_one_part_of_a_path(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        check_name(name)


@pytest.mark.parametrize("name", ["dtln", "litert-fp32", "h1_out", "panns-mobilenetv1", "v1.2", "a" * 128])
def test_names_of_ours_pass(name: str) -> None:
    assert check_name(name) == name
