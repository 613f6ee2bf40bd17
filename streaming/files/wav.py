"""Audio files in and out: strict about what comes in, atomic about what goes out.

libsndfile shortens a truncated WAV without a word and refuses others in its own terms, so the RIFF header
is looked at here first. Everything else (FLAC, Ogg, AIFF, ...) is left to it and only its errors are reported
in our words. The writer is ours as well: libsndfile puts the time of day into float files, and the same
samples have to give the same bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from models.common.errors import AudioError, OutputError
from models.common.files import atomic_file
from streaming.core.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ

Array = NDArray[np.float32]
Subtype = Literal["FLOAT", "PCM_16"]

_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # written by encoders that could not seek back
_LARGEST_RIFF_BYTES = 0xFFFFFFFF


@dataclass(frozen=True)
class AudioClip:
    """Samples of a file.

    Attributes:
        samples: float32 [channels, n], full scale 1.0, finite.
        sample_rate_hz: 4,000 to 192,000.
        source: where they came from, for messages and reports.
    """

    samples: Array
    sample_rate_hz: int
    source: str

    @property
    def duration_s(self) -> float:
        return float(self.samples.shape[1] / self.sample_rate_hz)

    def mono(self) -> Array:
        """The mean of the channels, float32 [n]."""
        mixed: Array = self.samples[0]
        if self.samples.shape[0] > 1:
            mixed = self.samples.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mixed

    def spread(self, channels: int) -> Array:
        """float32 [channels, n]: as they are, or their mean in every channel where there are more or fewer."""
        return self.samples if len(self.samples) == channels else np.stack([self.mono()] * channels)


def read_wav(path: str | Path, max_channels: int = 2) -> AudioClip:
    """Read a whole audio file.

    Args:
        path: a file that libsndfile reads: WAV, FLAC, Ogg, AIFF, MP3.
        max_channels: most channels accepted.

    Returns:
        the clip at the file's own rate.

    Raises:
        AudioError: missing, no audio file, empty, truncated, 8-bit PCM, NaN or Inf, too many channels, or a
            rate out of range. One line that says what to do.
    """
    file = Path(path)
    size = _size(file)
    if size == 0:
        raise AudioError(f"{file}: the file is empty (0 bytes); expected an audio file")
    _check_riff(file, size)
    samples, rate, subtype, promised = _decode(file, max_channels)
    if len(samples) < promised:
        raise AudioError(_truncated(file, f"{promised} frames", f"{len(samples)}"))
    if len(samples) == 0:
        raise AudioError(f"{file}: holds no samples ({subtype}, {rate} Hz); expected at least one")
    finite = np.isfinite(samples)
    if not finite.all():
        frame, channel = (int(v) for v in np.argwhere(~finite)[0])
        raise AudioError(
            f"{file}: sample {frame} ({frame / rate:.3f} s) of channel {channel} is {float(samples[frame, channel])}, "
            f"{int((~finite).sum())} samples in all are NaN or Inf; expected finite numbers, write the file again"
        )
    return AudioClip(np.ascontiguousarray(samples.T), rate, str(file))


def _size(file: Path) -> int:
    """Bytes of a readable regular file."""
    try:
        if file.is_dir():
            raise AudioError(f"{file}: is a folder; expected an audio file")
        if not file.exists():
            raise AudioError(f"{file}: no such file")
        if not file.is_file():
            raise AudioError(f"{file}: is not a regular file; expected an audio file")
        return file.stat().st_size
    except (OSError, ValueError) as exc:
        raise AudioError(f"{str(file)!r}: cannot be looked at: {exc}") from exc


def _decode(file: Path, max_channels: int) -> tuple[Array, int, str, int]:
    """Samples float32 [n, channels], rate, subtype and the number of frames that the header promises."""
    import soundfile  # late: loads a native library that the command's --help has no use for

    try:
        with soundfile.SoundFile(file) as sound:
            rate, channels, subtype, promised = int(sound.samplerate), int(sound.channels), sound.subtype, sound.frames
            _check_format(file, rate, channels, subtype, max_channels)
            return sound.read(dtype="float32", always_2d=True), rate, subtype, promised
    except soundfile.SoundFileError as exc:
        detail = str(getattr(exc, "error_string", exc)).strip().rstrip(".")
        raise AudioError(
            f"{file}: is not an audio file that can be read ({detail}); expected WAV, FLAC or Ogg"
        ) from exc
    except (OSError, MemoryError, ValueError) as exc:
        raise AudioError(f"{file}: cannot be read: {exc or type(exc).__name__}") from exc


def _check_format(file: Path, rate: int, channels: int, subtype: str, max_channels: int) -> None:
    if subtype in ("PCM_U8", "PCM_S8"):
        raise AudioError(
            f"{file}: is 8-bit PCM, whose noise a phone's 16-bit capture does not have; convert it first, "
            f"for instance: sox in.wav -b 16 out.wav (or record again)"
        )
    if channels > max_channels:
        raise AudioError(
            f"{file}: has {channels} channels, expected at most {max_channels}; pick one (sox in.wav out.wav remix 1) "
            f"or mix all (sox in.wav out.wav channels 1)"
        )
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise AudioError(
            f"{file}: its sample rate is {rate} Hz, expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}; "
            f"correct the header or convert it (sox in.wav -r 16000 out.wav)"
        )


def _truncated(file: Path, promised: str, held: str) -> str:
    return f"{file}: is truncated: the header promises {promised}, the file holds {held}; copy or record it again"


def _check_riff(file: Path, size: int) -> None:
    """Raise if a WAV's header promises more audio than the file holds; other formats pass."""
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
            if file.suffix.lower() in (".wav", ".wave") and len(head) < 12:
                raise AudioError(
                    f"{file}: is truncated: {size} bytes do not even hold a WAV header; copy or record it again"
                )
            if head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64") or head[8:12] != b"WAVE":
                return
            _walk_chunks(file, stream, size, ">" if head[:4] == b"RIFX" else "<")
    except OSError as exc:
        raise AudioError(f"{file}: cannot be read: {exc.strerror or exc}") from exc


