"""What the cache holds, what `clean` takes of it, and its bound."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hearpack
from converters.cache import Cleaning, cache_limit_bytes, trim
from models.common.errors import UsageError
from models.common.files import exclusive
from models.common.temporary import beside

DAY_S = 86400.0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with three exports of 1, 2 and 3 MB, used 3, 2 and 1 days ago, weights, packed weights and others."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HEARPACK_CACHE", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    for number in (1, 2, 3):
        write(entry(folder, number) / "x.hearpack" / "model.tflite", number * 1_000_000)
        write(entry(folder, number) / ".lock", 0)
        used(entry(folder, number), 4 - number)
    write(folder / "dtln-1" / "SHA256SUMS", 10)
    write(folder / "dtln-1" / "weights.safetensors", 500)
    write(folder / "xnnpack" / "a.xnn", 70)
    write(folder / "originals" / "b.json", 20)
    write(folder / "swift-trixie" / "usr" / "bin" / "swift", 30)
    return folder


def entry(folder: Path, number: int) -> Path:
    return folder / "exports" / (str(number) * 32)


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def used(path: Path, days_ago: float) -> None:
    os.utime(path / ".lock", (time.time() - days_ago * DAY_S,) * 2)


def killed(target: Path) -> Path:
    """What a process that is gone left beside a target."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    path = target.with_name(beside(target).name.replace(f"-{os.getpid()}-", f"-{process.pid}-"))
    write(path / "half", 9)
    return path


def free(cleaning: Cleaning) -> dict[str, tuple[int, int]]:
    return {kind.name: (kind.free_items, kind.free_bytes) for kind in cleaning.kinds}


def test_it_only_counts_unless_it_is_told(cache: Path) -> None:
    before = sorted(cache.rglob("*"))
    cleaning = hearpack.clean()
    assert sorted(cache.rglob("*")) == before
    assert not cleaning.removed
    assert {k.name: (k.items, k.size_bytes) for k in cleaning.kinds} == {
        "leftovers": (0, 0),
        "exports": (3, 6_000_000),
        "packed weights": (1, 70),
        "weights and audio": (1, 510),
        "other": (2, 50),
    }
    assert cleaning.free_bytes == 6_000_070


def test_weights_and_what_is_not_known_stay(cache: Path) -> None:
    cleaning = hearpack.clean(dry_run=False)
    assert cleaning.removed
    assert sorted(p.name for p in cache.iterdir()) == ["dtln-1", "exports", "originals", "swift-trixie", "xnnpack"]
    assert not list((cache / "exports").iterdir())
    assert hearpack.clean(dry_run=False, weights=True).free_bytes == 510
    assert sorted(p.name for p in cache.iterdir()) == ["exports", "originals", "swift-trixie", "xnnpack"]


def test_what_was_used_lately_stays(cache: Path) -> None:
    assert free(hearpack.clean(older_than_days=1.5, dry_run=False))["exports"] == (2, 3_000_000)
    assert [p.name[0] for p in (cache / "exports").iterdir()] == ["3"]
    with pytest.raises(UsageError, match="--older-than: expected 0 days or more, got -1"):
        hearpack.clean(older_than_days=-1)


def test_what_is_in_use_stays(cache: Path) -> None:
    with exclusive(entry(cache, 2)):
        assert free(hearpack.clean(dry_run=False))["exports"] == (2, 4_000_000)
    assert [p.name[0] for p in (cache / "exports").iterdir()] == ["2"]


def test_leftovers_of_killed_processes_go_at_any_age(cache: Path, tmp_path: Path) -> None:
    left = [killed(cache / "fetch"), killed(entry(cache, 1) / "x.hearpack"), killed(tmp_path / "tmp" / "command")]
    cleaning = hearpack.clean(older_than_days=1000, dry_run=False)
    assert free(cleaning) == {
        "leftovers": (3, 27), "exports": (0, 0), "packed weights": (0, 0), "weights and audio": (0, 0), "other": (0, 0)
    }  # fmt: skip
    assert not any(path.exists() for path in left)


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert hearpack.clean(dry_run=False, weights=True).free_bytes == 0
    assert not (tmp_path / "none").exists()


def test_exports_beyond_the_limit_go_the_longest_unused_first(cache: Path) -> None:
    left = killed(entry(cache, 2) / "x.hearpack")
    trim(entry(cache, 3), 5_500_000)
    assert sorted(p.name[0] for p in (cache / "exports").iterdir()) == ["2", "3"]
    assert not left.exists()
    with exclusive(entry(cache, 2)):  # in use
        trim(entry(cache, 3), 0)
    assert sorted(p.name[0] for p in (cache / "exports").iterdir()) == ["2", "3"]
    trim(entry(cache, 3), 0)  # what was just made stays
    assert sorted(p.name[0] for p in (cache / "exports").iterdir()) == ["3"]


def test_the_limit_is_a_number_of_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEARPACK_CACHE_LIMIT", raising=False)
    assert cache_limit_bytes() == 10e9
    monkeypatch.setenv("HEARPACK_CACHE_LIMIT", "0.5")
    assert cache_limit_bytes() == 0.5e9
    monkeypatch.setenv("HEARPACK_CACHE_LIMIT", "inf")
    assert cache_limit_bytes() == float("inf")
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv("HEARPACK_CACHE_LIMIT", wrong)
        with pytest.raises(UsageError, match=f"HEARPACK_CACHE_LIMIT={wrong}: expected GB"):
            cache_limit_bytes()
