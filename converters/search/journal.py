"""What a search has measured, a line each, beside its output: after a kill it goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.common.errors import HearpackError
from models.common.files import cannot_write
from models.common.hashing import sha256_bytes
from models.common.parsing import parse_json


class Journal:
    """Results by key. A key names everything that a result depends on, so one of another search is never taken.

    Args:
        path: the .jsonl; made if missing. A last line that was cut by a kill is dropped.
        context: what every key depends on: weights, clips, versions.

    Attributes:
        found: results that were there already and were asked for.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, context: Mapping[str, Any]) -> None:
        self.path, self._context = path, json.dumps(context, sort_keys=True)
        self._results: dict[str, Any] = {}
        self.found = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = 0
            if path.exists():
                for line in path.read_bytes().splitlines(keepends=True):
                    if not self._take(line):
                        break
                    whole += len(line)
                os.truncate(path, whole)
            self._file = path.open("ab")
        except OSError as exc:
            raise cannot_write(exc, path, "choose another --output") from exc

    def _take(self, line: bytes) -> bool:
        try:
            row = parse_json(line.decode("utf-8"))
            self._results[row["key"]] = row["result"]
        except (HearpackError, ValueError, KeyError, TypeError):
            return False
        return line.endswith(b"\n")

    def get(self, what: Mapping[str, Any]) -> Any | None:
        """The result of something that was measured before, or None."""
        result = self._results.get(self._key(what))
        self.found += result is not None
        return result

    def put(self, what: Mapping[str, Any], result: Any) -> None:
        """Keep a result: on the disk before this returns.

        Raises:
            OutputError: it cannot be written.
        """
        key = self._key(what)
        self._results[key] = result
        line = json.dumps({"key": key, "what": what, "result": result}, sort_keys=True) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as exc:
            raise cannot_write(exc, self.path, "choose another --output") from exc

    def close(self) -> None:
        """Close the file; harmless if called twice."""
        self._file.close()

    def _key(self, what: Mapping[str, Any]) -> str:
        return sha256_bytes(f"{self._context}\n{json.dumps(what, sort_keys=True)}".encode())[:32]
