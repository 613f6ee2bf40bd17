"""Audio files: every kind of bad one gets a clear line; what is written is whole or not there."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from models.common.errors import AudioError, OutputError
from models.common.files import atomic_file
from streaming.files.wav import AudioClip, read_wav, write_wav

ROOT = Path(__file__).resolve().parents[3]
SHARED_AUDIO = ROOT.parent / "shared" / "data" / "audio"


def noise(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(shape) * 0.2).astype(np.float32)


@pytest.mark.parametrize("rate", [4000, 16000, 44100, 96000, 192000])
@pytest.mark.parametrize("shape", [(1, 777), (2, 500)])
def test_float_round_trip_is_exact(tmp_path: Path, rate: int, shape: tuple[int, int]) -> None:
    samples = noise(*shape)
    write_wav(tmp_path / "a.wav", samples, rate)
    clip = read_wav(tmp_path / "a.wav")
    assert (clip.sample_rate_hz, clip.source) == (rate, str(tmp_path / "a.wav"))
    assert clip.samples.tobytes() == samples.tobytes()
    assert clip.duration_s == shape[1] / rate
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.frames, info.channels, info.subtype) == (shape[1], shape[0], "FLOAT")


def test_pcm16_is_rounded_and_limited(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.array([0.0, 1.0, -1.0, 7.0, -7.0, 0.25, 1.4 / 32768], np.float32), 16000, "PCM_16")
    values, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 16000
    assert values.tolist() == [0, 32767, -32768, 32767, -32768, 8192, 1]


def test_same_samples_same_bytes(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", noise(2, 100), 16000)
    write_wav(tmp_path / "b.wav", noise(2, 100), 16000)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "b.wav"]


def test_mono_is_the_mean() -> None:
    clip = AudioClip(np.array([[0.5, 1.0], [0.25, -1.0]], np.float32), 16000, "x")
    assert clip.mono().tolist() == [0.375, 0.0]
    assert AudioClip(clip.samples[:1], 16000, "x").mono().tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("a.flac", "PCM_24"), ("a.ogg", "VORBIS"), ("a.wav", "PCM_24"), ("a.wav", "PCM_32"), ("a.wav", "DOUBLE")],
)
def test_other_formats_are_read(tmp_path: Path, name: str, subtype: str) -> None:
    soundfile.write(tmp_path / name, noise(2000, 2), 44100, subtype=subtype)
    clip = read_wav(tmp_path / name)
    assert clip.samples.shape == (2, 2000)
    assert clip.samples.dtype == np.float32
    assert clip.samples.flags.c_contiguous


def refused(path: Path, *words: str) -> None:
    """read_wav refuses with one line that names the file and has all words."""
    with pytest.raises(AudioError) as caught:
        read_wav(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def test_missing_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.wav", "no such file")
    refused(tmp_path, "is a folder")
    with pytest.raises(AudioError, match=r"no such file|cannot be looked at"):
        read_wav("a\0b.wav")
    with pytest.raises(AudioError, match="cannot be looked at"):
        read_wav("a" * 300 + ".wav")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "not a regular file")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "zero.wav").write_bytes(b"")
    refused(tmp_path / "zero.wav", "empty (0 bytes)")
    write_wav(tmp_path / "none.wav", np.zeros(0, np.float32), 16000)
    refused(tmp_path / "none.wav", "no samples")


@pytest.mark.parametrize(
    "text", ["hello, this is a text file and no wave at all\n" * 5, "RIFF but a story about surfing WAVE riders\n"]
)
def test_text_named_wav(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.wav").write_text(text)
    refused(tmp_path / "t.wav", "not an audio file", "expected WAV")


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_truncated(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1000, 2), 16000, subtype=subtype)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: len(data) - 401])
    frame = 4 if subtype == "PCM_16" else 8
    refused(tmp_path / "a.wav", "truncated", "promises 1000 frames", f"holds {(1000 * frame - 401) // frame}")


@pytest.mark.parametrize("keep", [1, 11, 12, 20, 36, 43])
def test_truncated_header(tmp_path: Path, keep: int) -> None:
    write_wav(tmp_path / "a.wav", noise(100), 16000, "PCM_16")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:keep])
    refused(tmp_path / "a.wav", "truncated")


def test_truncated_flac(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(48000), 16000)
    (tmp_path / "a.flac").write_bytes((tmp_path / "a.flac").read_bytes()[:30000])
    with pytest.raises(AudioError):
        read_wav(tmp_path / "a.flac")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_stream_whose_length_was_not_known_is_read(tmp_path: Path, size: int) -> None:
    """Encoders that write to a pipe leave such a size; the file is whole."""
    write_wav(tmp_path / "a.wav", noise(100), 16000, "PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[40:44] = struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(bytes(data))
    assert read_wav(tmp_path / "a.wav").samples.shape == (1, 100)


def test_chunks_before_and_after_the_data(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", noise(100), 16000, "PCM_16")
    data = (tmp_path / "a.wav").read_bytes()
    odd = b"LIST" + struct.pack("<I", 5) + b"INFO1\0"  # odd length: padded by a byte that is not counted
    (tmp_path / "a.wav").write_bytes(data[:36] + odd + data[36:] + odd)
    assert read_wav(tmp_path / "a.wav").samples.shape == (1, 100)


def test_rf64(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1000), 16000, format="RF64", subtype="FLOAT")
    assert read_wav(tmp_path / "a.wav").samples.shape == (1, 1000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number(tmp_path: Path, value: float) -> None:
    samples = noise(4000, 2)
    samples[1600, 1] = samples[3000, 0] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    refused(tmp_path / "a.wav", "sample 1600 (0.100 s) of channel 1", str(value), "finite numbers")


def test_eight_bit(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(400), 16000, subtype="PCM_U8")
    refused(tmp_path / "a.wav", "8-bit PCM", "convert it first")


def test_six_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(400, 6), 48000, subtype="PCM_16")
    refused(tmp_path / "a.wav", "has 6 channels, expected at most 2", "remix 1")
    assert read_wav(tmp_path / "a.wav", max_channels=6).samples.shape == (6, 400)


@pytest.mark.parametrize("rate", [3999, 200_000])
def test_rates_out_of_range(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", noise(400), rate, subtype="PCM_16")
    refused(tmp_path / "a.wav", f"{rate} Hz", "4000 to 192000")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), riff=st.booleans())
def test_any_bytes_are_an_audio_error(tmp_path_factory: pytest.TempPathFactory, data: bytes, riff: bool) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.wav"
    file.write_bytes((b"RIFF\x50\0\0\0WAVEfmt \x10\0\0\0" if riff else b"") + data)
    with pytest.raises(AudioError):
        read_wav(file)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 57), value=st.integers(0, 255))
def test_a_damaged_header_never_escapes(tmp_path_factory: pytest.TempPathFactory, at: int, value: int) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged.wav"
    write_wav(file, noise(50), 16000)
    data = bytearray(file.read_bytes())
    data[at] = value
    file.write_bytes(bytes(data))
    try:
        clip = read_wav(file)
    except AudioError:
        return
    assert clip.samples.size > 0
    assert np.isfinite(clip.samples).all()


def test_write_refuses_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_wav(tmp_path / "none" / "a.wav", noise(10), 16000)
    with pytest.raises(OutputError, match="is a folder"):
        write_wav(tmp_path, noise(10), 16000)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="does not exist"):
        write_wav(tmp_path / "file" / "a.wav", noise(10), 16000)
    with pytest.raises(AudioError, match="sample 3 "):
        write_wav(tmp_path / "a.wav", np.array([0, 0, 0, np.nan], np.float32), 16000)
    with pytest.raises(AudioError, match="shape"):
        write_wav(tmp_path / "a.wav", noise(1, 2, 3), 16000)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write_wav(tmp_path / "a.wav", noise(10), 16000)
    finally:
        tmp_path.chmod(0o755)


def test_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> object:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match="Read-only file system; nothing was changed"):
        write_wav(tmp_path / "a.wav", noise(10), 16000)


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A real write that fails half way: the process may write 64 kB to a file and no more."""
    write_wav(tmp_path / "a.wav", noise(10), 16000)
    before = (tmp_path / "a.wav").read_bytes()
    script = (
        "import resource, sys, numpy as np\n"
        "from models.common.errors import OutputError\n"
        "from streaming.files.wav import write_wav\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try:\n"
        "    write_wav(sys.argv[1], np.zeros(100000, np.float32), 16000)\n"
        "except OutputError as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.wav")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot be written: File too large; nothing was changed" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == before


def test_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_file(tmp_path / "x.bin") as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not SHARED_AUDIO.is_dir(), reason="../shared/data/audio is absent")
def test_real_recordings_are_read() -> None:
    files = sorted(p for p in SHARED_AUDIO.rglob("*") if p.suffix in (".wav", ".ogg"))
    assert len(files) >= 10
    for file in files:
        clip = read_wav(file)
        assert np.abs(clip.samples).max() > 0.01
