"""Headers against files: sizes that recorders leave are read with a warning, truncated files stay errors."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.common.errors import AudioError
from streaming.files.wav import read_wav, write_wav

FRAMES = 4000
ALL_ONES = (1 << 64) - 1


def noise(channels: int = 1) -> np.ndarray:
    return (np.random.default_rng(1).standard_normal((FRAMES, channels)) * 0.1).astype(np.float32)


def put(file: Path, offset: int, data: bytes) -> None:
    whole = bytearray(file.read_bytes())
    whole[offset : offset + len(data)] = data
    file.write_bytes(bytes(whole))


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0x7FFFFFDB, 0xFFFFFFFF, 0xFFFFFFDB])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_sizes_that_wav_recorders_leave(tmp_path: Path, size: int, subtype: str) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, noise(2), 16000, subtype=subtype)
    expected = read_wav(file)
    at = file.read_bytes().index(b"data") + 4
    put(file, at, struct.pack("<I", size))
    put(file, 4, struct.pack("<I", size))
    clip = read_wav(file)
    assert clip.samples.tobytes() == expected.samples.tobytes()
    assert len(clip.warnings) == 1
    assert "does not say how much it holds" in clip.warnings[0]
    assert expected.warnings == ()


def test_an_empty_data_chunk_among_others_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    write_wav(file, np.zeros(0, np.float32), 16000, "PCM_16")
    file.write_bytes(file.read_bytes() + b"LIST" + struct.pack("<I", 6) + b"INFO12")
    with pytest.raises(AudioError, match="no samples"):
        read_wav(file)


@pytest.mark.parametrize("size", [0, ALL_ONES])
@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
def test_sizes_of_rf64_and_bw64(tmp_path: Path, size: int, magic: bytes) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, noise(), 16000, format="RF64", subtype="PCM_16")
    expected = read_wav(file).samples
    put(file, 0, magic)
    assert read_wav(file).samples.tobytes() == expected.tobytes()
    put(file, file.read_bytes().index(b"ds64") + 16, struct.pack("<Q", size))
    clip = read_wav(file)
    assert clip.samples.tobytes() == expected.tobytes()
    assert len(clip.warnings) == 1


# Where a format keeps the size of its audio: the chunk's name, the distance to the field, and how it is packed.
FIELDS = {
    "W64": (b"data\xf3\xac", 16, "<Q"),
    "AIFF": (b"SSND", 4, ">I"),
    "CAF": (b"data", 4, ">Q"),
    "AU": (b".snd", 8, ">I"),
}


def written(tmp_path: Path, form: str) -> tuple[Path, np.ndarray]:
    file = tmp_path / f"a.{form.lower()}"
    soundfile.write(file, noise(2), 16000, format=form, subtype="PCM_16")
    return file, read_wav(file).samples


@pytest.mark.parametrize("form", FIELDS)
@pytest.mark.parametrize("size", ["0", "ones"])
def test_sizes_that_other_recorders_leave(tmp_path: Path, form: str, size: str) -> None:
    file, expected = written(tmp_path, form)
    mark, distance, code = FIELDS[form]
    value = 0 if size == "0" else (1 << 8 * struct.calcsize(code)) - 1
    put(file, file.read_bytes().index(mark) + distance, struct.pack(code, value))
    if form == "AIFF":
        put(file, file.read_bytes().index(b"COMM") + 10, struct.pack(">I", 0))
    clip = read_wav(file)
    assert clip.samples.tobytes() == expected.tobytes()
    allowed = form in ("CAF", "AU") and size == "ones"  # the format's own way to say "to the end"
    assert len(clip.warnings) == (0 if allowed else 1)


@pytest.mark.parametrize("form", [*FIELDS, "RF64", "WAV"])
def test_truncated_files_stay_errors(tmp_path: Path, form: str) -> None:
    file, _ = written(tmp_path, form)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) - 4004])
    with pytest.raises(AudioError, match=f"truncated: the header promises {FRAMES} frames, the file holds"):
        read_wav(file)


FOREIGN = {
    "a.m4a": (b"\0\0\0\x20ftypM4A \0\0\2\0", "MPEG-4 audio", "ffmpeg -i a.m4a a.wav"),
    "aac.wav": (b"\0\0\0\x20ftypmp42\0\0\2\0", "MPEG-4 audio", "ffmpeg -i aac.wav aac-converted.wav"),
    "a.aac": (b"\xff\xf1\x50\x80\x2e\x7f\xfc\0", "AAC", "ffmpeg -i a.aac a.wav"),
    "a.amr": (b"#!AMR\n", "AMR", "ffmpeg -i a.amr a.wav"),
    "a.wma": (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "Windows Media", "ffmpeg -i a.wma a.wav"),
    "a.webm": (bytes.fromhex("1a45dfa39f428681"), "WebM", "ffmpeg -i a.webm a.wav"),
    "a.xyz": (b"something else altogether", "not an audio file", "ffmpeg -i a.xyz out.wav"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_read_says_how_to_convert_it(tmp_path: Path, name: str) -> None:
    data, what, cure = FOREIGN[name]
    (tmp_path / name).write_bytes(data + bytes(200))
    with pytest.raises(AudioError) as caught:
        read_wav(tmp_path / name)
    assert what in str(caught.value)
    assert cure in str(caught.value)


def test_an_ogg_that_was_cut_says_how_much_came(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.ogg", tmp_path / "cut.ogg"
    soundfile.write(whole, 0.1 * np.random.default_rng(1).standard_normal(160_000), 16_000)
    data = whole.read_bytes()
    assert read_wav(whole).warnings == ()
    for length in (len(data) // 2, data.rfind(b"OggS"), len(data) - 10):
        cut.write_bytes(data[:length])
        clip = read_wav(cut)
        assert 0 < clip.samples.shape[1] < 160_000
        assert any("has no end" in w and f"{clip.duration_s:.1f} s were read" in w for w in clip.warnings)


def test_what_cannot_seek_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "gsm.wav", noise(), 8000, subtype="GSM610")
    assert read_wav(tmp_path / "gsm.wav").samples.shape[1] >= FRAMES
