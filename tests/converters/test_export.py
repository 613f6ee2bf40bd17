"""Exports are whole, reproducible, and survive a kill; artefacts stay within tolerance of the torch original."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hearpack
from converters.bundle.golden import check_golden, read_golden
from converters.bundle.write import seal
from converters.export import _is_intact
from models import pretrained
from models.common.errors import ConversionError, OutputError
from models.common.hashing import sha256_tree
from models.weights.assets import pull_asset
from models.weights.fetch import cache_dir
from runtimes.bundle import Bundle
from tests.fixtures.hostile_bundles import edit, make_good, rehash

ROOT = Path(__file__).resolve().parents[2]
FORCED = "import sys, hearpack; hearpack.export('dtln', sys.argv[1], force=True)"


def start(output: Path, cache: Path, seed: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "HEARPACK_CACHE": str(cache)}
    command = [sys.executable, "-c", FORCED, str(output)]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def make_cache(cache: Path) -> Path:
    """A cache of its own that shares the pulled weights and audio."""
    for name in ("dtln", "yamnet"):
        pretrained.pull(name)
    pull_asset("speech")
    cache.mkdir()
    for item in cache_dir().iterdir():
        if item.is_dir() and item.name != "exports" and not item.name.startswith("."):
            (cache / item.name).symlink_to(item, target_is_directory=True)
    return cache


def test_two_processes_with_other_hash_seeds_give_the_same_bytes(tmp_path: Path) -> None:
    running = [start(tmp_path / seed, make_cache(tmp_path / f"cache-{seed}"), seed) for seed in ("1", "4242")]
    for process in running:
        _, log = process.communicate(timeout=900)
        assert process.returncode == 0, log
    one, two = (tmp_path / seed / "dtln-128.hearpack" for seed in ("1", "4242"))
    assert sha256_tree(one) == sha256_tree(two)
    assert (one / "coreml").is_dir()


def test_a_killed_export_leaves_no_bundle_and_the_next_one_succeeds(tmp_path: Path) -> None:
    output, own_cache = tmp_path / "out", make_cache(tmp_path / "cache")
    process = start(output, own_cache, "0")
    deadline = time.monotonic() + 600
    partial: list[Path] = []
    while not any(p.rglob("*.tflite") for p in partial) and time.monotonic() < deadline and process.poll() is None:
        partial = list(own_cache.glob("exports/*/.*.hearpack-*"))
        partial = [p for p in partial if list(p.rglob("*.tflite"))]
        time.sleep(0.05)
    assert partial, "the export ended before it could be killed half-way"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(output.glob("*.hearpack"))
    assert not list(own_cache.glob("exports/*/*.hearpack"))
    again = start(output, own_cache, "0")
    _, log = again.communicate(timeout=900)
    assert again.returncode == 0, log
    Bundle.open(output / "dtln-128.hearpack").check_files()
    assert not list(own_cache.glob("exports/*/.*.hearpack-*"))
    assert [p.name for p in output.iterdir()] == ["dtln-128.hearpack"]


@pytest.mark.parametrize("name", ["yamnet", "dtln", "gtcrn"])
def test_every_artefact_is_within_tolerance_of_the_original(exported: dict[str, Path], name: str) -> None:
    results = list(check_golden(Bundle.open(exported[name])))
    assert len(results) >= 6
    for result in results:
        for check in result.checks:
            assert check.passed, f"{result.artefact} on {result.engine}: {check}"


def test_fp32_core_ml_is_closer_than_its_tolerance(exported: dict[str, Path]) -> None:
    figures = {r.artefact: r.figures for r in check_golden(Bundle.open(exported["yamnet"]))}
    assert figures["coreml-fp32"].metrics()["score_max_abs_error"] <= 1e-5


def test_golden_streams_are_real_and_at_both_rates(exported: dict[str, Path]) -> None:
    for name, path in exported.items():
        streams = read_golden(Bundle.open(path))
        assert [s.sample_rate_hz for s in streams] == [16000, 48000]
        for stream in streams:
            assert len(stream.samples) == 10 * stream.sample_rate_hz
            assert stream.output.std() > 1e-3
            assert bool(stream.events) == (name == "yamnet")


def test_golden_check_finds_a_wrong_artefact(copy_of: Callable[[str], Path]) -> None:
    """The bundle of one net with the golden output of silence: every artefact must be past its tolerance."""
    bundle = copy_of("dtln")
    output = bundle / "golden" / "enhanced.f32"
    output.write_bytes(bytes(output.stat().st_size))
    seal(bundle, Bundle.open(bundle).manifest)
    results = list(check_golden(Bundle.open(bundle)))
    assert results
    assert not any(all(c.passed for c in r.checks) for r in results)


def test_manifest_has_no_time_host_or_path(exported: dict[str, Path]) -> None:
    for path in exported.values():
        text = (path / "manifest.json").read_text()
        created = json.loads(text)["created_by"]
        assert set(created) == {"hearpack", "toolchain"}
        for secret in (str(Path.home()), str(ROOT), os.uname().nodename):
            assert secret not in text


def test_edited_decisions_survive_a_kill_in_the_middle_of_a_replacement(
    exported: dict[str, Path], copy_of: Callable[[str], Path]
) -> None:
    """Killed between two renames (no exchange here): the old bundle lies aside, with the thresholds of the user."""
    import hearpack

    bundle = copy_of("yamnet")
    data = json.loads((bundle / "manifest.json").read_text())
    data["decisions"]["on_threshold"] = 0.77
    (bundle / "manifest.json").write_text(json.dumps(data))
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    bundle.rename(bundle.parent / f".{bundle.name}.old.hearpack-{dead.pid}-0123abcd")
    result = hearpack.export("yamnet", bundle.parent)
    decisions = Bundle.open(result.path).manifest.decisions
    assert result.kept_decisions
    assert decisions is not None
    assert decisions.on_threshold == 0.77
    assert [p.name for p in bundle.parent.iterdir()] == [bundle.name]


def test_an_export_that_the_cache_has_needs_no_writable_cache(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(folder: Path) -> None:
        raise OutputError(f"{folder}: cannot be written: Read-only file system")

    monkeypatch.setattr("converters.export.exclusive", refuses)
    result = hearpack.export("gtcrn", tmp_path)
    assert result.cached
    assert sha256_tree(result.path) == sha256_tree(exported["gtcrn"])
    with pytest.raises(OutputError, match="Read-only"):
        hearpack.export("gtcrn", tmp_path, force=True)


def test_a_converter_that_finds_its_disk_full_names_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_job: object) -> None:
        try:
            raise RuntimeError("Error: No space left on device")
        except RuntimeError as exc:
            raise ConversionError("litert-torch cannot convert the net") from exc

    monkeypatch.setenv("HEARPACK_CACHE", str(make_cache(tmp_path / "cache")))
    monkeypatch.setattr("converters.export.make_bundle", full)
    with pytest.raises(OutputError, match=r"no space left.*MB free"):
        hearpack.export("dtln", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


CACHE_DAMAGES = {
    "labels": lambda folder: (folder / "labels.txt").write_text("a\nb\nc\nd\ne\n"),
    "golden": lambda folder: (folder / "golden" / "scores.f32").write_bytes(b"0" * 8),
    "a licence is gone": lambda folder: (folder / "LICENSES" / "WEIGHTS.txt").unlink(),
    "the card": lambda folder: (folder / "MODEL_CARD.md").write_text("# another"),
    "a figure of the manifest": lambda folder: edit(folder, lambda m: m["decisions"].update(on_threshold=0.9)),
    "a file more": lambda folder: (folder / "LICENSES" / "more.txt").write_text("x"),
    "every hash fits": lambda folder: ((folder / "labels.txt").write_text("a\nb\nc\nd\ne\n"), rehash(folder)),
    "the sum": lambda folder: (folder.parent / "tree.sha256").write_text("0" * 64),
    "the sum is gone": lambda folder: (folder.parent / "tree.sha256").unlink(),
    "the sum is no text": lambda folder: (folder.parent / "tree.sha256").write_bytes(b"\xff"),
    "what was refused is gone": lambda folder: (folder.parent / "refused.json").unlink(),
    "what was refused is no list": lambda folder: (folder.parent / "refused.json").write_text('{"a": 1}'),
    "what was kept is gone": lambda folder: (folder.parent / "kept.json").unlink(),
    "what was kept is no list": lambda folder: (folder.parent / "kept.json").write_text("1"),
    "the folder": lambda folder: shutil.rmtree(folder),
}


@pytest.mark.parametrize("damage", CACHE_DAMAGES)
def test_any_damage_in_the_cache_is_found(damage: str, tmp_path: Path) -> None:
    stored = make_good(tmp_path, coreml=False)
    (tmp_path / "tree.sha256").write_text(sha256_tree(stored) + "\n")
    (tmp_path / "refused.json").write_text("[]")
    (tmp_path / "kept.json").write_text("[]")
    assert _is_intact(stored)
    CACHE_DAMAGES[damage](stored)
    assert not _is_intact(stored)
