"""A document that is not what a reader expects is one clear line, whatever is wrong with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

from models.common.documents import DocumentKind
from models.common.errors import BundleError, UsageError

NOTE = DocumentKind(
    "hearpack-note/1",
    "note",
    not_json="no JSON (line {line}: {message})",
    invalid="invalid against {expected}: {where}: {message}{more}",
    missing="no such note",
    newer="{schema} is newer than {expected}",
)


class Note(BaseModel):
    schema_id: Literal["hearpack-note/1"] = "hearpack-note/1"
    text: str
    pages: list[int]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "cannot be read: 'utf-8'"),
        (b'{\n"schema": ', "no JSON \\(line 2: Expecting value\\)"),
        (b'{"schema": NaN}', "no JSON .*not finite"),
        (b"[" * 100_000, "no JSON .*nested too deeply"),
        (b"[1]", "expected a note with schema 'hearpack-note/1', got list"),
        (b"{}", "expected a note with schema 'hearpack-note/1', got None"),
        (b'{"schema": "hearpack-run/1"}', "got 'hearpack-run/1'"),
        (b'{"schema": "hearpack-note/2"}', "'hearpack-note/2' is newer than hearpack-note/1"),
        (b'{"schema": "hearpack-note/1.1"}', "'hearpack-note/1.1' is newer"),
        (b'{"schema": "hearpack-note/1"}', "invalid against hearpack-note/1: text: Field required \\(and 1 more\\)"),
        (b'{"schema": "hearpack-note/1", "text": "", "pages": [1, "x"]}', "pages.1: Input should be a valid integer"),
    ],
)
def test_a_file_that_is_no_such_document(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "note.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=rf"{file}: .*{message}") as caught:
        NOTE.read(file, Note.model_validate)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such note"):
        NOTE.read(tmp_path / "none.json", Note.model_validate)
    with pytest.raises(UsageError, match=r"cannot be read: .*Is a directory"):
        NOTE.read(tmp_path, Note.model_validate)


def test_a_minor_version_is_read_where_the_kind_says_so_and_errors_are_of_its_class() -> None:
    kind = dataclasses.replace(NOTE, minor_versions=True, error=BundleError)
    text = '{"schema": "hearpack-note/1.7", "text": "a", "pages": [1], "unknown": 2}'
    assert kind.parse(text, "x", Note.model_validate).pages == [1]
    with pytest.raises(BundleError, match="x: 'hearpack-note/10' is newer"):
        kind.parse('{"schema": "hearpack-note/10"}', "x", Note.model_validate)
