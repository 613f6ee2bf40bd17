"""Audio files in every container that libsndfile writes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.kinds import Kind
from tests.fuzz.mutate import damage_bytes

_FORMATS = (
    *(("WAV", s) for s in ("PCM_16", "PCM_24", "FLOAT", "IMA_ADPCM", "MS_ADPCM", "GSM610", "ULAW")),
    *(("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")),
    *(
        ("W64", "PCM_16"),
        ("CAF", "PCM_16"),
        ("CAF", "ALAC_16"),
        ("AU", "PCM_16"),
        ("RF64", "PCM_16"),
        ("VOC", "PCM_16"),
    ),
)


def _name(container: str, subtype: str) -> str:
    return f"{subtype}.{container}".lower()


def _make(folder: Path) -> None:
    import soundfile

    samples = 0.3 * np.sin(0.1 * np.arange(8_000)) + 0.01 * np.random.default_rng(1).standard_normal(8_000)
    for container, subtype in _FORMATS:
        soundfile.write(folder / _name(container, subtype), samples, 16_000, format=container, subtype=subtype)


def _read(folder: Path, _random: Random) -> None:
    from streaming.files.wav import read_wav

    changed = max(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    read_wav(changed)


KINDS = (Kind("audio", _make, tuple((_name(*f), damage_bytes) for f in _FORMATS), _read, suite=600),)
