"""The names of our packages are generic, so: each one imported is ours, and the built wheel carries them all."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("models", "runtimes", "streaming", "converters", "hearpack")


@pytest.mark.parametrize("package", PACKAGES)
def test_imported_package_is_ours(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent == ROOT / package


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("hearpack-*.whl")
    return built


def test_wheel_carries_every_source_and_nothing_else(wheel: Path) -> None:
    carried = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    ours = {
        p.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for p in (ROOT / package).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert carried == ours
    assert any(n.endswith(".py") for n in carried)


def test_wheel_offers_the_command_and_the_extras(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    text = archive.read(metadata).decode()
    for extra in ("export", "keras", "live", "dev"):
        assert f"Provides-Extra: {extra}" in text
    (entry,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
    assert "hearpack = hearpack.__main__:main" in archive.read(entry).decode()


def test_wheel_carries_our_licence_and_the_notice_of_audiosets_labels(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    held = {n.rpartition("/")[2]: archive.read(n).decode() for n in archive.namelist() if ".dist-info/licenses/" in n}
    assert set(held) == {"LICENSE", "NOTICE"}
    assert "models/nets/panns/audioset_labels.txt" in archive.namelist()
    for words in ("models/nets/panns/audioset_labels.txt", "CC BY 4.0", "Gemmeke", "AudioSet"):
        assert words in held["NOTICE"]


def requirements(name: str) -> dict[str, str]:
    """Package -> version of a file of pins."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-cuda.lock"])
def test_the_lock_has_hashes_for_every_package_and_names_no_registry(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[\w])", text, flags=re.M)[1:]
    assert len(entries) == len(requirements(name)) > 15
    assert not [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)]
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


@pytest.mark.parametrize("extra", ["coreai", "batch"])
def test_the_lock_of_an_extra_adds_to_the_other_and_has_what_the_extra_needs(extra: str) -> None:
    added = requirements(f"requirements-{extra}.lock")
    text = (ROOT / f"requirements-{extra}.lock").read_text(encoding="utf-8")
    assert text.count("==") == len(added)
    assert "://" not in text
    assert not set(added) & set(requirements("requirements.lock"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    there = {**requirements("requirements.lock"), **added}
    for requirement in map(Requirement, project["optional-dependencies"][extra]):
        assert requirement.specifier.contains(there[canonicalize_name(requirement.name)], prereleases=True), requirement


def test_the_lock_the_constraints_and_the_bounds_agree() -> None:
    locked, pinned = requirements("requirements.lock"), requirements("constraints.txt")
    assert {p: v for p, v in pinned.items() if locked.get(p, v) != v} == {}
    assert set(pinned) - set(locked) <= {"pesq"}  # built from source, where there is a compiler
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *(r for e in ("export", "dev") for r in project["optional-dependencies"][e])]
    for requirement in map(Requirement, needed):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement
    assert not set(locked) & set(requirements("requirements-cuda.lock"))


def test_no_large_file_is_kept_in_the_tree() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    fixtures = [ROOT / f for f in tracked.stdout.split() if f.startswith("tests/fixtures/")]
    assert sum(f.stat().st_size for f in fixtures if f.is_file()) < 1_000_000
