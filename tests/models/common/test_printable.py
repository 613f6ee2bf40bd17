"""Foreign text is shown, never obeyed; what is cut keeps its begin and its end; formulas go and come back."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.common.errors import BundleError, MissingDependencyError
from models.common.parsing import parse_json
from models.common.printable import ENCODING_ERRORS, csv_cell, from_csv_cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bicycle bell", "Bicycle bell"),
        ("Fahrradklingel für Übung: 自転車のベル 👩‍🚲", "Fahrradklingel für Übung: 自転車のベル 👩‍🚲"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"),
        ("gnp.\u202efdp", "gnp.\\u202efdp"),
        ("a\u2028b\u200bc", "a\\u2028b\\u200bc"),
        ("\ud83d", "\\ud83d"),
        ("caf\udce9.wav", "caf\\xe9.wav"),
        ("\U000e0041", "\\U000e0041"),
        ("[bold]x[/b] [1]", "[bold]x[/b] [1]"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(), max_size=400))
def test_nothing_that_controls_is_left(text: str) -> None:
    shown = printable(text, 120)
    assert len(shown) <= 120
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    shown.encode()


def test_lines_may_stay() -> None:
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"


def test_a_message_that_is_too_long_keeps_what_was_expected_and_what_to_do() -> None:
    path = "/home/" + "x" * 400
    error = BundleError(f"{path}: expected 'audio' or 'scores', got {'y' * 9000}; export the bundle again")
    assert len(str(error)) <= 290
    assert "expected 'audio' or 'scores', got" in str(error)
    assert str(error).endswith("; export the bundle again")
    error = BundleError(f"expected a figure, got '{'many words ' * 2000}'; export the bundle again")
    assert len(str(error)) <= 290
    assert str(error).startswith("expected a figure, got")
    assert str(error).endswith("; export the bundle again")


def test_errors_are_one_printable_line() -> None:
    assert str(BundleError("a\n  b \x1b[2J")) == "a b \\x1b[2J"
    assert "pip install 'hearpack[keras]'" in str(MissingDependencyError("tensorflow", "keras", "this"))


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-1"])
def test_formulas_are_text_to_a_spreadsheet_and_come_back(text: str) -> None:
    assert csv_cell(text).startswith("'")
    assert from_csv_cell(csv_cell(text)) == text


@given(st.text(max_size=20))
def test_every_cell_comes_back(text: str) -> None:
    assert from_csv_cell(csv_cell(text)) == text
    assert csv_cell(text)[:1] not in ("=", "+", "-", "@", "\t", "\r") or not text


def test_ordinary_cells_are_left_alone() -> None:
    assert [csv_cell(t) for t in ("Bell", "'tis", "a=b", "")] == ["Bell", "'tis", "a=b", ""]


def test_a_stream_that_cannot_show_everything() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors=ENCODING_ERRORS)
    stream.write("██ für … \ud83d")
    stream.flush()
    assert raw.getvalue() == b"## f\\xfcr ... \\ud83d"


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"a": ["\uDfff"]}', r'{"\ud83d": 1}'])
def test_json_with_half_a_surrogate_pair_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        parse_json(text)
    assert parse_json(r'"\ud83d\ude00"') == "😀"


def test_json_with_a_file_name_that_is_not_utf_8_shows_its_bytes() -> None:
    assert parse_json(r'{"a": ["x\udce9.wav", "\ud800\udc80"]}') == {"a": ["x\\xe9.wav", "\U00010080"]}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (IsADirectoryError(21, "Is a directory", "/x"), "Is a directory"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "Invalid cross-device link"),
        (FileNotFoundError(2, "No such file or directory", b"/x"), "No such file or directory"),
    ],
)
def test_a_message_has_the_words_of_the_system_and_not_its_numbers(error: OSError, words: str) -> None:
    assert str(BundleError(f"/x: cannot be read: {error}; do that")) == f"/x: cannot be read: {words}; do that"
    assert str(BundleError(f"/x: ({error})")) == f"/x: ({words})"
