"""MP3s without a Xing header are read to their end, constant and variable bit rates, with tags and inside a WAV."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.common.errors import AudioError
from streaming.files.mpeg import PiecesFile, scan_mpeg
from streaming.files.wav import read_wav

ID3V2 = b"ID3\x04\0\0" + bytes((0, 0, 2, 0)) + b"TIT2" + bytes(252)
ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")


def sound(seconds: float, rate: int, channels: int) -> np.ndarray:
    """Silence, then a chirp with noise: a variable bit rate begins low and goes up."""
    t = np.arange(round(seconds * rate)) / rate
    loud = (t > seconds / 3) * (0.4 * np.sin(2000 * t * t) + 0.1 * np.random.default_rng(2).standard_normal(len(t)))
    return np.repeat(loud[:, None], channels, 1).astype(np.float32)


def mp3(tmp_path: Path, mode: str, rate: int = 44100, channels: int = 2) -> tuple[Path, bytes]:
    """An MP3 with its Info frame, and its audio frames alone."""
    file = tmp_path / "a.mp3"
    soundfile.write(file, sound(3.0, rate, channels), rate, format="MP3", bitrate_mode=mode, compression_level=0.6)
    scan = scan_mpeg(file)
    assert scan.promised == scan.frames
    ((begin, length),) = scan.pieces
    return file, file.read_bytes()[begin : begin + length]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1), (16000, 1), (8000, 2)])
def test_without_a_header_all_of_it_is_read(tmp_path: Path, mode: str, rate: int, channels: int) -> None:
    file, audio = mp3(tmp_path, mode, rate, channels)
    exact = read_wav(file)
    assert exact.samples.shape == (channels, 3 * rate)
    frames = scan_mpeg(file).frames
    for before, after in ((b"", b""), (ID3V2, b""), (b"", ID3V1), (ID3V2 + ID3V2, ID3V1)):
        (tmp_path / "b.mp3").write_bytes(before + audio + after)
        clip = read_wav(tmp_path / "b.mp3")
        assert clip.samples.shape == (channels, frames * (1152 if rate > 30000 else 576))
        assert clip.warnings == ()
        lag = int(np.argmax(np.correlate(clip.samples[0], exact.samples[0][rate : rate + 4096], "valid"))) - rate
        assert 500 < lag < 3000  # the encoder's and decoder's delay, which only the header tells
        # The first frames' bits lie in the header's frame; from the loud part on the samples are the same.
        begin, length = rate + rate // 2, rate
        ours = clip.samples[:, begin + lag : begin + lag + length]
        assert np.abs(ours - exact.samples[:, begin : begin + length]).max() < 1e-4


def test_in_a_wav_and_joined(tmp_path: Path) -> None:
    file, audio = mp3(tmp_path, "VARIABLE", 16000, 1)
    samples = scan_mpeg(file).samples
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 16000, 4000, 1, 0, 12, 1, 2, 144, 1, 1393)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(audio)) + audio
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert read_wav(tmp_path / "a.wav").samples.shape == (1, samples)
    (tmp_path / "joined.mp3").write_bytes(file.read_bytes() + audio)
    joined = read_wav(tmp_path / "joined.mp3")
    assert joined.samples.shape == (1, 2 * samples)
    assert "its header counts" in joined.warnings[0]
    (tmp_path / "junk.mp3").write_bytes(audio + b"\0junk" * 50 + audio)
    junk = read_wav(tmp_path / "junk.mp3")
    assert junk.samples.shape == (1, 2 * samples)
    assert "left out" in junk.warnings[0]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("lost", [3, 1000])
def test_cut_files_stay_errors(tmp_path: Path, mode: str, lost: int) -> None:
    file, audio = mp3(tmp_path, mode, 16000, 1)
    (tmp_path / "b.mp3").write_bytes(audio[:-lost])
    with pytest.raises(AudioError, match="truncated"):
        read_wav(tmp_path / "b.mp3")
    (tmp_path / "c.mp3").write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(AudioError, match="truncated"):
        read_wav(tmp_path / "c.mp3")


def test_layer_two_is_counted(tmp_path: Path) -> None:
    """Frames of silence: a header of 32 kbit/s at 48 kHz, mono, and no bits for any band."""
    frame = b"\xff\xfd\x14\xc4" + bytes(96 - 4)
    (tmp_path / "a.mp2").write_bytes(frame * 50)
    assert read_wav(tmp_path / "a.mp2").samples.shape == (1, 50 * 1152)


def test_a_file_of_pieces(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(100)))
    file = PiecesFile(tmp_path / "f", (b"ab", (10, 5), (90, 10)), claimed_bytes=500)
    assert file.read() == b"ab" + bytes(range(10, 15)) + bytes(range(90, 100))
    file.seek(4)
    assert file.read(6) == bytes((12, 13, 14, 90, 91, 92))
    assert file.seek(-128, 2) == 372
    assert file.read(128) == bytes(128)
    file.close()