def _walk_chunks(file: Path, stream: BinaryIO, size: int, order: str) -> None:
    frame_bytes = 1
    long_data_bytes = None
    position = 12
    while position + 8 <= size:
        stream.seek(position)
        name = stream.read(4)
        (length,) = struct.unpack(order + "I", stream.read(4))
        body = stream.read(16)
        if name == b"ds64" and len(body) == 16:
            (long_data_bytes,) = struct.unpack(order + "Q", body[8:16])
        elif name == b"fmt " and len(body) == 16:
            frame_bytes = max(1, struct.unpack(order + "HHIIHH", body)[4])
        elif name == b"data":
            if length == 0xFFFFFFFF and long_data_bytes is not None:
                length = long_data_bytes
            held = size - position - 8
            if length > held and length not in _UNKNOWN_SIZES:
                raise AudioError(_truncated(file, f"{length // frame_bytes} frames", f"{held // frame_bytes}"))
            return
        position += 8 + length + (length & 1)
    raise AudioError(f"{file}: is truncated or damaged: a WAV header without a data chunk; copy or record it again")


def write_wav(path: str | Path, samples: Array, sample_rate_hz: int, subtype: Subtype = "FLOAT") -> None:
    """Write a WAV: all of it or nothing.

    Args:
        path: where to; an existing file is replaced at the very end.
        samples: float32 [n] or [channels, n], finite, full scale 1.0.
        sample_rate_hz: its rate.
        subtype: "FLOAT" (32 bit, as it is) or "PCM_16" (rounded; what exceeds full scale is limited to it).

    Raises:
        AudioError: NaN or Inf among the samples.
        OutputError: the folder is missing or read-only, the disk is full, or the file would exceed 4 GiB.
    """
    channels = samples[None] if samples.ndim == 1 else samples
    if channels.ndim != 2 or channels.shape[0] < 1:
        raise AudioError(f"{path}: expected samples [n] or [channels, n], got shape {list(samples.shape)}")
    if not np.isfinite(channels).all():
        bad = int(np.flatnonzero(~np.isfinite(channels).all(axis=0))[0])
        raise AudioError(f"{path}: not written: sample {bad} ({bad / sample_rate_hz:.3f} s) is NaN or Inf")
    if subtype == "PCM_16":
        frames: NDArray[Any] = np.clip(np.rint(channels.T.astype(np.float64) * 32768.0), -32768, 32767).astype("<i2")
    else:
        frames = channels.T.astype("<f4")
    header = wav_header(channels.shape[0], sample_rate_hz, frames.shape[0], frames.dtype.itemsize, subtype)
    if len(header) + frames.nbytes > _LARGEST_RIFF_BYTES:
        raise OutputError(
            f"{path}: {frames.nbytes} bytes of audio do not fit a WAV (4 GiB); write it in parts or as PCM_16"
        )
    with atomic_file(Path(path)) as stream:
        stream.write(header)
        stream.write(np.ascontiguousarray(frames).data.cast("B") if frames.size else b"")


def wav_header(channels: int, rate: int, frames: int, width: int, subtype: Subtype) -> bytes:
    """All of a WAV before its samples; its length depends on the subtype only."""
    code = 1 if subtype == "PCM_16" else 3
    fmt = struct.pack("<HHIIHH", code, channels, rate, rate * channels * width, channels * width, 8 * width)
    if code == 3:  # not PCM: the format chunk carries an extension size and a fact chunk follows
        fmt += struct.pack("<H", 0)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt
    if code == 3:
        chunks += b"fact" + struct.pack("<II", 4, frames)
    data = frames * channels * width
    chunks += b"data" + struct.pack("<I", data & 0xFFFFFFFF)
    return b"RIFF" + struct.pack("<I", (4 + len(chunks) + data) & 0xFFFFFFFF) + b"WAVE" + chunks
