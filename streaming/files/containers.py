"""What an audio file's header promises, and what the file holds: WAV, RF64, BW64, W64, AIFF, CAF and AU.

libsndfile shortens a truncated file without a word. And recorders that were stopped, or that write into a pipe, leave
a size that means nothing: then the rest of the file is audio, and is read with a warning. Where libsndfile would take
such a size at its word, it is shown a header with the true one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from models.common.errors import AudioError

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_MPEG_CODES = (0x50, 0x55)  # WAVE_FORMAT_MPEG, WAVE_FORMAT_MPEGLAYER3
_OGG_PAGE_BYTES = 65_307  # at most
_ALL_ONES = 0xFFFFFFFFFFFFFFFF
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "MPEG-4 audio (m4a, aac)"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"ADIF", "AAC"),
    (0, b"#!AMR", "AMR"),
    (0, bytes.fromhex("3026b2758e66cf11"), "Windows Media audio"),
    (0, bytes.fromhex("1a45dfa3"), "Matroska or WebM"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b".RMF", "RealMedia"),
)


@dataclass(frozen=True)
class Container:
    """What a look at the header gave.

    Attributes:
        patches: (offset, bytes) to put over the file's own, so that sizes are true.
        mpeg: (begin, end) of MPEG frames inside the container.
        warnings: what a person has to know.
    """

    patches: tuple[tuple[int, bytes], ...] = ()
    mpeg: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Audio:
    """Where a header says that the audio is.

    Attributes:
        begin: its first byte.
        promised: bytes that the header says.
        field, width, order: where it says so: offset, bytes, "little" or "big".
        extra: what the field counts besides the audio.
        frame_bytes: of a frame; 1 where that is not known.
        frames_field: where the header counts frames, too; 0: nowhere.
        to_the_end: whether the format has this size for "up to the end", so that nobody has to be warned.
    """

    begin: int
    promised: int
    field: int
    width: int
    order: Literal["little", "big"]
    extra: int = 0
    frame_bytes: int = 1
    frames_field: int = 0
    to_the_end: bool = False


def look_at(file: Path, size: int) -> Container:
    """Compare an audio file's header with what the file holds.

    Args:
        file: a regular file.
        size: its bytes.

    Raises:
        AudioError: truncated, a WAV without audio, or a format that is known and not read.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
            _refuse_foreign(file, head)
            if file.suffix.lower() in (".wav", ".wave") and len(head) < 12:
                raise AudioError(
                    f"{file}: is truncated: {size} bytes do not even hold a WAV header; copy or record it again"
                )
            if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
                return _wav(file, stream, size, head[:4])
            if head[:16] == _W64_RIFF:
                audio = _w64(stream, size)
            elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
                audio = _aiff(stream, size)
            elif head[:4] == b"caff":
                audio = _caf(stream, size)
            elif head[:4] in (b".snd", b"dns."):
                audio = _au(head)
            else:
                return Container()
            return Container() if audio is None else _compare(file, audio, size, False)
    except OSError as exc:
        raise AudioError(f"{file}: cannot be read: {exc.strerror or exc}") from exc


def _refuse_foreign(file: Path, head: bytes) -> None:
    for offset, magic, what in _FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            to = f"{file.stem}{'-converted' if file.suffix.lower() == '.wav' else ''}.wav"
            raise AudioError(f"{file}: is {what}, which is not read here; convert it: ffmpeg -i {file.name} {to}")


