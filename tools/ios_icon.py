"""Draws the iOS sample's app icon: the bars of the Android sample's, 1024 pixels a side, no transparency.

python tools/ios_icon.py ios-sample/App/Assets.xcassets/AppIcon.appiconset/icon.png
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

SIDE = 1024
BACKGROUND, FOREGROUND = (16, 58, 82), (236, 244, 247)
# Of android-sample's ic_launcher_foreground.xml: left, top, width, height on a field of 108; the middle 72 are seen.
BARS = ((34, 49, 5, 10), (43, 42, 5, 24), (52, 34, 5, 40), (61, 44, 5, 20), (70, 50, 5, 8))


def png(side: int) -> bytes:
    """An RGB image."""
    scale = side / 72
    boxes = [
        (round((x - 18) * scale), round((y - 18) * scale), round((x + w - 18) * scale), round((y + h - 18) * scale))
        for x, y, w, h in BARS
    ]
    rows = bytearray()
    for y in range(side):
        row = bytearray(bytes(BACKGROUND) * side)
        for left, top, right, bottom in boxes:
            if top <= y < bottom:
                row[3 * left : 3 * right] = bytes(FOREGROUND) * (right - left)
        rows += b"\0" + row

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(png(SIDE))
