"""Text from somebody else's file, made harmless for a terminal, a message or a spreadsheet.

What a label, a name or a path holds is data: an escape sequence of it is shown, not obeyed. Everything that hearpack
prints goes through `printable`, once, where it leaves: hearpack/commands/shared.py and the error tree.
"""

from __future__ import annotations

import codecs
import re

# Controls, what turns or hides text (bidi, zero width, line separators, tags), and halves of a surrogate pair.
_HIDDEN = "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff"
_HARMFUL = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff{_HIDDEN}]")
_HARMFUL_BUT_LINES = re.compile(f"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff{_HIDDEN}]")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_LONG_WORD = 64  # characters; beyond, a word of a message that is too long is a value, not a sentence
_ASCII = {"█": "#", "…": "...", "·": "-", "─": "-", "│": "|"}
ENCODING_ERRORS = "hearpack-ascii"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8, as Python keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable(text: str, most: int | None = None, *, lines: bool = False) -> str:
    r"""Text without anything that a terminal obeys or hides: such characters are shown as \xNN or \uNNNN.

    Args:
        text: any text.
        most: characters that may remain; what is too long loses the middle of its long words, then its own middle, so
            that the begin (what was expected) and the end (what to do) stay.
        lines: keep line feeds.
    """
    shown = (_HARMFUL_BUT_LINES if lines else _HARMFUL).sub(_escape, text)
    return shown if most is None or len(shown) <= most else _shortened(shown, most)


def _shortened(text: str, most: int) -> str:
    for word in sorted(set(re.findall(rf"\S{{{_LONG_WORD + 1},}}", text)), key=lambda w: (-len(w), w)):
        text = text.replace(word, _middle_out(word, _LONG_WORD))
        if len(text) <= most:
            return text
    return _middle_out(text, most)


def _middle_out(text: str, most: int) -> str:
    tail = most // 2
    return text if len(text) <= most else f"{text[: most - tail - 1]}…{text[-tail:]}"


def csv_cell(text: str) -> str:
    """A CSV cell that no spreadsheet takes for a formula: an apostrophe before what begins like one."""
    return f"'{text}" if _FORMULA.match(text) else text


def from_csv_cell(cell: str) -> str:
    """What `csv_cell` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = (
        _ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in error.object[error.start : error.end]
    )
    return "".join(shown), error.end


# For streams that cannot show everything: bars as #, the rest as \xNN, and never an error.
codecs.register_error(ENCODING_ERRORS, _in_ascii)


def counted(count: int, noun: str) -> str:
    """ "1 event", "2 events", "12,000 events"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