def ogg_is_cut(file: Path) -> bool:
    """Whether an Ogg file ends before the page that is marked as its last, or within a page."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 2 * _OGG_PAGE_BYTES))
        tail = stream.read()
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return True
    lengths = tail[at + 27 : at + 27 + tail[at + 26]]
    whole = len(lengths) == tail[at + 26] and len(tail) >= at + 27 + len(lengths) + sum(lengths)
    return not (whole and tail[at + 5] & 4)


def truncated(file: Path, promised: str, held: str) -> AudioError:
    """The error of a file that holds less than it promises."""
    return AudioError(
        f"{file}: is truncated: the header promises {promised}, the file holds {held}; copy or record it again"
    )


def _means_nothing(promised: int, width: int) -> bool:
    """Whether a size is one that writers leave who do not know it: 0, -1, or about 2 or 4 GiB, headers more or less."""
    if width == 8:
        return promised == 0 or promised >= 1 << 62
    return promised == 0 or 0x7FFF0000 <= promised <= 0x80000400 or promised >= 0xFFFF0000


def _compare(file: Path, audio: _Audio, size: int, ends: bool) -> Container:
    """Promise and file; `ends`: whether what follows an empty audio chunk is the regular rest of a file."""
    held = size - audio.begin
    if 0 < audio.promised <= held or held == 0 or (audio.promised == 0 and ends):
        return Container()
    if not _means_nothing(audio.promised, audio.width):
        frame = audio.frame_bytes
        raise truncated(file, f"{audio.promised // frame} frames", f"{max(0, held) // frame}")
    whole = held - held % audio.frame_bytes
    patches: tuple[tuple[int, bytes], ...] = ()
    if whole + audio.extra < 1 << (8 * audio.width):
        patches = ((audio.field, (whole + audio.extra).to_bytes(audio.width, audio.order)),)
    if audio.frames_field and patches:
        patches += ((audio.frames_field, (whole // audio.frame_bytes).to_bytes(4, "big")),)
    warning = (
        f"{file}: its header does not say how much it holds (a recorder that was stopped, or a pipe); "
        f"all {held} bytes after it are taken for audio"
    )
    return Container(patches, None, () if audio.to_the_end else (warning,))


def _wav(file: Path, stream: BinaryIO, size: int, magic: bytes) -> Container:
    order = ">" if magic == b"RIFX" else "<"
    frame_bytes, code = 1, 0
    long_data_bytes, long_field = None, 0
    position = 12
    while position + 8 <= size:
        stream.seek(position)
        name = stream.read(4)
        (length,) = struct.unpack(order + "I", stream.read(4))
        body = stream.read(16)
        if name == b"ds64" and len(body) == 16:
            (long_data_bytes,) = struct.unpack(order + "Q", body[8:16])
            long_field = position + 16
        elif name == b"fmt " and len(body) == 16:
            code, _, _, _, block_align, _ = struct.unpack(order + "HHIIHH", body)
            frame_bytes = max(1, block_align)
        elif name == b"data":
            begin = position + 8
            if magic in (b"RF64", b"BW64") and long_data_bytes is not None and length in (0, 0xFFFFFFFF):
                audio = _Audio(begin, long_data_bytes, long_field, 8, "little", frame_bytes=frame_bytes)
            else:
                byte_order: Literal["little", "big"] = "big" if order == ">" else "little"
                audio = _Audio(begin, length, position + 4, 4, byte_order, frame_bytes=frame_bytes)
            found = _compare(file, audio, size, _chunks_follow(stream, begin, size, order))
            patches = found.patches
            if magic == b"BW64":  # RF64 by another name, which libsndfile does not know
                patches = ((0, b"RF64"), *patches)
            if long_field and length == 0 and patches:
                patches = (*patches, (position + 4, b"\xff\xff\xff\xff"))
            end = size if audio.promised == 0 or found.warnings else min(size, begin + audio.promised)
            return Container(patches, (begin, end) if code in _MPEG_CODES else None, found.warnings)
        position += 8 + length + (length & 1)
    raise AudioError(f"{file}: is truncated or damaged: a WAV header without a data chunk; copy or record it again")


def _chunks_follow(stream: BinaryIO, position: int, size: int, order: str) -> bool:
    """Whether the rest of a file is whole chunks: then an empty data chunk means what it says."""
    while position + 8 <= size:
        stream.seek(position)
        name = stream.read(4)
        (length,) = struct.unpack(order + "I", stream.read(4))
        if not all(0x20 <= byte < 0x7F for byte in name):
            return False
        position += 8 + length + (length & 1)
    return size <= position <= size + 1


def _w64(stream: BinaryIO, size: int) -> _Audio | None:
    position, frame_bytes = 40, 1
    while position + 24 <= size:
        stream.seek(position)
        head = stream.read(40)
        name, (length,) = head[:4], struct.unpack("<Q", head[16:24])
        if head[4:16] != _W64_TAIL:
            return None
        if name == b"fmt " and len(head) == 40:
            frame_bytes = max(1, struct.unpack("<HHIIHH", head[24:40])[4])
        if name == b"data":
            promised = length if length >= 1 << 62 else max(0, length - 24)
            return _Audio(position + 24, promised, position + 16, 8, "little", 24, frame_bytes)
        if length < 24:
            return None
        position += -(-length // 8) * 8
    return None


def _aiff(stream: BinaryIO, size: int) -> _Audio | None:
    position, frame_bytes, frames_field, plain = 12, 1, 0, True
    while position + 8 <= size:
        stream.seek(position)
        head = stream.read(30)
        name, (length,) = head[:4], struct.unpack(">I", head[4:8])
        if name == b"COMM" and len(head) >= 16:
            channels, _, bits = struct.unpack(">HIH", head[8:16])
            frames_field = position + 10
            plain = length < 22 or head[26:30] in (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64")
            frame_bytes = max(1, channels * -(-bits // 8)) if plain else 1
        if name == b"SSND":
            promised = length if length == 0 or length >= 0xFFFF0000 else max(0, length - 8)

            return _Audio(position + 16, promised, position + 4, 4, "big", 8, frame_bytes, frames_field if plain else 0)
        position += 8 + length + (length & 1)
    return None


def _caf(stream: BinaryIO, size: int) -> _Audio | None:
    position, frame_bytes = 8, 1
    while position + 12 <= size:
        stream.seek(position)
        head = stream.read(12 + 32)
        name, (length,) = head[:4], struct.unpack(">Q", head[4:12])
        if name == b"desc" and len(head) == 44:
            packet_bytes, packet_frames = struct.unpack(">II", head[28:36])
            frame_bytes = packet_bytes if packet_frames == 1 and packet_bytes else 1
        if name == b"data":
            promised = length if length == 0 or length >= 1 << 62 else max(0, length - 4)
            to_the_end = promised == _ALL_ONES
            return _Audio(position + 16, promised, position + 4, 8, "big", 4, frame_bytes, to_the_end=to_the_end)
        position += 12 + length
    return None


def _au(head: bytes) -> _Audio | None:
    if len(head) < 24:
        return None
    order = ">" if head[:4] == b".snd" else "<"
    begin, length, encoding, _, channels = struct.unpack(order + "IIIII", head[4:24])
    if length == 0xFFFFFFFF:  # means: to the end
        return None
    widths = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
    frame_bytes = max(1, widths.get(encoding, 1) * channels)
    return _Audio(begin, length, 8, 4, "big" if order == ">" else "little", 0, frame_bytes)
