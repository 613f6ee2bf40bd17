"""JSON documents with a schema name ("hearpack-run/1"): one reader; each kind of document brings its own words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from models.common.errors import HearpackError, UsageError
from models.common.files import read_text
from models.common.parsing import parse_json

T = TypeVar("T")

# Figures of documents have bounds, far past what is meant, so that a wrong one is refused where it is read.
Count = Annotated[int, Field(ge=0, le=2**53)]
Samples = Annotated[int, Field(ge=1, le=2**31)]
RateHz = Annotated[int, Field(ge=1_000, le=1_000_000)]
Milliseconds = Annotated[float, Field(ge=0.0, le=1e9)]
Share = Annotated[float, Field(ge=0.0, le=1e9)]
Text = Annotated[str, Field(max_length=10_000)]


@dataclass(frozen=True)
class DocumentKind:
    """One kind of document, and the messages for a file that is not one.

    The messages are format templates. All of them may use {name}, {expected} (the schema) and {error}.

    Attributes:
        schema: name and major version; "" for a document that has none.
        name: of the kind, in words.
        not_json: also {line} and {message}, of the parser.
        invalid: also {where}, {message} and {more}, of the first invalid field.
        unreadable: the file cannot be opened or is not UTF-8.
        missing: there is no such file; `unreadable` if empty.
        other_schema: also {schema}, what the file says instead.
        newer: the same document with another major version; `other_schema` if empty.
        key: the field that holds the schema.
        minor_versions: whether "name/1.2" is read as "name/1" is.
        error: what is raised.
    """

    schema: str
    name: str
    not_json: str
    invalid: str
    unreadable: str = "cannot be read: {error}"
    missing: str = ""
    other_schema: str = "expected a {name} with schema {expected!r}, got {schema}"
    newer: str = ""
    key: str = "schema"
    minor_versions: bool = False
    error: type[HearpackError] = UsageError

    def read(self, file: Path, validate: Callable[[Any], T]) -> T:
        """Read a file and check it; raises as `parse`, and `self.error` if the file is missing or no UTF-8 text."""
        return self.parse(self.text(file), str(file), validate)

    def text(self, file: Path) -> str:
        """The text of a file; raises `self.error` if it is missing or no UTF-8 text."""
        try:
            return read_text(file)
        except (OSError, ValueError) as exc:
            missing = isinstance(exc, FileNotFoundError)
            raise self._error(str(file), (missing and self.missing) or self.unreadable, exc) from exc

    def parse(self, text: str, origin: str, validate: Callable[[Any], T]) -> T:
        """A document from its text.

        Args:
            text: the JSON.
            origin: where it came from, for messages.
            validate: makes the result from JSON's types; raises pydantic's ValidationError.

        Raises:
            HearpackError: `self.error`: not JSON, of another schema, or not valid.
        """
        try:
            data = parse_json(text)
        except json.JSONDecodeError as exc:
            raise self._error(origin, self.not_json, exc, line=exc.lineno, message=exc.msg) from exc
        if not isinstance(data, dict):
            raise self._error(origin, self.other_schema, schema=type(data).__name__)
        return self.check(data, origin, validate)

    def check(self, data: dict[str, Any], origin: str, validate: Callable[[Any], T]) -> T:
        """A document from JSON's types; raises as `parse`."""
        schema = data.get(self.key) if self.schema else ""
        found = schema.split(".")[0] if isinstance(schema, str) and self.minor_versions else schema
        if found != self.schema:
            family = self.schema.split("/")[0] + "/"
            newer = isinstance(schema, str) and schema.startswith(family)
            raise self._error(origin, (newer and self.newer) or self.other_schema, schema=repr(schema))
        try:
            return validate(data)
        except ValidationError as exc:
            first, more = exc.errors()[0], exc.error_count() - 1
            where = ".".join(str(part) for part in first["loc"]) or self.name
            counted = f" (and {more} more)" if more else ""
            raise self._error(origin, self.invalid, exc, where=where, message=first["msg"], more=counted) from exc

    def _error(self, origin: str, template: str, error: Exception | None = None, **words: object) -> HearpackError:
        return self.error(f"{origin}: " + template.format(name=self.name, expected=self.schema, error=error, **words))
