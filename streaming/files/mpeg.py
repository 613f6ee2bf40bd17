"""MPEG audio (layers I to III) frame by frame: how much a file really holds, and a stream that is read to its end.

libsndfile stops where its guess of the length says, and guesses wherever no Xing or Info frame tells: half of a
recording with a variable bit rate. So the frame headers are walked here (ISO 11172-3, 13818-3, and MPEG 2.5).
"""

from __future__ import annotations

import io
import mmap
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import AudioError

_BITRATES_KBPS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SEARCH_BYTES = 1 << 20  # how far a first frame may lie behind tags and pictures
_LARGEST_FRAME_BYTES = 2881
_TAG_BYTES = 128


@dataclass(frozen=True)
class _Frame:
    """A frame's header: what all frames of a stream share (`kind`), its length in bytes, and where Xing would stand."""

    kind: tuple[int, int, int]
    length: int
    samples: int
    xing_at: int


@dataclass(frozen=True)
class MpegScan:
    """What a walk over the frames found.

    Attributes:
        pieces: (offset, bytes) of the runs of audio frames, without tags, junk and a Xing, Info or VBRI frame.
        frames, samples_per_frame: of audio.
        promised: frames of audio that the Xing or Info frame promises; None without one.
        cut: whether the last frame is incomplete.
        simple: whether the file is a Xing or Info frame and what it promises, and nothing between.
    """

    pieces: tuple[tuple[int, int], ...]
    frames: int
    samples_per_frame: int
    promised: int | None
    cut: bool
    simple: bool

    @property
    def samples(self) -> int:
        """Samples of a channel in all whole frames."""
        return self.frames * self.samples_per_frame


def scan_mpeg(path: Path, begin: int = 0, end: int | None = None) -> MpegScan:
    """Walk the frames of a file, or of a part of it.

    Args:
        path: a file with MPEG audio.
        begin, end: bytes of the part.

    Raises:
        AudioError: no frames, or frames of free bit rate, whose length no header tells.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _scan(path, data, begin, len(data) if end is None else min(end, len(data)))


def _scan(path: Path, data: mmap.mmap, begin: int, end: int) -> MpegScan:
    at = _after_tags(data, begin, end)
    start = _next_frame(data, at, min(end, at + _SEARCH_BYTES), end, None)
    if start is None:
        raise AudioError(f"{path}: holds no MPEG frames that can be counted; convert it: ffmpeg -i in.mp3 out.wav")
    first = _frame(data, start)
    if first is None:
        raise AudioError(f"{path}: is damaged at byte {start}; convert it: ffmpeg -i in.mp3 out.wav")
    promised, leads = _promise(data, start, first)
    at = start + first.length if leads else start
    pieces: list[tuple[int, int]] = []
    frames, cut, piece = 0, False, at
    while at < end:
        frame = _frame(data, at) if at + 4 <= end else None
        if frame is not None and frame.kind == first.kind and at + frame.length <= end:
            at += frame.length
            frames += 1
            continue
        if at > piece:
            pieces.append((piece, at - piece))
        headless = 2 <= end - at < 4 and data[at : at + 2] == data[start : start + 2]
        cut = headless or (frame is not None and frame.kind == first.kind)
        found = _next_frame(data, at + 1, end, end, first.kind)
        if found is None:
            break
        at = piece = found
    else:
        if at > piece:
            pieces.append((piece, at - piece))
    simple = promised == frames and len(pieces) == 1
    return MpegScan(tuple(pieces), frames, first.samples, promised, cut, simple)


def _after_tags(data: mmap.mmap, at: int, end: int) -> int:
    """Past ID3v2 tags."""
    while data[at : at + 3] == b"ID3" and at + 10 <= end:
        size = 0
        for byte in data[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    return at


def _next_frame(data: mmap.mmap, at: int, until: int, end: int, kind: tuple[int, int, int] | None) -> int | None:
    """The next frame that another frame, or the end, follows."""
    while True:
        at = data.find(b"\xff", at, until)
        if at < 0:
            return None
        frame = _frame(data, at) if at + 4 <= end else None
        if frame is not None and (kind is None or frame.kind == kind):
            after = at + frame.length
            following = _frame(data, after) if after + 4 <= end else None
            if after == end or (following is not None and following.kind == frame.kind):
                return at
        at += 1


def _frame(data: mmap.mmap, at: int) -> _Frame | None:
    """The header at an offset; None where there is none, or one of free bit rate."""
    sync, second, third, fourth = data[at : at + 4]
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    bitrate, rate = third >> 4, third >> 2 & 3
    if sync != 0xFF or second < 0xE0 or version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    first = version == 3
    bits = 1000 * _BITRATES_KBPS[first, layer][bitrate - 1]
    rate_hz, padding = _RATES_HZ[version][rate], third >> 1 & 1
    samples = 384 if layer == 1 else 1152 if first or layer == 2 else 576
    length = (12 * bits // rate_hz + padding) * 4 if layer == 1 else samples // 8 * bits // rate_hz + padding
    mono = fourth >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame((version, layer, rate), length, samples, 4 + side if layer == 3 else 0)


def _promise(data: mmap.mmap, at: int, frame: _Frame) -> tuple[int | None, bool]:
    """Frames that the first one promises, and whether it is no audio but such a header."""
    place = at + frame.xing_at
    if frame.xing_at and data[place : place + 4] in (b"Xing", b"Info"):
        counted = data[place + 7] & 1
        return int.from_bytes(data[place + 8 : place + 12], "big") if counted else None, True
    return None, data[at + 36 : at + 40] == b"VBRI"


class PiecesFile(io.RawIOBase):
    """A file made of pieces: bytes, and parts of a file on disk. For reading only.

    Args:
        path: the file on disk.
        pieces: bytes, or (offset, length) in it.
        claimed_bytes: a length to claim that is more than there is. What guesses how much it holds then guesses too
            much, and reads to the end; the last bytes of the claim (where a tag would be) read as zeros.
    """

    def __init__(self, path: Path, pieces: tuple[bytes | tuple[int, int], ...], claimed_bytes: int = 0) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._parts: list[tuple[int, int, bytes | int]] = []  # begin and end here, and what is there
        length = 0
        for piece in pieces:
            size, source = (len(piece), piece) if isinstance(piece, bytes) else (piece[1], piece[0])
            self._parts.append((length, length + size, source))
            length += size
        self._length = max(length, claimed_bytes)
        self._claims = self._length > length
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as there is something."""
        wanted = len(buffer)
        got = self._fill(buffer, wanted)
        if got == 0 and self._claims and self._length - _TAG_BYTES <= self._at < self._length:
            got = min(wanted, self._length - self._at)
            buffer[:got] = bytes(got)
        self._at += got
        return got

    def _fill(self, buffer: memoryview, wanted: int) -> int:
        got = 0
        for begin, end, source in self._parts:
            at = self._at + got
            if got == wanted or not begin <= at < end:
                continue
            count = min(wanted - got, end - at)
            if isinstance(source, bytes):
                buffer[got : got + count] = source[at - begin : at - begin + count]
            else:
                self._file.seek(source + at - begin)
                count = self._file.readinto(memoryview(buffer)[got : got + count])
            got += count
        return got

    def close(self) -> None:
        """Close the file on disk."""
        self._file.close()
        super().close()


def mpeg_file(path: Path, scan: MpegScan) -> PiecesFile:
    """A stream of the audio frames only, which libsndfile reads to the end whatever it guesses."""
    return PiecesFile(path, scan.pieces, (scan.frames + 2) * _LARGEST_FRAME_BYTES + _TAG_BYTES)
